"""Floating-point operations that a decoder's work needs, and how many this machine does in a second.

Counted are the products of the model's own weights and of attention, where it looks; not norms, adapters, sampling or
padding, which do no work that is needed. So a share of the machine's limit says how far from the least possible time a
phase was, whatever it spent the rest on.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from regard.models.sequences import ONE_STREAM, transformer_body


@dataclass(frozen=True)
class Sizes:
    """Of a Llama-like decoder."""

    hidden: int
    intermediate: int
    queries: int
    """Width of all query heads together."""
    keys: int
    """Width of all key heads together; values have as much."""
    layers: int
    vocabulary: int

    @classmethod
    def of(cls, model: Any) -> "Sizes":
        """Raises ValueError for a model whose blocks are not made as those of a Llama."""
        config = transformer_body(model).config
        if config.model_type not in ONE_STREAM:
            raise ValueError(f"the products of a {config.model_type} are not known")
        heads = config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // heads
        keys = getattr(config, "num_key_value_heads", None) or heads
        return cls(config.hidden_size, config.intermediate_size, heads * width, keys * width,
                   config.num_hidden_layers, config.vocab_size)  # fmt: skip

    def blocks(self, lengths: Sequence[int], number: int | None = None) -> float:
        """Operations of a forward pass of sequences of these lengths through so many blocks, all if not said."""
        tokens, pairs = sum(lengths), sum(n * (n + 1) / 2 for n in lengths)
        weights = self.hidden * (2 * self.queries + 2 * self.keys + 3 * self.intermediate)
        return (self.layers if number is None else number) * (2 * weights * tokens + 4 * self.queries * pairs)

    def logits(self, tokens: int) -> float:
        """Operations that make the logits of so many tokens."""
        return 2.0 * self.hidden * self.vocabulary * tokens


def operations_per_second(dtype: torch.dtype = torch.float32, size: int = 1024, rounds: int = 3) -> float:
    """The most of a few products of two square matrices, after one that warms up, with the threads in use."""
    a = torch.ones(size, size, dtype=dtype)  # no random number is drawn
    seconds: list[float] = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        torch.mm(a, a)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds[1:])
