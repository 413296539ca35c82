# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportAttributeAccessIssue=false
# (pyarrow has no type stubs)
"""The rollouts that show what a review found, each beside what the policy said to the same prompt at the start."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from regard.report.strips import cause_id, concerns, finding_id
from regard.runlog.reader import RunLog, StageLog
from regard.runlog.series import as_number

PAIRS = 4
"""Of a group."""

FIRST_FILES = 10
"""Files of the first steps in which the prompt of a later rollout is looked for."""

MAX_EARLY = 2000
"""Rollouts of an early step that are looked at."""

MAX_FILES = 300
"""Files in which the rollouts that a finding names are looked for, the nearest to its step first."""

MAX_CHARACTERS = 1200
"""Shown of a text; a page with whole novels is of no use to anyone."""

MEASURES = (
    ("score", "score"),
    ("gold", "gold"),
    ("raters", "raters"),
    ("vader", "VADER"),
    ("kl_sum", "KL, nats"),
    ("length", "tokens"),
)
COLUMNS = ("rollout_id", "prompt_id", "prompt", "response", "truncated", *(name for name, _ in MEASURES))


@dataclass(frozen=True)
class Rollout:
    """One response as it is shown; `rest` counts the characters that are not."""

    step: int
    id: str
    prompt_id: str
    prompt: str
    text: str
    rest: int
    measures: tuple[tuple[str, float], ...]
    truncated: bool

    @property
    def key(self) -> str:
        return self.prompt_id or self.prompt


@dataclass(frozen=True)
class Pair:
    """A rollout and, where there is one, an early one; `same_prompt` says whether they answer the same prompt."""

    early: Rollout | None
    late: Rollout
    same_prompt: bool


@dataclass(frozen=True)
class Group:
    title: str
    why: str
    href: str
    pairs: tuple[Pair, ...]


def witnesses(run: RunLog, result: Mapping[str, Any]) -> list[Group]:
    """Groups of pairs: for each cause and finding that names rollouts those, then the highest scores of the end."""
    groups: list[Group] = []
    for name, stage in run.stages.items():
        if not stage.rollout_steps:
            continue
        first = _first_rollouts(stage)
        for cause in result["causes"]:
            if concerns(cause, result, name):
                found = _named(stage, cause.get("rows") or [], (cause.get("root_onset") or {}).get("step") or 0)
                if found:
                    title, why = f"{cause['id']} {cause['name']}, {name}", str(cause.get("title") or "")
                    groups.append(Group(title, why, f"#{cause_id(cause)}", _pairs(found, first)))
        for finding in result["findings"]:
            if finding.get("stage") == name:
                rows = [row for evidence in finding["evidence"] for row in evidence.get("rows") or []]
                found = _named(stage, rows, finding["onset"]["step"])
                if found:
                    title = f"{finding['code']} {finding['name']}, {name}"
                    groups.append(
                        Group(title, str(finding["summary"]), f"#{finding_id(finding)}", _pairs(found, first))
                    )
        highest = _highest(stage)
        if highest:
            steps = f"step {highest[0].step}" + (f" beside those of step {first[0].step}" if first else "")
            why = "What the reward model likes most now, chosen by score alone."
            groups.append(Group(f"Highest scores of {steps}, {name}", why, "", _pairs(highest, first)))
    return groups


def _pairs(late: Sequence[Rollout], first: Sequence[Rollout]) -> tuple[Pair, ...]:
    pairs: list[Pair] = []
    for rollout in late[:PAIRS]:
        earlier = [one for one in first if one.step < rollout.step]
        same = [one for one in earlier if one.key and one.key == rollout.key]
        early = same[0] if same else earlier[len(pairs) % len(earlier)] if earlier else None
        pairs.append(Pair(early, rollout, bool(same)))
    return tuple(pairs)


def _first_rollouts(stage: StageLog) -> list[Rollout]:
    """Those of the first steps, the highest score first. With prompts that come only once the first step alone would
    seldom have the same one."""
    steps = stage.rollout_steps
    early = steps[: min(FIRST_FILES, max(1, len(steps) // 2))]
    rows = [rollout for step in early for rollout in _rows(step, _by_score(_table(stage, step)).slice(0, MAX_EARLY))]
    return sorted(rows, key=lambda one: -_score(one))


def _highest(stage: StageLog) -> list[Rollout]:
    """The highest scores of the last step whose file can be read, one response of each prompt."""
    for step in reversed(stage.rollout_steps):
        best: dict[str, Rollout] = {}
        for rollout in _rows(step, _by_score(_table(stage, step)).slice(0, 16 * PAIRS)):
            if math.isfinite(_score(rollout)):
                best.setdefault(rollout.key or rollout.id, rollout)
        if best:
            return list(best.values())[:PAIRS]
    return []


def _score(rollout: Rollout) -> float:
    score = dict(rollout.measures).get("score", -math.inf)
    return score if math.isfinite(score) else -math.inf


def _named(stage: StageLog, ids: Sequence[str], near: int) -> list[Rollout]:
    """The rollouts of these ids, as many as are shown, in this order; looked for from the step `near` outwards."""
    wanted = list(dict.fromkeys(map(str, ids)))[:PAIRS]
    found: dict[str, Rollout] = {}
    for step in sorted(stage.rollout_steps, key=lambda step: abs(step - near))[:MAX_FILES]:
        missing = set(wanted) - found.keys()
        if not missing:
            break
        table = _table(stage, step)
        if "rollout_id" in table.column_names:
            ids = table["rollout_id"].cast(pa.string())
            rows = table.filter(pc.is_in(ids, pa.array(sorted(missing), pa.string())))
            found |= {one.id: one for one in _rows(step, rows)}
    return [found[name] for name in wanted if name in found]


def _table(stage: StageLog, step: int) -> Any:
    """Rollouts of one file; without rows where it cannot be read, which the review itself has noted."""
    try:
        file = pq.ParquetFile(stage.rollout_files[step])
        return file.read(columns=[name for name in COLUMNS if name in file.schema_arrow.names])
    except (OSError, KeyError, pa.ArrowException):
        return pa.table({})


def _by_score(table: Any) -> Any:
    """Highest score first; what is missing or NaN last."""
    if "score" not in table.column_names:
        return table
    return table.take(pc.sort_indices(table, sort_keys=[("score", "descending")]))


def _rows(step: int, table: Any) -> list[Rollout]:
    return [_rollout(step, row) for row in table.to_pylist()]


def _rollout(step: int, row: Mapping[str, Any]) -> Rollout:
    prompt, text = str(row.get("prompt") or ""), str(row.get("response") or "")
    numbers = [(label, as_number(row.get(name))) for name, label in MEASURES]
    return Rollout(
        step,
        str(row.get("rollout_id") or ""),
        str(row.get("prompt_id") or ""),
        prompt[-MAX_CHARACTERS:],
        text[:MAX_CHARACTERS],
        max(0, len(text) - MAX_CHARACTERS),
        tuple((label, value) for label, value in numbers if value is not None),
        bool(row.get("truncated")),
    )
