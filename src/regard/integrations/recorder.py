# pyright: strict
"""Three calls that write our run record from any loop: `log_step`, `log_rollouts`, `log_event`."""

import difflib
import hashlib
import sys
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import yaml

from regard.errors import ConfigError, DataError, RunLogError
from regard.runlog.files import to_json
from regard.runlog.importers.read import UNKNOWN
from regard.runlog.importers.table import flatten
from regard.runlog.importers.vocabularies import VOCABULARIES
from regard.runlog.importers.vocabulary import HF_TRAINER, Vocabulary
from regard.runlog.jsonl import parse_object
from regard.runlog.metrics import METRICS
from regard.runlog.rollouts import COLUMNS, rollouts_table
from regard.runlog.series import as_number
from regard.runlog.writer import ABSENT, RunWriter

MAX_WRITING = 4
"""Steps whose rollouts may wait to be written; the call after that waits."""

ROLLOUT_NAMES = {"completion": "response", "output": "response", "reward": "score"}
"""Other names under which a row of rollouts may state a column of ours."""

TRAINER = Vocabulary("transformers", "other", HF_TRAINER, (), "transformers/trainer.py")
"""A trainer whose own keys are not known: only what the Hugging Face Trainer adds."""

_SCALARS = frozenset({str, int, float, bool, type(None)})
_SOURCES = {**VOCABULARIES, TRAINER.name: TRAINER, UNKNOWN.name: UNKNOWN}


