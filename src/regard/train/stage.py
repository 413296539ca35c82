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
from torch import Tensor, nn

from regard.config import RecipeConfig
from regard.models.checkpoints import checkpoints, load_checkpoint, prune_checkpoints, save_checkpoint
from regard.runlog.writer import RunWriter, StageWriter
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


class GradientStep:
    """AdamW (Loshchilov & Hutter 2019, no decay) on gradients scaled to at most `max_grad_norm`.

    A step whose gradient is not finite is skipped and counted: applying it would destroy every weight at once.

    Weights in bfloat16 have a master copy in float32, which gathers their gradients and takes the step; they are then
    rounded from it (Micikevicius et al. 2018, section 3.1). Without it updates below 1/256 of a weight would be lost.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        max_grad_norm: float,
        world: World,
        *,
        value_parameters: Sequence[nn.Parameter] = (),
    ) -> None:
        self.masters = {p: _master(p) for group in groups for p in group["params"]}
        groups = [group | {"params": [self.masters[p] for p in group["params"]]} for group in groups]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=0.0, betas=(0.9, 0.999), eps=1e-8, fused=True)
        self.peaks = [group["lr"] for group in self.optimizer.param_groups]
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.max_grad_norm = max_grad_norm
        self.world = world
        self.value_parameters = [self.masters[p] for p in value_parameters]

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
            self.round_weights()
        self.optimizer.zero_grad(set_to_none=True)
        return StepStats(norm, norm > self.max_grad_norm, finite, value_norm)

    @torch.no_grad()
    def round_weights(self) -> None:
        """Weights in bfloat16 from their masters."""
        for parameter, master in self.masters.items():
            if parameter is not master:
                parameter.copy_(master)

    def _value_grad_norm(self) -> float | None:
        grads = [p.grad for p in self.value_parameters if p.grad is not None]
        return float(nn.utils.get_total_norm(grads)) if grads else None


def _master(parameter: nn.Parameter) -> nn.Parameter:
    """What the optimiser changes: the weight itself, or a copy in float32 that takes over each gradient as it is made.
    Micro-batches then add up in float32 as well."""
    if parameter.dtype is not torch.bfloat16:
        return parameter
    master = nn.Parameter(parameter.detach().float())

    def take_over(rounded: Tensor) -> None:
        assert rounded.grad is not None
        master.grad = rounded.grad.float() if master.grad is None else master.grad.add_(rounded.grad)
        rounded.grad = None

    parameter.register_post_accumulate_grad_hook(take_over)
    return master


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
        state = load_checkpoint(found[-1], self._masters(), self.update.optimizer)
        self.update.round_weights()
        self.extra = {k: v for k, v in state.items() if k != "step"}
        self.log.event("resume", step=state["step"])
        return state["step"]

    def save(self, done: int) -> None:
        if done % self.every and done != self.total:
            return
        if self.world.rank == 0:
            save_checkpoint(self.directory, done, self._masters(), self.update.optimizer, self.extra)
            prune_checkpoints(self.directory, self.keep_every)
        self.world.barrier()

    def _masters(self) -> dict[str, nn.Parameter]:
        return {name: self.update.masters[parameter] for name, parameter in self.parameters.items()}


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
