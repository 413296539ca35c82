"""`trainer_state.json`, which the Hugging Face Trainer, and so TRL, writes into every checkpoint.

`log_history` is a list of rows; rows of training and of evaluation are apart and can share a step.
"""

import json
import re
from pathlib import Path
from typing import Any, cast

from regard.errors import RunLogError
from regard.runlog.importers.table import Table, add_rows
from regard.runlog.jsonl import parse_object

NAME = "trainer_state.json"


def sniff(path: Path) -> Path | None:
    """The file itself, that of the directory, or that of its latest `checkpoint-N`."""
    if path.is_file():
        return path if path.name.endswith(NAME) else None
    if (path / NAME).is_file():
        return path / NAME
    numbered = {int(p.parent.name.split("-")[1]): p for p in path.glob(f"checkpoint-*/{NAME}") if _numbered(p.parent)}
    return numbered[max(numbered)] if numbered else None


def _numbered(directory: Path) -> bool:
    return re.fullmatch(r"checkpoint-\d{1,15}", directory.name) is not None


def read(path: Path) -> Table:
    table = Table()
    content = path.read_bytes()
    state = parse_object(content)
    if state is not None:
        history: object = state.get("log_history")
    else:
        history = _whole_rows(content.decode("utf-8", "replace"))
        if history:
            table.notes.append(f"{path.name} breaks off or is damaged; its first {len(history)} rows were read.")
    if not isinstance(history, list):
        raise RunLogError(f"{path} has no list log_history. Give a trainer_state.json as the Trainer writes it.")
    entries = cast(list[object], history)
    rows = [(n, cast(dict[str, Any], row)) for n, row in enumerate(entries, 1) if isinstance(row, dict)]
    for _, row in rows:
        row.pop("epoch", None)  # in every row, so rows of evaluation would seem to repeat a step
    if len(rows) < len(entries):
        table.notes.append(f"{path.name}: {len(entries) - len(rows)} row(s) of log_history are no objects.")
    if not rows:
        raise RunLogError(f"{path} holds no readable row of log_history. Give the checkpoint of a run that has logged.")
    add_rows(table, rows, path.name)
    return table


def _whole_rows(text: str) -> list[object]:
    """The rows before the place where a torn file breaks off."""
    found = re.search(r'"log_history"\s*:\s*\[', text)
    rows: list[object] = []
    decoder = json.JSONDecoder()
    position = found.end() if found else len(text)
    while True:
        blank = re.compile(r"[\s,]*").match(text, position)
        try:
            row, position = decoder.raw_decode(text, blank.end() if blank else position)
        except (ValueError, RecursionError):
            return rows
        rows.append(row)
