"""Causal attention for the short sequences of training, under a name of transformers' registry: products of torch for
bfloat16, and sequences of different lengths without padding. For models whose attention is that and nothing else
(`ONE_STREAM`).

Sequences lie one after another as one row (`packed`), so that no layer computes padding. (Krell et al. 2021, arXiv
2107.02027, hide the other sequences by a mask instead, which computes all pairs.) Short ones in bfloat16 go through C
one by one, where there is a compiler (`between.py`), and do not come here. Others are padded for attention alone: the
library's fused kernel is made for long sequences, and of some tens of tokens its backward pass is slow, so queries that
share a key are rows of one product, and no key is copied. Scores are float32 in all of them. Everything else (float32,
long sequences, padding on the left, a cache) goes to the library's kernel, which is the oracle of these in the tests.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from regard.models.sizes import FEW, SHORT, filled

NAME = "regard"
TOGETHER = 8
"""Sequences that are padded to one length: of more the padding grows, of fewer the calls."""


class _Packed:
    """Sequences that lie one after another in a row of N tokens; what follows them in the row is none's."""

    def __init__(self, lengths: Sequence[int], total: int) -> None:
        self.lengths, self.total = lengths, total

    @cached_property
    def begins(self) -> Tensor:
        """Where each sequence begins, and where the last one ends."""
        return torch.tensor([0, *self.lengths]).cumsum(0)

    @cached_property
    def places(self) -> "_Places":
        begun = 0
        shapes: list[tuple[int, int]] = []
        batches: list[Tensor] = []
        for start in range(0, len(self.lengths), TOGETHER):
            some = self.lengths[start : start + TOGETHER]
            shapes.append((len(some), filled(max(some), FEW)))
            padded = torch.full(shapes[-1], self.total)
            for row, length in enumerate(some):
                padded[row, :length] = torch.arange(begun, begun + length)
                begun += length
            batches.append(padded.flatten())
        flat = torch.cat(batches)
        packed = torch.full((self.total,), len(flat))  # of a token that is none's: beyond the last
        packed[:begun] = (flat < self.total).nonzero().squeeze(1)
        return _Places(shapes, flat, packed)


class _Places(NamedTuple):
    """Where the N tokens of packed sequences stand when they are padded for attention, and the reverse."""

    shapes: list[tuple[int, int]]
    """Sequences and length of each padded batch."""
    padded: Tensor
    """The token at each place of all batches, or N."""
    packed: Tensor
    """[N] the place of each token, or one beyond the last."""


_PACKED: ContextVar[_Packed | None] = ContextVar("packed", default=None)


@contextmanager
def packed(lengths: Sequence[int], total: int) -> Iterator[None]:
    """Inside, a batch of one row of `total` tokens is so many sequences one after another, which do not see each other,
    and tokens that are none's. Neighbours should be of similar length."""
    token = _PACKED.set(_Packed(lengths, total))
    try:
        yield
    finally:
        _PACKED.reset(token)


def packed_row() -> _Packed | None:
    """What `packed` was told, inside of it."""
    return _PACKED.get()


class _Moved(torch.autograd.Function):
    """y_i = x[there_i], zeros where there_i is beyond the last row; every row of x that is moved comes to one place,
    which `back` names, so the gradient is moved back and nothing is added up."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, there: Tensor, back: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.save_for_backward(back)
        return _rows(x, there)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (back,) = ctx.saved_tensors
        return _rows(grad, back), None, None


def _rows(x: Tensor, which: Tensor) -> Tensor:
    return torch.cat([x, x.new_zeros(1, x.shape[1])]).index_select(0, which)


def attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **settings: Any
) -> tuple[Tensor, None]:
    """softmax(QKᵀ·scaling + causal mask)·V.

    Args:
        query: [B, H, L, W]; key, value: [B, G, L, W], each for H/G neighbouring heads. Inside `packed` B is 1 and L the
            tokens of all sequences.
        attention_mask: None where nothing is hidden but the future.
    Returns:
        [B, L, H, W], and None for the weights.
    """
    row = packed_row()
    if row is None:
        return _attend(module, query, key, value, attention_mask, **settings), None
    width = query.shape[-1]
    places = row.places
    sizes = [rows * longest for rows, longest in places.shapes]
    batches = zip(
        *(
            _Moved.apply(x.transpose(1, 2).flatten(2)[0], places.padded, places.packed).split(sizes)
            for x in (query, key, value)
        ),
        strict=True,
    )
    seen: list[Tensor] = []
    for shape, batch in zip(places.shapes, batches, strict=True):
        some_query, some_key, some_value = (x.view(*shape, -1, width).transpose(1, 2) for x in batch)
        seen.append(_attend(module, some_query, some_key, some_value, None, **settings).flatten(2))
    flat = torch.cat([x.flatten(0, 1) for x in seen])
    return _Moved.apply(flat, places.packed, places.padded).view(1, -1, query.shape[1], width), None


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **settings: Any
) -> Tensor:
    (batch, heads, length, width), groups = query.shape, key.shape[1]
    plain = attention_mask is None and key.shape == value.shape == (batch, groups, length, width)
    plain = plain and not settings.get("dropout")
    if not plain or query.dtype is not torch.bfloat16 or not 1 < length <= SHORT:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **settings)[0]
    rows = batch * groups
    queries = (query.float() * settings.get("scaling", width**-0.5)).reshape(rows, -1, width)
    scores = torch.bmm(queries, key.float().reshape(rows, length, width).mT).view(rows, -1, length, length)
    future = torch.full((length, length), -torch.inf).triu(1)
    weights = torch.softmax(scores + future, -1).to(value.dtype).view(rows, -1, length)
    seen = torch.bmm(weights, value.reshape(rows, length, width)).view(batch, heads, length, width)
    return seen.transpose(1, 2).contiguous()


def _mask(*args: Any, **settings: Any) -> Tensor | None:
    return sdpa_mask(*args, **settings) if _PACKED.get() is None else None


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, _mask)