class Recorder:
    """Writes one stage of a run record, which `regard review` reads as one of our own.

    What fails after the start, such as a full disk, ends the record with a warning and never the training. Rollouts are
    written by a thread, so a kill can cost those of the last steps; everything else is on its way to the disk when a
    call returns.

    Args:
        out: directory of the run; created where missing.
        stage: sft, rm, dpo, ppo, grpo, rloo, reinforce or a2c; None: that of `source`, or ppo.
        source: whose keys `log_step` gets: trl-grpo, verl and so on, as for `regard review --from`. None: our own; a
            bare `kl` is then KL of unknown unit.
        config: settings of the run, nested or flat. The meaning of a foreign key can hang on one.
        seed: of the run; None where there is none.
        mapping: foreign key to metric key of ours; goes before `source`.
        resume: go on in the run that is there, whose steps may then be repeated; a changed setting becomes an event.
        rank: of this process; above 0 nothing is written.
    Raises:
        ConfigError: `source` or `mapping` is not known.
        RunLogError: the directory holds a run and `resume` is off, is in use, or cannot be written.
    """

    def __init__(
        self,
        out: Path | str,
        *,
        stage: str | None = None,
        source: str | None = None,
        config: Mapping[str, Any] | None = None,
        seed: int | None = None,
        mapping: Mapping[str, str] | None = None,
        resume: bool = False,
        rank: int = 0,
    ) -> None:
        vocabulary = _vocabulary(source)
        self._mapping = _checked(mapping or {})
        self._config = cast(dict[str, Any], _plain(dict(config or {})))
        self._meanings: dict[str, tuple[bool, str | None]] = {}
        self._vocabulary = vocabulary
        self._listed: set[tuple[str, str]] = set()
        self._step_rows: tuple[int, list[dict[str, Any]]] = (-1, [])
        self._ended = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="regard-recorder")
        self._writing: deque[Future[None]] = deque()
        path = Path(out)
        stored = _stored(path) if resume and rank == 0 else None
        try:
            self._run = RunWriter(
                path,
                config=self._config if stored is None else stored[0],
                seed=seed if stored is None else stored[1],
                argv=sys.argv,
                resume=resume,
                rank=rank,
                facts={"source": source or "recorder"},
            )
        except RunLogError as error:
            message = str(error).replace("--resume", "resume=True").replace("with --out", "as `out`")
            raise RunLogError(message) from error
        self.stage = stage or vocabulary.stage
        self._stage = self._run.stage(self.stage)
        self._run.set_stage(self.stage, "running")
        if stored is not None:
            changes = _changes({**stored[0], "seed": stored[1]}, {**self._config, "seed": seed})
            self.log_event("resume")
            if changes:
                self.log_event("config_change", changes=changes)

    @property
    def active(self) -> bool:
        """Whether calls still write: not in a process of rank above 0, nor after the end or a failure."""
        return self._run.active and not self._ended

    def log_step(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Record the numbers of one step, under our keys, those of `source`, or those of `mapping`.

        Nested mappings are joined with "/". What is no metric of ours is kept in the same line under `other`; a key
        that is not understood, or is no number, is listed once in an event. None is a value that is missing.
        """
        if not self.active:
            return
        ours: dict[str, float] = {}
        other: dict[str, Any] = {}
        strange: dict[str, list[str]] = {"unknown_keys": [], "not_numbers": []}
        for key, raw in flatten(metrics).items():
            value = _number(raw)
            known, metric = self._meaning(str(key))
            if not known:
                strange["unknown_keys"].append(key)
            if value is None and raw is not None and metric is not None:
                strange["not_numbers"].append(key)
            if value is not None and metric is not None and metric not in ours:
                ours[metric] = value
            elif raw is not None:
                other[key] = _plain(raw) if value is None else value
        self._write(lambda: self._stage.log(int(step), ours, other))
        for kind, keys in strange.items():
            self._list_once(kind, keys, int(step))

    def log_rollouts(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Record responses: one mapping each, with `prompt`, `response` and what is known of `score`, `tokens`,
        `finished`, `truncated`, `gold`, `logprobs` and the other columns of `regard.runlog.rollouts`.

        Further entries are kept in the column `extra`. Rows of a step that comes in several calls are put together.

        Raises:
            DataError: a value of this or an earlier call does not fit its column. The rows of that call are left out.
        """
        if not self.active or not rows:
            return
        kept = [{key: v if type(v) in _SCALARS else _plain(v) for key, v in row.items()} for row in rows]
        extra = sorted(key for key in set[str]().union(*kept) if ROLLOUT_NAMES.get(key, key) not in COLUMNS)
        self._list_once("unknown_columns", extra, int(step))
        self._wait(down_to=MAX_WRITING)
        self._writing.append(self._thread.submit(self._write_rollouts, int(step), kept))

    def _write_rollouts(self, step: int, rows: list[dict[str, Any]]) -> None:
        """In the thread, which alone knows the rows of the step so far."""
        known = self._step_rows[1] if self._step_rows[0] == step else []
        merged = [*known, *(_row(row, step, len(known) + index) for index, row in enumerate(rows))]
        try:
            table = rollouts_table(step, merged)
        except (TypeError, ValueError, OverflowError) as error:  # pyarrow's errors are these
            raise DataError(f"A rollout of step {step} does not fit its column ({error}). Mend the row.") from error
        self._step_rows = (step, merged)
        self._stage.rollouts_of(step, table)

    def log_event(self, kind: str, **fields: Any) -> None:
        """Record what happened: checkpoint, resume, config_change, warning, or a kind of your own."""
        plain = cast(dict[str, Any], _plain(fields))
        self._write(lambda: self._stage.event(kind, **plain))

    def flush(self) -> None:
        """Wait until all rollouts are written. Raises as `log_rollouts` does."""
        self._wait(down_to=0)

    def close(self, status: str = "done") -> None:
        """End the record; `status` is done or failed. A second call does nothing."""
        try:
            self.flush()
        finally:
            self._thread.shutdown()
            self._write(lambda: self._run.set_stage(self.stage, status))
            self._run.close()
            self._ended = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close("done" if error is None else "failed")

    def _meaning(self, key: str) -> tuple[bool, str | None]:
        if key not in self._meanings:
            if key in self._mapping or key in METRICS:
                self._meanings[key] = True, self._mapping.get(key, key)
            else:
                self._meanings[key] = self._vocabulary.meaning(key, self._config)
        return self._meanings[key]

    def _list_once(self, kind: str, keys: Sequence[str], step: int) -> None:
        new = [key for key in keys if (kind, key) not in self._listed]
        if new:
            self._listed.update((kind, key) for key in new)
            self.log_event(kind, step=step, keys=new)

    def _wait(self, down_to: int) -> None:
        while len(self._writing) > down_to or (self._writing and self._writing[0].done()):
            self._write(self._writing.popleft().result)

    def _write(self, write: Callable[[], None]) -> None:
        if not self.active:
            return
        try:
            write()
        except RunLogError as error:
            self._ended = True
            self._run.close()
            warnings.warn(f"The run is no longer recorded. {error}", RuntimeWarning, stacklevel=4)


def _vocabulary(source: str | None) -> Vocabulary:
    if source is None:
        return UNKNOWN
    if source not in _SOURCES:
        near = difflib.get_close_matches(source, _SOURCES, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"Use one of: {', '.join(_SOURCES)}."
        raise ConfigError(f"No trainer is known by the name {source!r}. {hint}")
    return _SOURCES[source]


def _checked(mapping: Mapping[str, str]) -> dict[str, str]:
    for foreign, ours in mapping.items():
        if ours not in METRICS:
            near = difflib.get_close_matches(str(ours), METRICS, n=1)
            hint = f"Did you mean {near[0]}?" if near else "See docs/reference/metrics.md for the keys."
            raise ConfigError(f"{foreign} is mapped to {ours!r}, which is no metric. {hint}")
    return dict(mapping)


def _stored(path: Path) -> tuple[dict[str, Any], int | None] | None:
    """Configuration and seed of the run that is there; None where there is none or it cannot be read."""
    try:
        run = parse_object((path / "run.json").read_bytes())
        config: object = yaml.safe_load((path / "config.yaml").read_bytes())
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return (cast(dict[str, Any], config), run.get("seed")) if run and isinstance(config, dict) else None


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[dict[str, Any]]:
    before, after = flatten(old), flatten(new)
    show = {key: (before.get(key, ABSENT), after.get(key, ABSENT)) for key in [*before, *after]}
    return [
        {"key": key.replace("/", "."), "from": None if a is ABSENT else a, "to": None if b is ABSENT else b}
        for key, (a, b) in show.items()
        if a is ABSENT or b is ABSENT or to_json(a) != to_json(b)
    ]


def _number(raw: object) -> float | None:
    """A float of a number, or of an array or tensor of one element; None for anything else."""
    if isinstance(raw, bool):
        return float(raw)
    number = as_number(raw)
    if number is not None or isinstance(raw, str) or not hasattr(raw, "item"):
        return number
    try:
        return as_number(cast(Any, raw).item())
    except (TypeError, ValueError, RuntimeError):  # more than one element
        return None


def _plain(value: object) -> object:
    """What JSON can hold; arrays and tensors become lists, anything else its text."""
    if type(value) in _SCALARS:
        return value
    if isinstance(value, list) and _SCALARS.issuperset(map(type, cast(list[object], value))):
        return cast(list[object], value).copy()  # the usual case, and a thousand token ids are not worth as many calls
    if isinstance(value, str | int | float):  # such as an enum of text
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in cast(Mapping[Any, Any], value).items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in cast(Sequence[Any], value)]
    return _plain(cast(Any, value).tolist()) if hasattr(value, "tolist") else str(value)


def _row(row: Mapping[str, Any], step: int, index: int) -> dict[str, Any]:
    """The columns of ours for a row of plain values."""
    columns: dict[str, Any] = {"rollout_id": f"{step}-{index}", "step": step}
    extra: dict[str, Any] = {}
    for key, value in row.items():
        column = ROLLOUT_NAMES.get(key, key)
        (columns if column in COLUMNS else extra)[column] = value
    for name in ("prompt", "response"):
        if type(columns.get(name)) is not str:
            columns[name] = text_of(columns.get(name))
    if columns.get("prompt_id") is None and columns["prompt"] is not None:
        columns["prompt_id"] = _prompt_id(columns["prompt"])
    if columns.get("length") is None and columns.get("tokens") is not None:
        columns["length"] = len(columns["tokens"])
    if extra:
        columns["extra"] = to_json(extra)
    return columns


@lru_cache(maxsize=1024)
def _prompt_id(prompt: str) -> str:
    """The same for the same text, so that responses to one prompt are known as such."""
    return hashlib.sha256(prompt.encode(errors="replace")).hexdigest()[:16]


def text_of(value: object) -> str | None:
    """A text as it is, and a conversation as its messages: of one message the content, else `role: content` a line."""
    if not isinstance(value, list):
        return None if value is None else str(value)
    messages = [cast(dict[str, Any], m) if isinstance(m, dict) else {"content": m} for m in cast(list[object], value)]
    if len(messages) == 1:
        return str(messages[0].get("content"))
    return "\n".join(f"{message.get('role', '')}: {message.get('content')}" for message in messages)
