"""Writing files so that a crash leaves the old content or the new, and a full disk is an error a person can act on."""

import errno
import json
import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath

from regard.errors import RunLogError


@contextmanager
def write_errors(path: Path) -> Generator[None, None, None]:
    """Turn a failed write to `path` into a sentence that says what to do next."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            message = f"The disk is full: {path} could not be written. Free some space, then continue with --resume."
        else:
            reason = error.strerror or str(error)
            message = f"{path} could not be written ({reason}). Mend that, or choose another directory with --out."
        raise RunLogError(message) from error


def write_atomic(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Write to a temporary name beside `path`, flush to disk, rename. A failure leaves `path` as it was.

    Without `sync` it is still whole after a kill of the process, but not after a power cut.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with write_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                if sync:
                    os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise


def to_json(value: object, *, indent: int | None = None) -> str:
    """JSON with NaN and Infinity as such, and paths as text; any other foreign type is our bug and raises TypeError."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, default=_plain)
    # A file name that is not UTF-8 reaches argv as lone surrogates; this leaves them as JSON's own escapes.
    return text.encode("utf-8", errors="backslashreplace").decode("utf-8")


def _plain(value: object) -> object:
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written to a run record: {value!r}")
