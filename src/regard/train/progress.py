"""The live line: stage, step, ETA and the numbers a person watches; plain lines when not a terminal."""

import sys
import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN_SECONDS = 10.0
"""Between two plain lines."""

SHOWN = {
    "loss/sft/mean": "loss",
    "loss/rm/mean": "loss",
    "rm/accuracy_train/mean": "accuracy",
    "score/reward_model/mean": "score",
    "gold/judge/mean": "gold",
    "kl/policy_ref_k1/seq_sum": "KL",
    "entropy/policy/token_mean": "entropy",
    "length/response_tokens/mean": "length",
    "finish/truncated/frac": "cut",
    "throughput/tokens_per_s": "tok/s",
}


class StageProgress:
    """Context manager around a stage's loop; `update` after every step."""

    def __init__(self, stage: str, total: int, done: int, *, quiet: bool = False) -> None:
        self.stage, self.total, self.quiet = stage, total, quiet
        self.first = done
        self.started = self.last_line = time.monotonic()
        console = Console(file=sys.stderr)
        self.bar: Progress | None = None
        if console.is_terminal and not quiet:
            self.bar = Progress(
                TextColumn("[bold]{task.description:>8}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[numbers]}"),
                console=console,
            )
            self.task = self.bar.add_task(stage, total=total, completed=done, numbers="")

    def __enter__(self) -> "StageProgress":
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()

    def update(self, done: int, metrics: Mapping[str, float]) -> None:
        numbers = "  ".join(f"{short} {metrics[key]:.4g}" for key, short in SHOWN.items() if key in metrics)
        if self.bar:
            self.bar.update(self.task, completed=done, numbers=numbers)
            return
        now = time.monotonic()
        if self.quiet or (now - self.last_line < PLAIN_SECONDS and done not in (self.first + 1, self.total)):
            return
        self.last_line = now
        left = (now - self.started) / max(1, done - self.first) * (self.total - done)
        print(f"{self.stage} {done}/{self.total}  {left:.0f} s left  {numbers}", file=sys.stderr, flush=True)
