"""TensorBoard event files, read without TensorBoard: records of length, checksum, `Event`, checksum.

Scalars come as `simple_value` (TensorFlow 1, PyTorch's writer) or as a tensor with one number (TensorFlow 2). Values
are float32. After a restart there are several files, which are read in order of name, that is of time.
Field numbers: tensorflow/core/util/event.proto, framework/summary.proto, framework/tensor.proto.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

from regard.errors import RunLogError
from regard.runlog.importers.table import Table
from regard.runlog.importers.wire import WireError, fields, float32, float64, signed

_EVENT_TIME, _EVENT_STEP, _EVENT_SUMMARY = 1, 2, 5
_SUMMARY_VALUE = 1
_VALUE_TAG, _VALUE_SIMPLE, _VALUE_TENSOR = 1, 2, 8
_TENSOR_DTYPE, _TENSOR_CONTENT, _TENSOR_FLOATS, _TENSOR_DOUBLES = 1, 4, 5, 6
_FLOAT, _DOUBLE = 1, 2


def sniff(path: Path) -> Path | None:
    """An event file, or the directory of some, at most three levels down; of several the one with most bytes."""
    if path.is_file():
        return path if ".tfevents." in path.name else None
    size: dict[Path, int] = {}
    for file in (file for level in ("", "*/", "*/*/", "*/*/*/") for file in path.glob(f"{level}*.tfevents.*")):
        size[file.parent] = size.get(file.parent, 0) + file.stat().st_size
    return max(size, key=lambda directory: size[directory]) if size else None


def read(path: Path) -> Table:
    table = Table()
    files = [path] if path.is_file() else sorted(path.glob("*.tfevents.*"))
    for file in files:
        broken = 0
        for event in _records(file, table.notes):
            try:
                _add_event(event, table)
            except (WireError, UnicodeDecodeError):
                broken += 1
        if broken:
            table.notes.append(f"{file.name}: {broken} unreadable event(s) left out.")
    if not table.points.by_key:
        raise RunLogError(f"{path} holds no scalars. Give the directory that TensorBoard's --logdir points to.")
    table.notes += table.points.notes(path.name)
    return table


def _records(file: Path, notes: list[str]) -> Iterator[bytes]:
    content = file.read_bytes()
    at = 0
    while at + 12 <= len(content):
        (size,) = struct.unpack_from("<Q", content, at)
        if at + 16 + size > len(content):
            break
        yield content[at + 12 : at + 12 + size]
        at += 16 + size
    if at < len(content):
        notes.append(f"{file.name}: the last {len(content) - at} bytes are torn and were left out.")


def _add_event(event: bytes, table: Table) -> None:
    step, time, summaries = 0, float("nan"), list[bytes]()
    for number, value in fields(event):
        if number == _EVENT_STEP and isinstance(value, int):
            step = signed(value)
        elif number == _EVENT_TIME and isinstance(value, bytes) and len(value) == 8:
            time = float64(value)
        elif number == _EVENT_SUMMARY and isinstance(value, bytes):
            summaries.append(value)
    for summary in summaries:
        for number, raw in fields(summary):
            if number == _SUMMARY_VALUE and isinstance(raw, bytes):
                tag, scalar = _scalar(raw)
                if tag and scalar is not None and abs(step) < 2**53:
                    table.points.add(tag, step, scalar, time)


def _scalar(value: bytes) -> tuple[str, float | None]:
    tag, scalar = "", None
    for number, raw in fields(value):
        if not isinstance(raw, bytes):
            continue
        if number == _VALUE_TAG:
            tag = raw.decode("utf-8")
        elif number == _VALUE_SIMPLE and len(raw) == 4:
            scalar = float32(raw)
        elif number == _VALUE_TENSOR:
            scalar = _one_number(raw)
    return tag, scalar


def _one_number(tensor: bytes) -> float | None:
    """The number of a tensor that holds a single float or double; None for text, images, histograms."""
    dtype, found = 0, list[float]()
    for number, raw in fields(tensor):
        if number == _TENSOR_DTYPE and isinstance(raw, int):
            dtype = raw
        elif isinstance(raw, bytes) and number in (_TENSOR_CONTENT, _TENSOR_FLOATS, _TENSOR_DOUBLES):
            if dtype == _FLOAT and len(raw) == 4:
                found.append(float32(raw))
            elif dtype == _DOUBLE and len(raw) == 8:
                found.append(float64(raw))
    return found[0] if len(found) == 1 else None
