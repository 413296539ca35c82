"""The wire format of protocol buffers, as far as logs need it: which field, and its raw value.

Field numbers are public and stable, so two logs can be read without the packages that wrote them:
https://protobuf.dev/programming-guides/encoding/.
"""

import struct
from collections.abc import Iterator


class WireError(ValueError):
    """The bytes are not a message."""


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) in order: an int for varints, the bytes for everything else.

    Raises:
        WireError: the message breaks off, or uses a wire type that does not exist.
    """
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        if kind == 2:
            size, at = _varint(message, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise WireError(f"wire type {kind}")
        if at + size > len(message):
            raise WireError("breaks off")
        yield tag >> 3, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 70:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise WireError("a number breaks off")


def signed(value: int) -> int:
    """An int64 from its varint."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >= 1 << 63 else value


def float32(raw: bytes) -> float:
    return struct.unpack("<f", raw)[0]


def float64(raw: bytes) -> float:
    return struct.unpack("<d", raw)[0]
