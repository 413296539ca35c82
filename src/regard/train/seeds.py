"""Randomness as a function: (seed, names…) ↦ generator. Nothing depends on what was drawn before, so a resumed step, or
the same step on two processes, draws the same."""

import hashlib

import torch
from torch import Tensor


def derive(seed: int, *names: object) -> int:
    digest = hashlib.sha256("/".join(map(str, (seed, *names))).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, *names: object) -> torch.Generator:
    return torch.Generator().manual_seed(derive(seed, *names))


def uniforms(rows: int, width: int, seed: int, *names: object) -> Tensor:
    """[rows, width] float64 in [0, 1)."""
    return torch.rand((rows, width), generator=generator(seed, *names), dtype=torch.float64)


def epoch_order(length: int, epoch: int, seed: int, *names: object) -> list[int]:
    return torch.randperm(length, generator=generator(seed, *names, "epoch", epoch)).tolist()


def batch_rows(step: int, batch_size: int, length: int, seed: int, *names: object) -> list[int]:
    """Rows of global batch number `step` when every row comes once per epoch, in a new order each epoch."""
    rows: list[int] = []
    position = step * batch_size
    while len(rows) < batch_size:
        epoch, offset = divmod(position + len(rows), length)
        order = epoch_order(length, epoch, seed, *names)
        rows += order[offset : offset + batch_size - len(rows)]
    return rows
