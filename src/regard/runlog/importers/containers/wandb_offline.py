"""wandb's own file, `run-<id>.wandb`, as an offline run leaves it; read without wandb.

A seven-byte head, then blocks of 32 KiB as in LevelDB's log: records of checksum, length, kind (whole, first, middle,
last) and a piece of a protocol-buffer `Record`. The history and the configuration come as JSON inside it.
Field numbers: wandb/proto/wandb_internal.proto.
"""

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from regard.errors import RunLogError
from regard.runlog.importers.table import Table, add_rows
from regard.runlog.importers.wire import WireError, fields, signed

_HEAD, _MAGIC = 7, b":W&B"
_BLOCK, _RECORD_HEAD = 32768, 7
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_HISTORY, _CONFIG, _RUN = 2, 5, 17
_RUN_CONFIG, _UPDATE, _ITEM, _HISTORY_STEP = 4, 1, 1, 2
_KEY, _NESTED_KEY, _VALUE = 1, 2, 16


def sniff(path: Path) -> Path | None:
    """A `.wandb` file; in a directory the latest by name, also of `wandb/offline-run-…` below it."""
    if path.is_file():
        return path if path.suffix == ".wandb" else None
    found = sorted([*path.glob("*.wandb"), *path.glob("*run-*/*.wandb"), *path.glob("wandb/*run-*/*.wandb")])
    return found[-1] if found else None


def read(path: Path) -> Table:
    content = path.read_bytes()
    if not content.startswith(_MAGIC):
        raise RunLogError(f"{path} does not begin as a wandb file does. Give run-<id>.wandb of an offline run.")
    table = Table()
    rows: list[tuple[int, dict[str, Any]]] = []
    broken = 0
    for number, record in enumerate(_records(content, path.name, table.notes), 1):
        try:
            row = _read_record(record, table.config)
        except (WireError, ValueError, RecursionError):  # also text that is not UTF-8, and JSON that is not JSON
            broken += 1
            continue
        if row is not None:
            rows.append((number, row))
    if broken:
        table.notes.append(f"{path.name}: {broken} unreadable record(s) left out.")
    if not rows:
        raise RunLogError(f"{path} holds no history. Give the file of a run that has logged.")
    for _, row in rows:
        row.pop("_runtime", None)
    add_rows(table, rows, path.name)
    return table


def _records(content: bytes, name: str, notes: list[str]) -> Iterator[bytes]:
    """Whole records; a piece with a wrong checksum is dropped with the record it belongs to."""
    at, parts, damaged = _HEAD, list[bytes](), 0
    while at + _RECORD_HEAD <= len(content):
        left = _BLOCK - at % _BLOCK
        if left < _RECORD_HEAD:  # the rest of a block is filled with zeros
            at += left
            continue
        checksum, size, kind = struct.unpack_from("<IHB", content, at)
        piece = content[at + _RECORD_HEAD : at + _RECORD_HEAD + size]
        if len(piece) < size:
            break
        if zlib.crc32(bytes([kind]) + piece) != checksum or kind not in (_WHOLE, _FIRST, _MIDDLE, _LAST):
            damaged, parts = damaged + 1, []
            at += left  # lengths can no longer be trusted in this block
            continue
        at += _RECORD_HEAD + size
        parts = [piece] if kind in (_WHOLE, _FIRST) else [*parts, piece]
        if kind in (_WHOLE, _LAST):
            yield b"".join(parts)
            parts = []
    if damaged:
        notes.append(f"{name}: {damaged} damaged block(s) left out.")
    if at < len(content) or parts:
        notes.append(f"{name}: the end is torn and was left out.")


def _read_record(record: bytes, config: dict[str, Any]) -> dict[str, Any] | None:
    """The row of a history record; a configuration goes into `config`."""
    row: dict[str, Any] | None = None
    for number, raw in fields(record):
        if not isinstance(raw, bytes):
            continue
        if number == _HISTORY:
            row = _items(raw, _ITEM)
            for inner, step in fields(raw):
                if inner == _HISTORY_STEP and isinstance(step, bytes):
                    row.setdefault(
                        "_step", next((signed(v) for n, v in fields(step) if n == 1 and isinstance(v, int)), 0)
                    )
        elif number == _CONFIG:
            config.update(_items(raw, _UPDATE))
        elif number == _RUN:
            for inner, update in fields(raw):
                if inner == _RUN_CONFIG and isinstance(update, bytes):
                    config.update(_items(update, _UPDATE))
    return row


def _items(message: bytes, which: int) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for number, raw in fields(message):
        if number != which or not isinstance(raw, bytes):
            continue
        path: list[str] = []
        value: object = None
        for inner, part in fields(raw):
            if inner in (_KEY, _NESTED_KEY) and isinstance(part, bytes):
                path.append(part.decode("utf-8"))
            elif inner == _VALUE and isinstance(part, bytes):
                value = json.loads(part.decode("utf-8"))
        node = result
        for key in path[:-1]:
            inside: object = node.setdefault(key, {})
            if not isinstance(inside, dict):
                break
            node = cast(dict[str, Any], inside)
        if path:
            node[path[-1]] = value
    return result
