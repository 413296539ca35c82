"""What RegardCallback costs a training step: GRPO of TRL with and without it, in turn, on the same seed.

Environment and WORK as for `trl_healthy.py`:

    PYTHONPATH=src OMP_NUM_THREADS=1 $TRL benchmarks/recorder_overhead.py --work WORK

A model of some 100,000 parameters is the hard case: its steps are short and each leaves 64 responses with their tokens.
Both arms compute the same numbers, so a pair of runs differs by the recorder and by the noise of the machine. Prints
one JSON line with medians over the pairs: the difference in wall time of the median step; the difference in processor
time, the recorder's thread included; and the processor time that the training's own thread spends in the callback, as a
share of its step, which other work on the machine disturbs least.
"""

import argparse
import itertools
import json
import shutil
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import TrainerCallback
from trl_healthy import make_trainer

from regard.integrations.trl import RegardCallback


class Clock(TrainerCallback):
    """Three clocks at the beginning of each step; the difference of two is a whole step with its logging."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self.thread: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.wall.append(time.perf_counter())
        self.cpu.append(time.process_time())
        self.thread.append(time.thread_time())


class Timed(RegardCallback):
    """The callback, and the processor time that the thread of the training spends in it once it has begun."""

    inside = 0.0

    def on_log(self, *arguments: Any, **named: Any) -> None:
        started = time.thread_time()
        super().on_log(*arguments, **named)
        self.inside += time.thread_time() - started

    def on_step_end(self, *arguments: Any, **named: Any) -> None:
        started = time.thread_time()
        super().on_step_end(*arguments, **named)
        self.inside += time.thread_time() - started


class Arm(NamedTuple):
    """Seconds a step of one training."""

    wall: float
    cpu: float
    thread: float
    inside: float


def run(work: Path, steps: int, recorded: bool) -> Arm:
    torch.manual_seed(1)
    trainer = make_trainer("grpo", 1, work, steps)
    clock = Clock()
    trainer.add_callback(clock)
    callback = None
    if recorded:
        record = work / "overhead-record"
        shutil.rmtree(record, ignore_errors=True)
        callback = Timed(record, trainer)
        trainer.add_callback(callback)
    trainer.train()
    inside = callback.inside / steps if callback else 0.0
    return Arm(_median_step(clock.wall), _median_step(clock.cpu), _median_step(clock.thread), inside)


def _median_step(times: list[float]) -> float:
    return statistics.median(after - before for before, after in itertools.pairwise(times))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--steps", type=int, default=30)
    options = parser.parse_args()
    torch.set_num_threads(1)
    run(options.work, 5, recorded=True)  # warm-up
    pairs: list[tuple[Arm, Arm]] = []
    for pair in range(options.pairs):
        order = (True, False) if pair % 2 else (False, True)
        arms = {recorded: run(options.work, options.steps, recorded) for recorded in order}
        pairs.append((arms[False], arms[True]))
    result = {
        "pairs": options.pairs,
        "steps": options.steps,
        "step_s": round(statistics.median(plain.wall for plain, _ in pairs), 4),
        "wall_percent": _percent([ours.wall / plain.wall - 1 for plain, ours in pairs]),
        "cpu_percent": _percent([ours.cpu / plain.cpu - 1 for plain, ours in pairs]),
        "own_thread_percent": _percent([ours.inside / plain.thread for plain, ours in pairs]),
    }
    print(json.dumps(result))


def _percent(shares: list[float]) -> dict[str, Any]:
    return {"median": round(100 * statistics.median(shares), 2), "all": [round(100 * share, 2) for share in shares]}


if __name__ == "__main__":
    main()
