"""Take from a record the datum that decided for a cause, and review what is left.

Which datum that is, is found out and not written down: the signs that set the cause apart are asked again on a record
that notes what they read, then with each of those data missing; the first whose absence leaves a sign without an
answer is the one. Where no single datum does, all that it read goes, and what it then turns to. No file of the record
is changed.

A datum is ("metric", stage, key), ("rollouts", column), ("config", name), ("rollouts", "*"), ("config", "*"),
("lineage", "*"), ("events", "*") or ("summary", "*").
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from regard.review import catalogue, review
from regard.review.answers import give
from regard.review.causes import Cause
from regard.review.facts import Facts
from regard.review.outcome import CannotTell, Fired
from regard.review.signs import all_signs
from regard.runlog.importers.vocabulary import setting
from regard.runlog.reader import RunLog, StageLog
from regard.runlog.sample import RolloutSample

Datum = tuple[str, ...]
WHOLE: tuple[Datum, ...] = tuple((what, "*") for what in ("config", "lineage", "events", "rollouts", "summary"))

ROUNDS = 4


class Noting(dict[str, Any]):
    """A dictionary that notes which of its keys are asked for; to go through it is to ask for all."""

    def __init__(self, content: Mapping[str, Any], note: Callable[[str], None]) -> None:
        super().__init__(content)
        self.note = note

    def __getitem__(self, key: str) -> Any:
        self.note(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.note(key)
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        self.note(str(key))
        return super().__contains__(key)

    def __iter__(self) -> Iterator[str]:
        for key in super().__iter__():
            self.note(key)
            yield key

    def items(self) -> Any:
        return [(key, super(Noting, self).__getitem__(key)) for key in self]

    def values(self) -> Any:
        return [value for _, value in self.items()]

    def keys(self) -> Any:
        return list(self)


class Asked(Facts):
    """Facts with a note of every setting that is asked for."""

    def __init__(self, run: RunLog, note: Callable[[Datum], None]) -> None:
        super().__init__(run)
        self.note = note

    def setting(self, *names: str) -> Any:
        for name in names:
            self.note(("config", name))
        return super().setting(*names)


def decisive(cause: Cause, run: RunLog) -> tuple[list[str], list[Datum]]:
    """The signs and symptoms that set `cause` apart and hold, and the data to take away so that none of them does.

    No data where a sign still holds without anything that could be taken away.
    """
    sample = Facts(run).rollouts
    held = [name for name in cause.decided_by if _holds(name, run, sample)]
    taken: list[Datum] = []
    for name in held:
        if _holds(name, *_without(run, sample, taken)) is not True:
            continue  # what was taken for another sign silences this one too
        found = _silences(name, run, sample)
        if found is None:
            return held, []
        taken += [datum for datum in found if datum not in taken]
    return held, taken


def _silences(name: str, run: RunLog, sample: RolloutSample | None) -> list[Datum] | None:
    """The fewest data that have to go; a sign may turn to another datum where the first is missing, so it is asked for
    what it reads again each time. None where nothing helps."""

    def holds(data: list[Datum]) -> bool | None:
        return _holds(name, *_without(run, sample, data))

    taken: list[Datum] = []
    for _ in range(ROUNDS):
        rest, rows = _without(run, sample, taken)
        read = [datum for datum in _reads(name, rest, rows) if datum not in taken and _present(datum, rest, rows)]
        enough = next((datum for datum in read if holds([*taken, datum]) is None), None)
        taken += [enough] if enough else read
        if enough or not read or holds(taken) is not True:
            break
    if holds(taken) is True:
        taken += WHOLE
    if holds(taken) is True:
        return None
    for datum in list(taken):
        fewer = [one for one in taken if one != datum]
        if fewer and holds(fewer) is not True:
            taken = fewer
    return taken


def _reads(name: str, run: RunLog, sample: RolloutSample | None) -> list[Datum]:
    """What is read to answer `name`, in that order."""
    noted: dict[Datum, None] = {}

    def note(datum: Datum) -> None:
        noted.setdefault(datum)

    stages = {
        one: replace(stage, metrics=Noting(stage.metrics, lambda key, one=one: note(("metric", one, key))))
        for one, stage in run.stages.items()
    }
    if sample is not None:
        sample = replace(
            sample,
            **{
                part: Noting(getattr(sample, part), lambda key: note(("rollouts", key)))
                for part in ("numbers", "texts", "per_token")
            },
        )
    _ask(name, replace(run, stages=stages), sample, note)
    return list(noted)


def _holds(name: str, run: RunLog, sample: RolloutSample | None) -> bool | None:
    return _ask(name, run, sample, lambda datum: None)


def _ask(name: str, run: RunLog, sample: RolloutSample | None, note: Callable[[Datum], None]) -> bool | None:
    """A sign's answer, or whether a detector fired in any stage; `sample` stands for the rollouts on disk."""
    facts = Asked(run, note)
    if facts.policy is not None and sample is not None:
        give(facts.policy, sample)
    if name in all_signs():
        return all_signs()[name].ask(facts).holds
    one = catalogue()[name]
    outcomes = [one.check(facts.run, stage) for stage in facts.run.stages.values() if stage.name in one.stages]
    if any(isinstance(outcome, Fired) for outcome in outcomes):
        return True
    return None if all(isinstance(outcome, CannotTell) for outcome in outcomes) else False


