"""Writing a run record: append-only, flushed at every call, safe against `kill -9` and a full disk.

Layout: `run.json`, `config.yaml`, and for each stage `stages/<stage>/` with metrics.jsonl, events.jsonl and rollouts/.
A resumed run repeats the steps after its last checkpoint, so a step can occur twice; the reader keeps the last.
"""

import os
import platform
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, cast

import yaml

import regard
from regard.errors import RunLogError
from regard.runlog.environment import code_revision, hardware, package_versions
from regard.runlog.files import to_json, write_atomic, write_errors
from regard.runlog.jsonl import mend_tail, parse_object
from regard.runlog.locks import DirectoryLock
from regard.runlog.metrics import METRICS
from regard.runlog.rollouts import encode_table, rollouts_name, rollouts_table

SCHEMA_VERSION = 1


class Sink(Protocol):
    """Something else that wants the metrics as they are logged, such as TensorBoard (see `sinks.py`)."""

    def log(self, stage: str, step: int, metrics: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class RunWriter:
    """The one writer of a run directory.

    Args:
        path: the run directory; created where missing.
        config: the fully resolved configuration, of plain values.
        seed: seed of the run; None where it is not known.
        argv: the command line.
        resume: continue the run that is there (its config and seed must be the same); where there is none, begin one.
        rank: of this process in a distributed run; above 0 nothing is locked or written.
        sinks: where each logged step goes as well, after the record; one that fails is dropped, with an event.
        facts: further entries of run.json, such as what wrote a run that is not ours; a resumed run keeps its own.
        throwaway: a record that can be made again at will: nothing waits for the disk, and uncommitted changes of the
            code are not stored with it.
    Raises:
        RunLogError: the directory is in use, holds a run and `resume` is off, holds a run with another config, or
            cannot be written.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        config: Mapping[str, Any],
        seed: int | None,
        argv: Sequence[str],
        resume: bool = False,
        rank: int = 0,
        sinks: Sequence[Sink] = (),
        facts: Mapping[str, Any] | None = None,
        throwaway: bool = False,
    ) -> None:
        self.path = Path(path)
        self.active = rank == 0
        self.throwaway = throwaway
        self.resumed = False
        self.sinks = list(sinks)
        self.watch: Callable[[str, int, Mapping[str, float]], None] | None = None
        """Called with stage, step and metrics after they are logged; what it raises ends the run."""
        self._stages: dict[str, StageWriter] = {}
        self._run: dict[str, Any] = {}
        self._lock: DirectoryLock | None = None
        if not self.active:
            return
        with write_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = DirectoryLock(self.path)
        try:
            self._open(_plain_dict(config), seed, list(argv), resume, dict(facts or {}))
        except BaseException:
            self.close()
            raise

    def _open(
        self, config: dict[str, Any], seed: int | None, argv: list[str], resume: bool, facts: dict[str, Any]
    ) -> None:
        exists = (self.path / "run.json").exists() or (self.path / "stages").exists()
        if exists and not resume:
            raise RunLogError(
                f"{self.path} already holds a run. Continue it with --resume, or choose another directory with --out."
            )
        now = _now()
        revision, diff = code_revision()
        code = {"regard": regard.__version__, "git_revision": revision, "git_dirty": bool(diff)}
        if exists:
            self._run = _read_existing(self.path, config, seed)
            self.resumed = True
        else:
            # Escaped rather than allow_unicode, with which PyYAML does not read every string back as it was.
            write_atomic(self.path / "config.yaml", yaml.safe_dump(config, sort_keys=False).encode())
            self._run = {
                "schema": SCHEMA_VERSION,
                "id": f"{now[:19].replace('-', '').replace(':', '').replace('T', '-')}-{secrets.token_hex(3)}",
                "created": now,
                **code,
                "argv": argv,
                "seed": seed,
                "hardware": hardware(),
                "packages": {"python": platform.python_version(), **package_versions()},
                "sessions": [],
                "stages": {},
                **facts,
            }
        if diff and not self.throwaway:
            write_atomic(self.path / f"code-{len(self._run['sessions'])}.diff", diff.encode())
        self._run["sessions"].append({"started": now, **code, "argv": argv})
        self._write_run()  # last, because a directory with run.json is a run

    @property
    def id(self) -> str | None:
        """Identifier of the run; None in a process of rank above 0."""
        return self._run.get("id")

    def stage(self, name: str) -> "StageWriter":
        """The writer of one stage; the same object at every call."""
        if name not in self._stages:
            self._stages[name] = StageWriter(self, name)
        return self._stages[name]

    def set_stage(self, name: str, status: str, **info: Any) -> None:
        """Record a stage's status (`running`, `done`, `failed`) and any further facts in run.json."""
        if not self.active:
            return
        now = _now()
        entry: dict[str, Any] = self._run["stages"].setdefault(name, {"started": now})
        entry.update(info, status=status, updated=now)
        self._write_run()

    def stage_status(self, name: str) -> str | None:
        """Status last set, by this session or an earlier one; None where the stage has not begun."""
        return self._run.get("stages", {}).get(name, {}).get("status")

    def write_json(self, relpath: Path | str, obj: object) -> None:
        """Write one JSON file under the run directory, atomically."""
        if self.active:
            content = (to_json(obj, indent=2) + "\n").encode()
            write_atomic(self.path / relpath, content, sync=not self.throwaway)

    def close(self) -> None:
        """Close the files and sinks and release the directory; a second call does nothing."""
        for stage in self._stages.values():
            stage.close()
        sinks, self.sinks = self.sinks, []
        for sink in sinks:
            with suppress(Exception):  # the record is complete; a dashboard that cannot say goodbye changes nothing
                sink.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write_run(self) -> None:
        self.write_json("run.json", self._run)


class StageWriter:
    """The writer of one stage; made by `RunWriter.stage`."""

    def __init__(self, run: RunWriter, name: str) -> None:
        self._run = run
        self.name = name
        self.dir = run.path / "stages" / name
        self._files: dict[str, int] = {}

    def log(self, step: int, metrics: Mapping[str, float], other: Mapping[str, Any] | None = None) -> None:
        """Append one line of metrics. Keys must be declared in `METRICS`; NaN and infinities are kept as such.

        `other` is kept in the line beside the metrics: what another trainer logged and no declared key stands for.
        """
        undeclared = sorted(metrics.keys() - METRICS.keys())
        if undeclared:
            raise RunLogError(
                f"The metric {undeclared[0]} is not declared. Declare it in regard/runlog/metrics.py before logging it."
            )
        if not self._run.active:
            return
        values = {key: float(value) for key, value in metrics.items()}
        line = {"step": int(step), "time": time.time(), "metrics": values}
        self._append("metrics.jsonl", line | {"other": dict(other)} if other else line)
        for sink in list(self._run.sinks):
            try:
                sink.log(self.name, int(step), values)
            except Exception as error:  # the run must not die of a dashboard
                self._run.sinks.remove(sink)
                self.event("warning", step=int(step), message=f"{type(sink).__name__} failed and was dropped: {error}")
        if self._run.watch is not None:
            self._run.watch(self.name, int(step), values)

    def event(self, kind: str, **fields: Any) -> None:
        """Append one event: checkpoint, resume, config change, warning."""
        if self._run.active:
            self._append("events.jsonl", {"time": time.time(), "kind": kind, **fields})

    def rollouts(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the rollouts of one step as `rollouts/step-00000012.parquet`; a repeated step replaces its file."""
        if self._run.active:
            self.rollouts_of(step, rollouts_table(step, rows))

    def rollouts_of(self, step: int, table: Any) -> None:
        """Write a table of `rollouts_table`, as `rollouts` does; may run in another thread than the rest."""
        path = self.dir / "rollouts" / rollouts_name(step)
        write_atomic(path, encode_table(table), sync=not self._run.throwaway)

    def close(self) -> None:
        """Close the files; logging opens them again."""
        while self._files:
            os.close(self._files.popitem()[1])

    def _append(self, name: str, record: dict[str, Any]) -> None:
        line = (to_json(record) + "\n").encode()
        path = self.dir / name
        with write_errors(path):
            fd = self._open(name)
            size = os.fstat(fd).st_size
            try:
                _write_all(fd, line)
            except OSError:
                with suppress(OSError):  # leave no half line: a full disk still allows a file to shrink
                    os.ftruncate(fd, size)
                raise

    def _open(self, name: str) -> int:
        if name not in self._files:
            path = self.dir / name
            self.dir.mkdir(parents=True, exist_ok=True)
            cut = mend_tail(path) if path.is_file() else 0
            self._files[name] = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            if cut:
                self.event("warning", message=f"{name}: a torn last line of {cut} bytes was cut off")
        return self._files[name]


def _write_all(fd: int, data: bytes) -> None:
    """One system call as a rule; the loop is for the short write that a nearly full disk makes before it fails."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _plain_dict(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config as it comes back from YAML: tuples as lists, paths as text. Compared in that form on resume."""
    plain = parse_object(to_json(dict(config)).encode())
    assert plain is not None
    return plain


def _read_existing(path: Path, config: dict[str, Any], seed: int | None) -> dict[str, Any]:
    try:
        run = parse_object((path / "run.json").read_bytes())
        stored: object = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        run, stored = None, None
    if run is None or not isinstance(stored, dict) or not {"sessions", "stages"} <= run.keys():
        raise RunLogError(
            f"{path} cannot be resumed, because its run.json or config.yaml is missing or damaged. "
            "Choose another directory with --out."
        )
    difference = first_difference(cast(dict[str, Any], stored), config)
    if difference is None and run.get("seed") != seed:
        difference = ("seed", run.get("seed"), seed)
    if difference is not None:
        key, old, new = difference
        raise RunLogError(
            f"{path} was started with another configuration: {key} was {_show(old)} and is now {_show(new)}. "
            "Resume with the same configuration, or choose another directory with --out."
        )
    return run


ABSENT = object()
"""Stands for a key that one of two configurations lacks; None is a value."""


def first_difference(old: object, new: object, key: str = "") -> tuple[str, object, object] | None:
    """(dotted key, old, new) of the first difference of two plain configurations, or None; NaN equals NaN."""
    old_map, new_map = _as_dict(old), _as_dict(new)
    if old_map is not None and new_map is not None:
        for name in [*old_map, *(name for name in new_map if name not in old_map)]:
            found = first_difference(
                old_map.get(name, ABSENT), new_map.get(name, ABSENT), f"{key}.{name}" if key else str(name)
            )
            if found is not None:
                return found
        return None
    return None if _show(old) == _show(new) else (key, old, new)  # as text, so NaN is NaN and 1 is not True


def _as_dict(value: object) -> dict[str, object] | None:
    return cast(dict[str, object], value) if isinstance(value, dict) else None


def _show(value: object) -> str:
    return "absent" if value is ABSENT else to_json(value)
