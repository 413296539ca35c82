"""Tolerant reading of JSON lines, and mending of a torn tail."""

import json
import math
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from regard.runlog.jsonl import mend_tail, read_jsonl

LINES = [
    b'{"step": 0, "x": NaN}\n',
    '{"step": 1, "text": "größer 🙂"}\n'.encode(),
    b'{"step": 2, "nested": {"a": [1, {}]}}\n',
]


def read(tmp_path: Path, content: bytes) -> Any:
    path = tmp_path / "file.jsonl"
    path.write_bytes(content)
    return read_jsonl(path)


def test_nan_and_infinities_are_read(tmp_path: Path) -> None:
    ((_, record),) = read(tmp_path, b'{"a": NaN, "b": Infinity, "c": -Infinity, "d": null}\n').records
    assert math.isnan(record["a"])
    assert (record["b"], record["c"], record["d"]) == (math.inf, -math.inf, None)


def test_every_prefix_is_readable_and_keeps_the_whole_lines(tmp_path: Path) -> None:
    whole = b"".join(LINES)
    for size in range(len(whole) + 1):
        lines = read(tmp_path, whole[:size])
        # Oracle: a line is there once its closing brace is, which is one byte before its newline.
        ends = [sum(map(len, LINES[: i + 1])) - 1 for i in range(len(LINES))]
        complete = sum(size >= end for end in ends)
        assert [record["step"] for _, record in lines.records] == list(range(complete))
        begun = sum(size > end for end in [0, *(end + 1 for end in ends)])
        assert lines.torn == (begun > complete)
        assert lines.broken == []


def test_broken_lines_are_counted_with_their_numbers(tmp_path: Path) -> None:
    lines = read(tmp_path, b'{"a": 1}\nnot json\n\n[1, 2]\n{"a": 2}\n\xff\xfe\n{"a": 3}\n' + b"[" * 100_000 + b"\n")
    assert [number for number, _ in lines.records] == [1, 5, 7]
    assert lines.broken == [2, 4, 6, 8]
    assert lines.notes("m.jsonl") == ["m.jsonl: 4 unreadable line(s) left out (line 2, 4, 6, 8)."]


@settings(max_examples=60, deadline=None)
@given(size=st.integers(0, len(b"".join(LINES))))
def test_appending_after_mending_never_damages_a_record(size: int, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.mktemp("mend") / "file.jsonl"
    path.write_bytes(b"".join(LINES)[:size])
    before = read_jsonl(path)
    mend_tail(path)
    with path.open("ab") as file:
        file.write(b'{"step": 99}\n')
    after = read_jsonl(path)
    assert [r["step"] for _, r in after.records] == [r["step"] for _, r in before.records] + [99]
    assert not after.torn
    assert after.broken == []


def test_mending_finds_the_start_of_a_torn_line_longer_than_a_block(tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl"
    torn = b'{"text": "' + b"x" * 200_000
    path.write_bytes(LINES[0] + torn)
    assert mend_tail(path) == len(torn)
    assert path.read_bytes() == LINES[0]


def test_a_whole_last_line_without_newline_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl"
    path.write_bytes(json.dumps({"a": 1}).encode())
    assert mend_tail(path) == 0
    assert path.read_bytes() == b'{"a": 1}\n'


def test_zeros_at_the_end_are_a_torn_line(tmp_path: Path) -> None:  # what some file systems leave after a power cut
    path = tmp_path / "file.jsonl"
    path.write_bytes(LINES[0] + b"\0" * 100)
    assert read_jsonl(path).torn
    assert mend_tail(path) == 100
