"""What every stage shares: optimiser step, schedule, checkpoints, resource meters."""

import ctypes
import gc
import resource
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from regard.config import RecipeConfig
from regard.models.checkpoints import checkpoints, load_checkpoint, prune_checkpoints, save_checkpoint
from regard.runlog.writer import RunWriter, StageWriter
from regard.train.adamw import AdamW
from regard.train.distributed import World


@dataclass
class Context:
    """A run in progress, as handed to each stage."""

    config: RecipeConfig
    run: RunWriter
    world: World
    quiet: bool = False

    def final(self, stage: str) -> Path:
        """Where a stage leaves its finished model."""
        return self.run.path / "stages" / stage / "final"


class StepStats(NamedTuple):
    grad_norm: float
    """L2 norm over all trained weights, before scaling down."""
    clipped: bool
    finite: bool
    value_grad_norm: float | None = None
    """The same over the value's weights alone, where they were named."""

    @classmethod
    def of(cls, steps: Sequence["StepStats"]) -> "StepStats":
        """Of models that took their steps one by one."""
        return cls(
            grad_norm=sum(step.grad_norm**2 for step in steps) ** 0.5,
            clipped=any(step.clipped for step in steps),
            finite=all(step.finite for step in steps),
            value_grad_norm=next((step.value_grad_norm for step in steps if step.value_grad_norm is not None), None),
        )


class GradientStep:
    """AdamW on gradients scaled to at most `max_grad_norm`.

    A step whose gradient is not finite is skipped and counted: applying it would destroy every weight at once.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        max_grad_norm: float,
        world: World,
        *,
        value_parameters: Sequence[nn.Parameter] = (),
    ) -> None:
        self.optimizer = AdamW(groups)
        self.peaks = [group["lr"] for group in self.optimizer.param_groups]
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.max_grad_norm = max_grad_norm
        self.world = world
        self.value_parameters = value_parameters

    def begin(self, parameters: Sequence[nn.Parameter] | None = None) -> None:
        """Gradients of zero, for the backward passes of one step to add to. `parameters`: those to step, if not all;
        models that share no weight can take their steps one by one. Every process then has those of the same weights,
        with or without rows of its own."""
        for parameter in self.parameters if parameters is None else parameters:
            parameter.grad = torch.zeros_like(parameter, dtype=parameter.grad_dtype)

    def step(self, schedule: float) -> StepStats:
        """`schedule` multiplies every group's peak learning rate."""
        self.world.sum_gradients(self.parameters)
        value_norm = self._value_grad_norm()
        norm = float(nn.utils.clip_grad_norm_(self.parameters, self.max_grad_norm))
        finite = norm == norm and norm != float("inf")
        if finite:
            for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
                group["lr"] = peak * schedule
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return StepStats(norm, norm > self.max_grad_norm, finite, value_norm)

    def _value_grad_norm(self) -> float | None:
        grads = [p.grad for p in self.value_parameters if p.grad is not None]
        return float(nn.utils.get_total_norm(grads)) if grads else None


def linear_schedule(step: int, total: int, warmup: int, floor: float = 0.1) -> float:
    """Factor of the peak learning rate: rises over `warmup` steps, then falls linearly to `floor`."""
    if step < warmup:
        return (step + 1) / warmup
    return floor + (1 - floor) * (1 - (step - warmup) / max(1, total - warmup))


@dataclass
class Saver:
    """Checkpoints of one stage."""

    log: StageWriter
    parameters: dict[str, nn.Parameter]
    update: GradientStep
    world: World
    every: int
    keep_every: int
    total: int
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def directory(self) -> Path:
        return self.log.dir / "checkpoints"

    def resume(self) -> int:
        """Restore the newest checkpoint, if any; returns the number of finished steps."""
        found = checkpoints(self.directory)
        if not found:
            return 0
        state = load_checkpoint(found[-1], self.parameters, self.update.optimizer)
        self.extra = {k: v for k, v in state.items() if k != "step"}
        self.log.event("resume", step=state["step"])
        return state["step"]

    def save(self, done: int) -> None:
        if done % self.every and done != self.total:
            return
        if self.world.rank == 0:
            save_checkpoint(self.directory, done, self.parameters, self.update.optimizer, self.extra)
            prune_checkpoints(self.directory, self.keep_every)
        self.world.barrier()


def prepare_process() -> None:
    """What every process that trains begins with: only operations that give the same bits again, memory that is kept,
    and a garbage collector with less to look at."""
    torch.use_deterministic_algorithms(True)
    # To betray a read of what was never written, every new array would be filled.
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
    keep_memory()
    leave_libraries_alone()


def micro_batches(rows: list[Any], size: int) -> Iterable[list[Any]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Of `mallopt` in malloc.h of the GNU C library."""


def keep_memory() -> None:
    """Freed arrays stay with the process, for the next ones. Otherwise every large array is asked of the system anew,
    which fills it with zeros page by page: a run of `tiny` has ten times as many page faults then."""
    with suppress(OSError, AttributeError):  # not every C library can
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


@cache
def leave_libraries_alone() -> None:
    """The garbage collector need not look at what is there when the first run begins: the libraries alone take a
    quarter of a second each time."""
    gc.freeze()


def give_back_memory() -> None:
    """To the system, what nothing holds any more: a stage's worth of gigabytes."""
    gc.collect()
    with suppress(OSError, AttributeError):  # not every C library can
        ctypes.CDLL(None).malloc_trim(0)


class Meter:
    """Wall seconds and peak resident memory of a stage."""

    def __init__(self) -> None:
        self.start = time.monotonic()
        with suppress(OSError):  # resets the kernel's high-water mark of this process; Linux only
            Path("/proc/self/clear_refs").write_text("5")

    def seconds(self) -> float:
        return time.monotonic() - self.start

    def peak_gb(self) -> float:
        with suppress(OSError):
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024 / 1e9
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
