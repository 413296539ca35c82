"""JSON lines: one object a line, flat (tinker), or under `data` (verl's file logger) or `metrics` (ours)."""

from pathlib import Path

from regard.errors import RunLogError
from regard.runlog.importers.table import Table, add_rows
from regard.runlog.jsonl import read_jsonl

LIKELY = ("metrics.jsonl", "log.jsonl", "train.jsonl", "history.jsonl")


def sniff(path: Path) -> Path | None:
    """A `.jsonl` or `.ndjson` file; in a directory one of the usual names, or the only such file."""
    if path.is_file():
        return path if path.suffix in (".jsonl", ".ndjson") else None
    named = [path / name for name in LIKELY if (path / name).is_file()]
    found = sorted([*path.glob("*.jsonl"), *path.glob("*.ndjson")])
    if named or len(found) == 1:
        return (named or found)[0]
    return None


def read(path: Path) -> Table:
    table = Table()
    lines = read_jsonl(path)
    table.notes += lines.notes(path.name)
    if not lines.records:
        raise RunLogError(f"{path} holds no readable line. Give a file with one JSON object a line.")
    add_rows(table, lines.records, path.name)
    return table
