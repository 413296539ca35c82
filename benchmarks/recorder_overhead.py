"""What RegardCallback costs a training step: GRPO of TRL with and without it, in turn, on the same seed.

Environment and WORK as for `trl_healthy.py`:

    PYTHONPATH=src OMP_NUM_THREADS=1 .trl/bin/python benchmarks/recorder_overhead.py --work WORK

A model of some 100,000 parameters is the hard case: its steps are short and each leaves 64 responses with their tokens.
Both arms compute the same numbers, so pairs of runs differ by the recorder and by the noise of the machine. Prints one
JSON line: the median over pairs of the relative difference of the median step, and the time spent inside the callback
as a share of the median step without it.
"""

import argparse
import json
import os
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from trl_healthy import make_trainer

from regard.integrations.trl import RegardCallback


class Clock(TrainerCallback):
    """Time at the beginning of each step; the difference of two is a whole step with its logging."""

    def __init__(self) -> None:
        self.begun: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.begun.append(time.perf_counter())

    @property
    def steps(self) -> list[float]:
        return [after - before for before, after in zip(self.begun, self.begun[1:], strict=False)]


class Timed(RegardCallback):
    """The callback, and the seconds spent in it after the training has begun."""

    inside = 0.0

    def on_log(self, *arguments: Any, **named: Any) -> None:
        started = time.perf_counter()
        super().on_log(*arguments, **named)
        self.inside += time.perf_counter() - started

    def on_step_end(self, *arguments: Any, **named: Any) -> None:
        started = time.perf_counter()
        super().on_step_end(*arguments, **named)
        self.inside += time.perf_counter() - started


def run(work: Path, steps: int, recorded: bool) -> tuple[float, float]:
    """(median seconds of a step, seconds a step inside the callback)."""
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
    return statistics.median(clock.steps), callback.inside / steps if callback else 0.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--steps", type=int, default=30)
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    run(options.work, 5, recorded=True)  # warm-up
    differences: list[float] = []
    plain: list[float] = []
    inside: list[float] = []
    for pair in range(options.pairs):
        arms = (True, False) if pair % 2 else (False, True)
        seconds = {recorded: run(options.work, options.steps, recorded) for recorded in arms}
        differences.append(seconds[True][0] / seconds[False][0] - 1)
        plain.append(seconds[False][0])
        inside.append(seconds[True][1] / seconds[False][0])
    print(
        json.dumps(
            {
                "pairs": options.pairs,
                "steps": options.steps,
                "median_step_s": round(statistics.median(plain), 4),
                "difference_percent": [round(100 * value, 2) for value in differences],
                "median_difference_percent": round(100 * statistics.median(differences), 2),
                "inside_callback_percent": round(100 * statistics.median(inside), 2),
            }
        )
    )


if __name__ == "__main__":
    main()
