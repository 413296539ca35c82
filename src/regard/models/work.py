"""Floating-point operations that a decoder's work needs, and how many this machine does in a second.

Counted are the products of the model's own weights and of attention, where it looks (`models/sizes.py`); not norms,
adapters, sampling or padding, which do no work that is needed. So a share of the machine's limit says how far from the
least possible time a phase was, whatever it spent the rest on.
"""

import time
from typing import Any

import torch

from regard.models.sequences import transformer_body
from regard.models.sizes import Sizes


def sizes_of(model: Any) -> Sizes:
    """Raises ValueError for a model whose blocks are not made as those of a Llama."""
    return Sizes.of_config(transformer_body(model).config.to_dict())


def operations_per_second(dtype: torch.dtype = torch.float32, size: int = 1024, rounds: int = 30) -> float:
    """The most of some products of two square matrices, after one that warms up, with the threads in use. With three of
    them, a moment's work of another process made the limit of a whole run a third of what it is."""
    a = torch.ones(size, size, dtype=dtype)  # no random number is drawn
    seconds: list[float] = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        torch.mm(a, a)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds[1:])
