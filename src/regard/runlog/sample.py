# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# (pyarrow has no type stubs)
"""Rollouts of a stage as columns of numbers and texts: all of a short run, an even sample of a long one.

A review asks for shares, correlations and comparisons of early with late responses. A few hundred steps of a few
hundred responses decide those, so a run of a million rollouts costs no more than one of a hundred thousand.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from regard.runlog.reader import StageLog

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MAX_STEPS = 240
"""Steps looked at: the first ten, the last ten, and evenly between."""

MAX_ROWS = 256
"""Rows looked at of one step, from its beginning, so that responses to one prompt stay together."""

_NUMBERS = ("score", "main_score", "gold", "vader", "raters", "kl_sum", "length")
_FLAGS = ("finished", "truncated")
_TEXTS = ("rollout_id", "prompt_id", "prompt", "response")
PER_TOKEN = ("logprobs", "ref_logprobs", "generator_logprobs", "values", "advantages", "returns", "rewards")
_INTEGERS = ("policy_version",)


@dataclass(frozen=True)
class Ragged:
    """A list of numbers for each row: row i owns `values[offsets[i]:offsets[i + 1]]`."""

    values: Floats
    offsets: Ints

    @property
    def lengths(self) -> Ints:
        return np.diff(self.offsets)

    def sums(self) -> Floats:
        """[N] sum of each row; 0 for an empty one."""
        total = np.concatenate([[0.0], np.cumsum(self.values)])
        return total[self.offsets[1:]] - total[self.offsets[:-1]]

    @cached_property
    def rows(self) -> Ints:
        """[len(values)] the row of each value."""
        return np.repeat(np.arange(len(self.offsets) - 1), self.lengths)

    @cached_property
    def positions(self) -> Ints:
        """[len(values)] the position of each value in its row, from 0."""
        return np.arange(len(self.values)) - np.repeat(self.offsets[:-1], self.lengths)


@dataclass(frozen=True)
class RolloutSample:
    """N responses in the order of their steps.

    Attributes:
        steps: [N] step at which each was sampled.
        numbers: column name to [N] floats, NaN where the record has none; score, main_score, gold, vader, raters,
            kl_sum, length, finished, truncated (1 or 0), policy_version.
        texts: rollout_id, prompt_id, prompt, response; "" where the record has none.
        per_token: logprobs, ref_logprobs, generator_logprobs, values, advantages, returns, rewards; only those that
            every row has.
        total_steps: steps with rollouts in the record, of which these are a sample.
        notes: what could not be read.
    """

    steps: Ints
    numbers: dict[str, Floats]
    texts: dict[str, list[str]]
    per_token: dict[str, Ragged]
    total_steps: int
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.steps)

    def has(self, *columns: str) -> bool:
        """Whether each of these columns says something of at least half of the rows."""
        return len(self) > 0 and all(self._has(column) for column in columns)

    def _has(self, column: str) -> bool:
        if column in self.numbers:
            return bool(np.isfinite(self.numbers[column]).mean() >= 0.5)
        if column in self.texts:
            return sum(bool(text) for text in self.texts[column]) >= 0.5 * len(self)
        return column in self.per_token

    @cached_property
    def distinct_steps(self) -> Ints:
        return np.unique(self.steps)

    @cached_property
    def prompt_codes(self) -> Ints:
        """[N] the same number for the same prompt."""
        names = self.texts["prompt_id"] if self._has("prompt_id") else self.texts["prompt"]
        places: dict[str, int] = {}
        return np.array([places.setdefault(name, len(places)) for name in names], dtype=np.int64)

    def early(self, share: float = 0.1, least: int = 64) -> NDArray[np.bool_]:
        """[N] rows of the first steps: `share` of all steps, more until there are `least` rows."""
        return self._edge(self.distinct_steps, share, least)

    def late(self, share: float = 0.1, least: int = 64) -> NDArray[np.bool_]:
        """[N] rows of the last steps; never more than the later half of the steps."""
        return self._edge(self.distinct_steps[::-1], share, least)

    def _edge(self, order: Ints, share: float, least: int) -> NDArray[np.bool_]:
        chosen = np.zeros(len(self), dtype=bool)
        for number, step in enumerate(order[: max(1, (len(order) + 1) // 2)]):
            if number >= share * len(order) and chosen.sum() >= least:
                break
            chosen |= self.steps == step
        return chosen

    def by_step(self, values: Floats) -> tuple[Ints, Floats]:
        """Mean of the finite values of each step: (steps, means), NaN where a step has none."""
        steps, place = np.unique(self.steps, return_inverse=True)
        finite = np.isfinite(values)
        count = np.bincount(place[finite], minlength=len(steps))
        total = np.bincount(place[finite], weights=values[finite], minlength=len(steps))
        with np.errstate(invalid="ignore"):
            return steps, np.where(count > 0, total / np.maximum(count, 1), np.nan)

    def within_prompt(self, values: Floats, rows: NDArray[np.bool_]) -> Floats:
        """`values[rows]` less the mean of their (step, prompt) group; NaN for a group of one."""
        keys = self.steps[rows] * (int(self.prompt_codes.max(initial=0)) + 1) + self.prompt_codes[rows]
        _, place, count = np.unique(keys, return_inverse=True, return_counts=True)
        mean = np.bincount(place, weights=values[rows], minlength=len(count)) / count
        centred = values[rows] - mean[place]
        centred[count[place] < 2] = np.nan
        return centred


def chosen_steps(steps: list[int]) -> list[int]:
    """At most MAX_STEPS of these steps: the first and last ten, and evenly between."""
    if len(steps) <= MAX_STEPS:
        return steps
    middle = np.linspace(10, len(steps) - 11, MAX_STEPS - 20).round().astype(int)
    return sorted({*steps[:10], *(steps[i] for i in middle), *steps[-10:]})


def read_sample(stage: StageLog) -> RolloutSample:
    """The rollouts of a stage, or an even sample; empty where there are none.

    A file that cannot be read is left out and noted.
    """
    tables: list[Any] = []
    notes: list[str] = []
    files = stage.rollout_files
    for step in chosen_steps(sorted(files)):
        try:
            file = pq.ParquetFile(files[step])
            wanted = [name for name in (*_NUMBERS, *_FLAGS, *_TEXTS, *PER_TOKEN, *_INTEGERS)
                      if name in file.schema_arrow.names]  # fmt: skip
            table = file.read(columns=wanted).slice(0, MAX_ROWS)
        except (OSError, pa.ArrowException) as error:
            notes.append(f"rollouts/{files[step].name} is unreadable and was left out ({str(error).splitlines()[0]}).")
            continue
        tables.append((step, table))
    steps = np.concatenate([np.full(t.num_rows, step, dtype=np.int64) for step, t in tables] or [np.zeros(0, np.int64)])
    numbers = {name: _numbers(tables, name) for name in (*_NUMBERS, *_FLAGS, *_INTEGERS)}
    texts = {name: _texts(tables, name) for name in _TEXTS}
    per_token = {name: ragged for name in PER_TOKEN if (ragged := _ragged(tables, name)) is not None}
    return RolloutSample(steps, numbers, texts, per_token, len(files), tuple(notes))


def _numbers(tables: list[tuple[int, Any]], name: str) -> Floats:
    parts: list[Floats] = []
    for _, table in tables:
        if name in table.column_names:
            column = table.column(name).cast(pa.float64()) if name not in _FLAGS else table.column(name).cast(pa.int8())
            parts.append(np.array([np.nan if v is None else v for v in column.to_pylist()], dtype=np.float64))
        else:
            parts.append(np.full(table.num_rows, np.nan))
    return np.concatenate(parts) if parts else np.zeros(0)


def _texts(tables: list[tuple[int, Any]], name: str) -> list[str]:
    texts: list[str] = []
    for _, table in tables:
        if name in table.column_names:
            texts += ["" if value is None else str(value) for value in table.column(name).to_pylist()]
        else:
            texts += [""] * table.num_rows
    return texts


def _ragged(tables: list[tuple[int, Any]], name: str) -> Ragged | None:
    """None unless every row has the column."""
    values: list[Floats] = []
    lengths: list[Ints] = []
    for _, table in tables:
        if name not in table.column_names:
            return None
        column = table.column(name).combine_chunks()
        if column.null_count:
            return None
        flat = column.flatten()
        if not pa.types.is_floating(flat.type) and not pa.types.is_integer(flat.type):
            return None
        values.append(flat.to_numpy(zero_copy_only=False).astype(np.float64))
        lengths.append(column.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64))
    if not values:
        return None
    return Ragged(np.concatenate(values), np.concatenate([[0], np.cumsum(np.concatenate(lengths))]))
