# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# (pyarrow has no type stubs)
"""Reading a run record, also of a run that is going on, was killed, or was resumed.

Only a missing or unreadable `run.json` is an error. What else cannot be read is left out, and `notes` says so.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from regard.errors import RunLogError
from regard.runlog.jsonl import parse_object, read_jsonl
from regard.runlog.metrics import METRICS
from regard.runlog.rollouts import SCHEMA, rollouts_step
from regard.runlog.series import NAN, Points, Series, as_number

STAGE_ORDER = ("pretrain", "sft", "rm", "ppo", "eval")


@dataclass(frozen=True)
class StageLog:
    """What one stage left behind.

    Attributes:
        name: of the stage.
        path: `RUN/stages/<name>`.
        metrics: key to series.
        events: the readable lines of events.jsonl, in file order.
        notes: what was left out, repeated or not understood; one sentence each.
    """

    name: str
    path: Path
    metrics: dict[str, Series]
    events: list[dict[str, Any]]
    notes: list[str]

    @property
    def rollout_files(self) -> dict[int, Path]:
        """Step to its file of rollouts."""
        return _rollout_files(self.path)

    @property
    def rollout_steps(self) -> list[int]:
        """Steps that have a file of rollouts, increasing."""
        return sorted(self.rollout_files)

    def rollouts(self, step: int | None = None) -> Any:  # a pyarrow.Table
        """Rollouts of one step, or of all steps in order; an empty table where there are none.

        A file that cannot be read is left out with a note.
        """
        files = _rollout_files(self.path)
        tables = [SCHEMA.empty_table()]
        for number in sorted(files) if step is None else [step] if step in files else []:
            try:
                tables.append(pq.read_table(files[number]))
            except (OSError, pa.ArrowException) as error:
                note = f"rollouts/{files[number].name} is unreadable and was left out ({str(error).splitlines()[0]})."
                if note not in self.notes:
                    self.notes.append(note)
        return pa.concat_tables(tables, promote_options="permissive")


@dataclass(frozen=True)
class RunLog:
    """A whole run record.

    Attributes:
        path: the run directory.
        run: run.json: id, created, versions, seed, machine, status of each stage.
        config: config.yaml; empty where missing.
        lineage: lineage.json, hashes of inputs and weights; empty where missing.
        summary: summary.json, the outcome; empty where the run has not finished.
        stages: stage name to log, in the order in which stages run.
        notes: what was left out, about the run as a whole.
    """

    path: Path
    run: dict[str, Any]
    config: dict[str, Any]
    lineage: dict[str, Any]
    summary: dict[str, Any]
    stages: dict[str, StageLog]
    notes: list[str] = field(default_factory=list[str])


def read_run(path: Path | str) -> RunLog:
    """Read a run directory.

    Raises:
        RunLogError: there is no such directory, or its run.json is missing or damaged.
    """
    root = Path(path)
    if not root.is_dir():
        raise RunLogError(f"{root} is not a directory. Give the directory of a run, as passed to --out.")
    if not (root / "run.json").is_file():
        raise RunLogError(f"{root} holds no run.json, so it is not a run record. Give the directory passed to --out.")
    notes: list[str] = []
    run = _read_json(root / "run.json", notes)
    if notes:
        raise RunLogError(f"{root / 'run.json'} is not readable JSON. Restore the file, or train again with --out.")
    config = _read_yaml(root / "config.yaml", notes)
    lineage = _read_json(root / "lineage.json", notes)
    summary = _read_json(root / "summary.json", notes)
    return RunLog(root, run, config, lineage, summary, _read_stages(root / "stages"), notes)


def _read_json(path: Path, notes: list[str]) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        value = parse_object(path.read_bytes())
    except OSError:
        value = None
    if value is None:
        notes.append(f"{path.name} is unreadable and was left out.")
    return value or {}


def _read_yaml(path: Path, notes: list[str]) -> dict[str, Any]:
    if not path.exists():
        notes.append(f"{path.name} is missing.")
        return {}
    try:
        value: object = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        value = None
    if not isinstance(value, dict):
        notes.append(f"{path.name} is unreadable and was left out.")
        return {}
    return cast(dict[str, Any], value)


def _read_stages(path: Path) -> dict[str, StageLog]:
    names = [entry.name for entry in path.iterdir() if entry.is_dir()] if path.is_dir() else []
    rank = {name: index for index, name in enumerate(STAGE_ORDER)}
    return {name: read_stage(path / name) for name in sorted(names, key=lambda name: (rank.get(name, len(rank)), name))}


def read_stage(path: Path) -> StageLog:
    """Read one stage directory; whatever cannot be read is in the notes."""
    notes: list[str] = []
    metrics = _read_metrics(path / "metrics.jsonl", notes)
    events: list[dict[str, Any]] = []
    if (path / "events.jsonl").is_file():
        lines = read_jsonl(path / "events.jsonl")
        notes += lines.notes("events.jsonl")
        events = [record for _, record in lines.records]
    notes += _not_understood(events)
    return StageLog(path.name, path, metrics, events, notes)


def _not_understood(events: list[dict[str, Any]]) -> list[str]:
    """A note on the keys that our recorder met in another trainer's loop and has no metric for."""
    listed = [event["keys"] for event in events if event.get("kind") == "unknown_keys" and "keys" in event]
    keys = sorted({str(key) for some in listed if isinstance(some, list) for key in cast(list[object], some)})
    if not keys:
        return []
    shown = ", ".join(keys[:8]) + (", …" if len(keys) > 8 else "")
    return [f"{len(keys)} key(s) are not understood: {shown}. Say what they mean with `mapping` of the recorder."]


def _read_metrics(path: Path, notes: list[str]) -> dict[str, Series]:
    if not path.is_file():
        return {}
    lines = read_jsonl(path)
    notes += lines.notes(path.name)
    points = Points()
    malformed: list[int] = []
    not_numbers: dict[str, int] = {}
    for number, record in lines.records:
        step, metrics = record.get("step"), record.get("metrics")
        if not isinstance(step, int) or isinstance(step, bool) or not isinstance(metrics, dict):
            malformed.append(number)
            continue
        time = as_number(record.get("time"))
        for key, raw in cast(dict[str, object], metrics).items():
            value = as_number(raw)
            if value is None:
                not_numbers.setdefault(key, number)
            else:
                points.add(key, step, value, NAN if time is None else time)
    if malformed:
        notes.append(f"{path.name}: {len(malformed)} line(s) without step and metrics left out (line {malformed[0]}).")
    notes += [f"{path.name}: {key} is not a number (line {n}) and was left out." for key, n in not_numbers.items()]
    notes += [f"{path.name}: {key} is not a metric of this version." for key in points.by_key if key not in METRICS]
    notes += points.notes(path.name)
    return points.series()


def _rollout_files(path: Path) -> dict[int, Path]:
    found: dict[int, Path] = {}
    for file in (path / "rollouts").glob("*.parquet"):
        step = rollouts_step(file)
        if step is not None:
            found[step] = file
    return found
