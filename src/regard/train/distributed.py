"""Several processes under torchrun: rows are dealt out, sums are shared, rank 0 writes.

Every process knows the whole global batch of rollouts (they are small) and computes rewards, advantages and metrics of
it, so nothing but gradients, generated rows and counts crosses between processes.
"""

import os
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


class World(NamedTuple):
    rank: int
    size: int

    def own(self, rows: list[T]) -> list[T]:
        """This process's share of the rows of a global batch."""
        return rows[self.rank :: self.size]

    def gather(self, own: list[T]) -> list[T]:
        """All processes' shares, back in the order before `own`."""
        if self.size == 1:
            return own
        shares: list[Any] = [None] * self.size
        dist.all_gather_object(shares, own)
        rows: list[Any] = [None] * sum(map(len, shares))
        for rank, share in enumerate(shares):
            rows[rank :: self.size] = share
        return rows

    def sum(self, values: Tensor) -> Tensor:
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def sum_gradients(self, parameters: list[Any]) -> None:
        """Add up gradients: each loss is already divided by the global count, so the sum is the global gradient. Every
        process must have those of the same parameters."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.size == 1 or not gradients:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        for gradient, whole in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(whole.view_as(gradient))

    def barrier(self) -> None:
        if self.size > 1:
            dist.barrier()


def start_world() -> World:
    """Join the process group torchrun announces; alone without one."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size > 1 and not dist.is_initialized():
        dist.init_process_group("gloo")
    return World(int(os.environ.get("RANK", "0")), size)
