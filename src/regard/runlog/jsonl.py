"""JSON lines as a crash leaves them: NaN and Infinity, a torn last line, broken lines in between."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

_BLOCK = 1 << 16


@dataclass(frozen=True)
class JsonLines:
    """What could be read of a file.

    Attributes:
        records: (line number from 1, object) of each readable line, in file order.
        broken: numbers of the lines before the last that are not JSON objects.
        torn: whether the last line is an unfinished one, as a killed writer leaves it.
    """

    records: list[tuple[int, dict[str, Any]]] = field(default_factory=list[tuple[int, dict[str, Any]]])
    broken: list[int] = field(default_factory=list[int])
    torn: bool = False

    def notes(self, name: str) -> list[str]:
        """One sentence for each kind of line that was left out, for the reader of a report."""
        notes: list[str] = []
        if self.broken:
            shown = ", ".join(map(str, self.broken[:5])) + (", …" if len(self.broken) > 5 else "")
            notes.append(f"{name}: {len(self.broken)} unreadable line(s) left out (line {shown}).")
        if self.torn:
            notes.append(f"{name}: the last line is torn and was left out.")
        return notes


def parse_object(line: bytes) -> dict[str, Any] | None:
    """The JSON object on this line, or None. Accepts NaN, Infinity and -Infinity, which Python's json writes."""
    try:
        value: object = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        return None
    return cast(dict[str, Any], value) if isinstance(value, dict) else None


def read_jsonl(path: Path) -> JsonLines:
    """Read what can be read; never fails on content.

    A last line without a newline counts when it is a whole object: no proper prefix of a JSON object is one.
    """
    result = JsonLines()
    torn = False
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            record = parse_object(line)
            if record is not None:
                result.records.append((number, record))
            elif line.endswith(b"\n"):
                result.broken.append(number)
            else:
                torn = True
    return JsonLines(result.records, result.broken, torn)


def mend_tail(path: Path) -> int:
    """Make the file end in a newline, so that appending to it is safe; returns the number of bytes cut off.

    A torn last line is cut off; a whole object that only lacks its newline gets one.
    """
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        start, tail = size, b""
        while start > 0 and b"\n" not in tail:
            step = min(_BLOCK, start)
            start -= step
            file.seek(start)
            tail = file.read(step) + tail
        last = tail[tail.rfind(b"\n") + 1 :]
        if not last:
            return 0
        if parse_object(last) is not None:
            file.seek(0, os.SEEK_END)
            file.write(b"\n")
            return 0
        file.truncate(size - len(last))
        return len(last)
