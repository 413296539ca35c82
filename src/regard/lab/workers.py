"""A few processes that are handed one task after the other, so that what they import stays warm.

A task that takes longer than its limit is killed with its process, and a process that dies takes one task with it.
"""

import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection, get_context
from pathlib import Path
from typing import Any

from regard.errors import RegardError

_CONTEXT = get_context("spawn")
IMPORTS = 300.0
"""Seconds that a new process may take to import what it needs."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Done:
    """A task that ended: with a value, or with the reason why there is none.

    Attributes:
        task: as it was given.
        value: what the function returned.
        error: one line; None where it returned.
        seconds: wall time of this task.
    """

    task: Any
    value: Any
    error: str | None
    seconds: float


class _Hand:
    """One process and the task that it is at. Its clock starts when it has imported what it needs."""

    def __init__(self, call: Callable[[Any], Any], task: Any, limit: float) -> None:
        self.pipe, theirs = _CONTEXT.Pipe()
        self.process = _CONTEXT.Process(target=_serve, args=(theirs, call), daemon=True)
        self.process.start()
        theirs.close()
        self.task, self.limit, self.ready = task, limit, False
        self.begun = time.monotonic()
        self.until = self.begun + IMPORTS

    def give(self, task: Any) -> None:
        self.task, self.ready = task, True
        self.begun = time.monotonic()
        self.until = self.begun + self.limit
        self.pipe.send(task)

    def answer(self) -> tuple[Any, str | None]:
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            return None, f"the process ended with code {self.process.exitcode}"

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _serve(pipe: Any, call: Callable[[Any], Any]) -> None:
    pipe.send((None, None))  # ready
    while True:
        try:
            task = pipe.recv()
        except (EOFError, OSError, KeyboardInterrupt):
            return
        try:
            answer = (call(task), None)
        except KeyboardInterrupt:
            return
        except BaseException as error:  # whatever a training can end with is a result here
            where = traceback.extract_tb(error.__traceback__)[-1]
            first = (str(error).splitlines() or [""])[0]
            answer = (None, f"{type(error).__name__}: {first} ({Path(where.filename).name}:{where.lineno})")
        pipe.send(answer)


def work(call: Callable[[Any], Any], tasks: Sequence[Any], *, workers: int, limit: float) -> Iterator[Done]:
    """Run `call(task)` for every task, in the order in which they end.

    Args:
        call: a function that another process can import.
        workers: processes, with one thread of arithmetic each.
        limit: seconds for one task.
    Raises:
        RegardError: a process ended before its first task.
    """
    for name in THREADS:  # read when numpy and torch are imported, which the children do
        os.environ.setdefault(name, "1")
    waiting = list(reversed(tasks))
    hands: list[_Hand] = []
    try:
        for _ in range(min(workers, len(tasks))):
            hands.append(_Hand(call, waiting.pop(), limit))
        while hands:
            patience = max(0.0, min(hand.until for hand in hands) - time.monotonic())
            ready = connection.wait([hand.pipe for hand in hands], patience)
            for hand in list(hands):
                seconds = time.monotonic() - hand.begun
                if hand.pipe in ready:
                    value, error = hand.answer()
                    if not hand.ready:
                        if error is not None:  # it could not even import, and the next would not either
                            raise RegardError(f"A worker could not start: {error}. Its message is above.")
                        hand.give(hand.task)
                        continue
                elif time.monotonic() > hand.until:
                    value, error = None, f"not done after {limit if hand.ready else IMPORTS:g} s"
                else:
                    continue
                done = Done(hand.task, value, error, seconds)
                if waiting and error is None:
                    hand.give(waiting.pop())
                else:  # nothing left, or a process that hangs, is dead, or is in an unknown state after an exception
                    hands.remove(hand)
                    hand.stop()
                    if waiting:
                        hands.append(_Hand(call, waiting.pop(), limit))
                yield done
    finally:
        for hand in hands:
            hand.stop()
