"""One writer per run directory, by a lock that the operating system drops when the writer dies."""

import fcntl
import os
import weakref
from pathlib import Path

from regard.errors import RunLogError

LOCK_NAME = ".lock"


class DirectoryLock:
    """Exclusive lock on a directory, held until `release` or the end of the process, `kill -9` included.

    The lock file stays behind on purpose: deleting it would let two processes lock two files of the same name.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / LOCK_NAME
        self._fd: int | None = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._fd, 32, 0).decode("ascii", errors="replace").strip() or "unknown"
            self.release()
            raise RunLogError(
                f"{directory} is in use by process {holder}. "
                "Wait for it to end, or choose another directory with --out."
            ) from None
        except OSError:
            self.release()
            raise
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode("ascii"), 0)
        _held.add(self)

    def release(self) -> None:
        """Drop the lock; a second call does nothing."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


_held: weakref.WeakSet[DirectoryLock] = weakref.WeakSet()


def _drop_copies() -> None:
    # A forked child (a data-loading worker, say) inherits the descriptor, and would hold the lock after a kill of its
    # parent. Closing a copy does not unlock the original.
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_drop_copies)
