"""CSV with a header, such as a table downloaded from a dashboard. An empty cell is a value that was not logged."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from regard.errors import RunLogError
from regard.runlog.importers.table import Table, add_rows
from regard.runlog.series import text_as_number


def sniff(path: Path) -> Path | None:
    """A `.csv` file; in a directory the only one."""
    if path.is_file():
        return path if path.suffix.lower() == ".csv" else None
    found = sorted(path.glob("*.csv"))
    return found[0] if len(found) == 1 else None


def read(path: Path) -> Table:
    table = Table()
    rows = list(_rows(path, table.notes))
    if not rows:
        raise RunLogError(f"{path} holds no row under its header. Give a CSV file with a header and numbers below it.")
    add_rows(table, rows, path.name)
    return table


def _rows(path: Path, notes: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    ragged = 0
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        lines = csv.reader(line.replace("\0", "") for line in file)
        try:
            header = next(lines, list[str]())
            for cells in lines:
                if len(cells) != len(header):
                    ragged += bool(cells)
                    continue
                numbers = ((key, cell, text_as_number(cell)) for key, cell in zip(header, cells, strict=True))
                yield lines.line_num, {key: cell if n is None else n for key, cell, n in numbers if cell.strip()}
        except csv.Error as error:
            notes.append(f"{path.name}: nothing was read from line {lines.line_num} on ({error}).")
    if ragged:
        notes.append(f"{path.name}: {ragged} row(s) have more or fewer cells than the header and were left out.")
