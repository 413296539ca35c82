"""What a log file holds before anyone knows what its numbers mean: steps, keys, values."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

from regard.runlog.series import NAN, Points, as_number, text_as_number

STEP_KEYS = ("step", "global_step", "_step", "train/global_step", "training/global_step", "Step", "iteration")
"""Names under which a row states its step, best first."""

TIME_KEYS = ("time", "timestamp", "_timestamp", "wall_time")


@dataclass
class Table:
    """The numbers of one log.

    Attributes:
        points: foreign key to points.
        config: the configuration found in or beside the log, nested as it was.
        notes: what was left out or not understood, one sentence each.
    """

    points: Points = field(default_factory=Points)
    config: dict[str, Any] = field(default_factory=dict[str, Any])
    notes: list[str] = field(default_factory=list[str])


class Container(Protocol):
    """A file format that holds a log. To add one, write a module with these two functions and list it."""

    def sniff(self, path: Path) -> Path | None:
        """The file to read if `path`, a file or a directory, holds this format."""
        ...

    def read(self, path: Path) -> Table:
        """Everything readable in the file that `sniff` returned.

        Raises:
            RunLogError: nothing in the file can be read.
        """
        ...


def add_rows(table: Table, rows: list[tuple[int, dict[str, Any]]], name: str) -> None:
    """Put rows into the table.

    Args:
        rows: (line or row number, key to value), in file order; nested objects are flattened with "/".
        name: of the file, for the notes.

    Rows are counted where not one states a step; where some do, the others are left out. A value that is no number
    (text, null, a list) is left out. The notes say each.
    """
    flat = [(number, flatten(row)) for number, row in rows]
    steps = [_step(row) for _, row in flat]
    if flat and all(step is None for step in steps):
        steps = list(range(len(flat)))
        table.notes.append(f"{name}: no row states a step, so rows are counted from 0.")
    stepless = [number for (number, _), step in zip(flat, steps, strict=True) if step is None]
    if stepless:
        table.notes.append(f"{name}: {len(stepless)} row(s) state no step and were left out (line {stepless[0]}).")
    not_numbers: dict[str, int] = {}
    for (number, row), step in zip(flat, steps, strict=True):
        if step is None:
            continue
        time = next((as_number(row[key]) for key in TIME_KEYS if key in row), None)
        for key, raw in row.items():
            if key in STEP_KEYS or key in TIME_KEYS:
                continue
            value = _value(raw)
            if value is None:
                not_numbers.setdefault(key, number)
            else:
                table.points.add(key, step, value, NAN if time is None else time)
    if not_numbers:
        shown = ", ".join(f"{key} (line {line})" for key, line in list(not_numbers.items())[:5])
        more = ", …" if len(not_numbers) > 5 else ""
        table.notes.append(f"{name}: {len(not_numbers)} key(s) hold something else than numbers there: {shown}{more}.")
    table.notes += table.points.notes(name)


def _value(raw: object) -> float | None:
    """A number; also the words for NaN and infinity, which JSON has no numbers for. Other text is no number."""
    word = text_as_number(raw) if isinstance(raw, str) else None
    return as_number(raw) if word is None or math.isfinite(word) else word


def _step(row: Mapping[str, Any]) -> int | None:
    stated = as_number(next((row[key] for key in STEP_KEYS if key in row), None))
    if stated is None or abs(stated) > 2**53 or stated != stated or stated != int(stated):
        return None
    return int(stated)


def flatten(row: Mapping[str, Any]) -> dict[str, Any]:
    """`{"a": {"b": 1}}` → `{"a/b": 1}`, except that `data` and `metrics` around everything leave no trace."""
    flat: dict[str, Any] = {}
    stack = [("", row)]
    while stack:
        head, mapping = stack.pop()
        for key, value in mapping.items():
            if isinstance(value, Mapping):
                inner = "" if not head and key in ("data", "metrics") else f"{head}{key}/"
                stack.append((inner, cast(Mapping[str, Any], value)))
            else:
                flat[f"{head}{key}"] = value
    return flat