def _present(datum: Datum, run: RunLog, sample: RolloutSample | None) -> bool:
    match datum:
        case ("metric", stage, key):
            return key in run.stages[stage].metrics
        case ("config", name):
            return setting(run.config, name) is not None
        case _:
            column = datum[1]
            return sample is not None and any(
                column in part for part in (sample.numbers, sample.texts, sample.per_token)
            )


def _without(run: RunLog, sample: RolloutSample | None, data: Iterable[Datum]) -> tuple[RunLog, RolloutSample | None]:
    """The run and its rollouts without these data; files of rollouts stay as they are."""
    data = list(data)
    if ("rollouts", "*") in data:
        sample = None
        stages = {name: replace(stage, path=stage.path / "withheld") for name, stage in run.stages.items()}
        run = replace(run, stages=stages)
    columns = {datum[1] for datum in data if datum[0] == "rollouts"}
    if sample is not None and columns:
        sample = replace(
            sample,
            numbers={k: np.full(len(sample), np.nan) if k in columns else v for k, v in sample.numbers.items()},
            texts={k: [""] * len(sample) if k in columns else v for k, v in sample.texts.items()},
            per_token={k: v for k, v in sample.per_token.items() if k not in columns},
        )
    return _strip(run, data), sample


def _strip(run: RunLog, data: Sequence[Datum]) -> RunLog:
    gone = {datum[1:] for datum in data if datum[0] == "metric"}
    stages = {
        name: replace(
            stage,
            metrics={key: series for key, series in stage.metrics.items() if (name, key) not in gone},
            events=[] if ("events", "*") in data else stage.events,
        )
        for name, stage in run.stages.items()
    }
    config = {} if ("config", "*") in data else run.config
    for datum in data:
        if datum[0] == "config" and datum[1] != "*":
            config = _without_setting(config, datum[1])
    return replace(
        run,
        stages=stages,
        config=config,
        lineage={} if ("lineage", "*") in data else run.lineage,
        summary={} if ("summary", "*") in data else run.summary,
    )


def _without_setting(config: Mapping[str, Any], name: str, path: str = "") -> dict[str, Any]:
    """Without the setting of that dotted name, and without any of that last part, as `Facts.setting` finds them."""
    out: dict[str, Any] = {}
    for key, value in config.items():
        here = f"{path}.{key}".lstrip(".")
        if isinstance(value, Mapping):
            out[key] = _without_setting(value, name, here)
        elif here != name and key != name:
            out[key] = value
    return out


def review_without(run: RunLog, data: Sequence[Datum]) -> Any:
    """The review of `run` without these data; rollouts are rewritten without their columns in a temporary directory."""
    columns = {datum[1] for datum in data if datum[0] == "rollouts"}
    stripped = _strip(run, data)
    if not columns:
        return review(stripped)
    with tempfile.TemporaryDirectory(prefix="regard-withhold-") as scratch:
        stages: dict[str, StageLog] = {}
        for name, stage in stripped.stages.items():
            target = Path(scratch) / name
            (target / "rollouts").mkdir(parents=True)
            for file in stage.rollout_files.values() if "*" not in columns else ():
                table = pq.read_table(file)
                table = table.drop_columns([column for column in table.column_names if column in columns])
                pq.write_table(table, target / "rollouts" / file.name)
            stages[name] = replace(stage, path=target)
        return review(replace(stripped, stages=stages))


def withhold(cause: Cause, run: RunLog) -> dict[str, Any]:
    """What a review says of a run with this fault once the datum that decided for it is gone.

    Returns:
        status: "withheld"; "no decider" where nothing that sets the cause apart was seen in the first place; "cannot"
            where a sign holds whatever is taken away. For the first also what was `removed`, the `verdict`, the ids
            that are still `diagnosed`, the `first` cause, and what was `seen`.
    """
    held, data = decisive(cause, run)
    if not held:
        return {"status": "no decider"}
    if not data:
        return {"status": "cannot", "deciders": held}
    result = review_without(run, data)
    return {
        "status": "withheld",
        "deciders": held,
        "removed": [": ".join(datum) for datum in data],
        "verdict": result.verdict,
        "diagnosed": [one.cause.id for one in result.causes if one.status == "diagnosed"],
        "first": result.causes[0].cause.id if result.causes else None,
        "seen": dict(result.posterior.seen),
    }
