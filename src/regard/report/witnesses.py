# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportAttributeAccessIssue=false
# (pyarrow has no type stubs)
"""The rollouts that show what a review found, each beside what the policy said at the start: to the same prompt where
the record has one, else to the one that has most words in common with it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
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

    @cached_property
    def words(self) -> frozenset[str]:
        return frozenset(self.prompt.lower().split())


@dataclass(frozen=True)
class Pair:
    """A rollout and, where there is one, an early one; `same_prompt` says whether they answer the same prompt."""

    early: Rollout | None
    late: Rollout
    same_prompt: bool


@dataclass(frozen=True)
class Claim:
    """A cause or a finding that names rollouts; `near` is a step at which to look for them, `href` its place."""

    ids: tuple[str, ...]
    near: int
    name: str
    why: str
    href: str


@dataclass(frozen=True)
class Group:
    """Rollouts that show one thing, and the causes and findings that say so."""

    title: str
    why: str
    claims: tuple[Claim, ...]
    pairs: tuple[Pair, ...]


def witnesses(run: RunLog, result: Mapping[str, Any]) -> list[Group]:
    """Groups of pairs: the rollouts that causes and findings name, then the highest scores of the end."""
    groups: list[Group] = []
    for name, stage in run.stages.items():
        if not stage.rollout_steps:
            continue
        first = _first_rollouts(stage)
        by_ids: dict[tuple[str, ...], list[Claim]] = {}
        for claim in _claims(result, name):  # a cause and its symptom often name the same rollouts
            by_ids.setdefault(claim.ids, []).append(claim)
        for ids, claims in by_ids.items():
            pairs = _pairs(_named(stage, ids, claims[-1].near), first)
            if pairs:
                title = f"{', '.join(claim.name for claim in claims)} in {name}"
                groups.append(Group(title, claims[-1].why, tuple(claims), pairs))
        highest = _highest(stage)
        if highest:
            title = f"Highest scores of step {highest[0].step} in {name}"
            why = "What the reward model likes most now, by score alone."
            groups.append(Group(title, why, (), _pairs(highest, first)))
    return groups


def _claims(result: Mapping[str, Any], stage: str) -> list[Claim]:
    claims: list[Claim] = []
    for cause in result["causes"]:
        if concerns(cause, result, stage):
            step = (cause.get("symptom_onset") or cause.get("root_onset") or {}).get("step") or 0
            name, why = f"{cause['id']} {cause['name']}", f"{cause.get('title') or ''}."
            claims.append(Claim(_first_ids(cause.get("rows") or []), step, name, why, f"#{cause_id(cause)}"))
    for finding in result["findings"]:
        if finding.get("stage") == stage:
            rows = [row for evidence in finding["evidence"] for row in evidence.get("rows") or []]
            name, why = f"{finding['code']} {finding['name']}", str(finding["summary"])
            claims.append(Claim(_first_ids(rows), finding["span"][1], name, why, f"#{finding_id(finding)}"))
    return [claim for claim in claims if claim.ids]


def _first_ids(rows: Sequence[object]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(str, rows)))[:PAIRS]


def _pairs(late: Sequence[Rollout], first: Sequence[Rollout]) -> tuple[Pair, ...]:
    pairs: list[Pair] = []
    for rollout in late[:PAIRS]:
        earlier = [one for one in first if one.step < rollout.step]
        early = max(earlier, key=lambda one: (_likeness(one, rollout), -one.step), default=None)
        pairs.append(Pair(early, rollout, early is not None and _likeness(early, rollout) > 1))
    return tuple(pairs)


def _likeness(one: Rollout, other: Rollout) -> float:
    """2 for the same prompt; else the share of their prompts' words that both have, at most 1."""
    if one.key and one.key == other.key:
        return 2.0
    either = one.words | other.words
    return len(one.words & other.words) / len(either) if either else 0.0


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
    """The rollouts of these ids that there are, in this order; looked for from the step `near` outwards."""
    found: dict[str, Rollout] = {}
    for step in sorted(stage.rollout_steps, key=lambda step: abs(step - near))[:MAX_FILES]:
        missing = set(ids) - found.keys()
        if not missing:
            break
        table = _table(stage, step)
        if "rollout_id" in table.column_names:
            column = table["rollout_id"].cast(pa.string())
            rows = table.filter(pc.is_in(column, pa.array(sorted(missing), pa.string())))
            found |= {one.id: one for one in _rows(step, rows)}
    return [found[name] for name in ids if name in found]


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
