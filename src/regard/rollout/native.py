"""What stands between the products of a decoding step, in C (`models/kernels.c`)."""

import ctypes
from typing import Any

import torch
from torch import Tensor

from regard.models.between import gated, normed
from regard.models.native import at, kernels


class Native:
    """`decode.Between` for bfloat16."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library

    @classmethod
    def compiled(cls, width: int, sharing: int) -> "Native | None":
        library = kernels(width, sharing)
        return None if library is None else cls(library)

    def norm(self, norm: Any, x: Tensor) -> Tensor:
        return normed(self.library, x, norm.weight, norm.variance_epsilon)

    def gated(self, act: Any, both: Tensor) -> Tensor:
        assert both.is_contiguous()
        gate, up = both.chunk(2, -1)
        return gated(self.library, gate, up, both.shape[-1])

    def attend(
        self, projected: Tensor, rotation: tuple[Tensor, Tensor], kept: Tensor, filled: int, first: Tensor, mask: Tensor
    ) -> Tensor:
        """As `decode.Between.attend`, of one new token; the mask follows from `first` and `filled`."""
        _, batch, groups, slots, width = kept.shape
        heads = projected.shape[2] - 2 * groups
        out = projected.new_empty((batch, 1, heads * width))
        scores = torch.empty(batch * heads * (filled + 1))
        cos, sin = (table.contiguous() for table in rotation)
        keys, values = kept
        self.library.attend_new(
            at(projected), at(cos), at(sin), at(first), at(keys), at(values), at(scores), at(out),
            batch, groups, slots, filled, width**-0.5,
        )  # fmt: skip
        return out
