"""trackio's database, `<project>.db`: SQLite with one row of JSON per logged step.

Of several runs in a project the one that was logged last is read, and the notes name the others.
"""

import sqlite3
from pathlib import Path
from typing import Any
from urllib.request import pathname2url

from regard.errors import RunLogError
from regard.runlog.importers.table import Table, add_rows
from regard.runlog.jsonl import parse_object


def sniff(path: Path) -> Path | None:
    """A `.db` file; in a directory the only one."""
    if path.is_file():
        return path if path.suffix == ".db" else None
    found = sorted(path.glob("*.db"))
    return found[0] if len(found) == 1 else None


def read(path: Path) -> Table:
    try:
        # read-only, and without the write-ahead log a reader would have to create
        database = sqlite3.connect(f"file:{pathname2url(str(path.resolve()))}?mode=ro", uri=True)
        try:
            return _read(path, database)
        finally:
            database.close()
    except (sqlite3.Error, OverflowError, UnicodeDecodeError) as error:
        raise RunLogError(f"{path} is not a database of trackio ({error}). Give <project>.db.") from error


def _read(path: Path, database: sqlite3.Connection) -> Table:
    table = Table()
    runs = list(database.execute("SELECT run_id, run_name FROM metrics GROUP BY run_id ORDER BY MAX(id) DESC"))
    if not runs:
        raise RunLogError(f"{path} holds no metrics. Give the database of a project that has logged.")
    rows: list[tuple[int, dict[str, Any]]] = []
    broken = 0
    query = "SELECT id, step, metrics FROM metrics WHERE run_id IS ? ORDER BY id"
    for number, step, blob in database.execute(query, (runs[0][0],)):
        record = parse_object(_bytes(blob))
        if record is None or not isinstance(number, int):
            broken += 1
        else:
            rows.append((number, {**record, "step": step}))
    if broken:
        table.notes.append(f"{path.name}: {broken} unreadable row(s) left out.")
    if len(runs) > 1:
        others = ", ".join(str(name) for _, name in runs[1:6]) + (", …" if len(runs) > 6 else "")
        table.notes.append(f"{path.name}: the run {runs[0][1]} was read; there are also {others}.")
    for (blob,) in database.execute("SELECT config FROM configs WHERE run_id IS ?", (runs[0][0],)):
        table.config = parse_object(_bytes(blob)) or {}
    add_rows(table, rows, path.name)
    return table


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")
