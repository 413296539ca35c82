"""What stands between the products of a block, for models that train or score in bfloat16: norms, gates, and attention
of short sequences with the rotation before it, each in one pass of C (`kernels.c`) forward and one backward.

The parts of the library's blocks stay what they are but for how they compute. In float32, with a cache, for long
sequences, or where there is no compiler, they do as before, which is their oracle in the tests.
"""

from ctypes import CDLL
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from regard.models.attention import packed_row
from regard.models.native import BLOCK, at, kernels
from regard.models.sizes import SHORT


def use_kernels(model: Any) -> None:
    """Change how the norms, gates and attention of `model`, one of `ONE_STREAM`, compute, not what.

    Each part keeps the width of a head and how many queries share a key, for which `kernels.c` is compiled. Its class
    is made here, so a changed model can be copied and saved as safetensors, but not pickled.
    """
    body = model.base_model
    parts: list[tuple[Any, type]] = [(body.norm, _Norm)]
    for block in body.layers:
        attention = block.self_attn
        parts += [(block.input_layernorm, _Norm), (block.post_attention_layernorm, _Norm), (attention, _Attention)]
        parts += [(norm, _Norm) for name in ("q_norm", "k_norm") if (norm := getattr(attention, name, None))]
        if body.config.hidden_act == "silu":
            parts.append((block.mlp, _Gated))
    heads = attention.head_dim, attention.num_key_value_groups
    for part, way in parts:
        if not isinstance(part, way):
            part.__class__, part.heads = _changed(type(part), way), heads


@cache
def _changed(part: type, way: type) -> type:
    return type(part.__name__, (way, part), {})


class _Norm(nn.Module):
    heads: tuple[int, int]
    weight: Tensor
    variance_epsilon: float

    def forward(self, hidden_states: Tensor) -> Tensor:
        if hidden_states.dtype is self.weight.dtype is torch.bfloat16 and (library := kernels(*self.heads)):
            return Normed.apply(hidden_states, self.weight, self.variance_epsilon, library)  # pyright: ignore[reportReturnType]
        return super().forward(hidden_states)


class _Gated(nn.Module):
    heads: tuple[int, int]
    gate_proj: nn.Module
    up_proj: nn.Module
    down_proj: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype is torch.bfloat16 and (library := kernels(*self.heads)):
            return self.down_proj(LetThrough.apply(self.gate_proj(x), self.up_proj(x), library))
        return super().forward(x)


class _Attention(nn.Module):
    heads: tuple[int, int]
    head_dim: int
    scaling: float
    attention_dropout: float
    q_proj: nn.Module
    k_proj: nn.Module
    v_proj: nn.Module
    o_proj: nn.Module
    q_norm: nn.Module
    k_norm: nn.Module

    def forward(
        self, hidden_states: Tensor, position_embeddings: tuple[Tensor, Tensor], *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        row = packed_row()
        plain = row is not None and max(row.lengths) <= SHORT and not (self.training and self.attention_dropout)
        plain = plain and hidden_states.dtype is torch.bfloat16
        library = kernels(*self.heads) if plain else None
        if row is None or library is None:
            return super().forward(hidden_states, position_embeddings, *args, **kwargs)
        shape = (*hidden_states.shape[1:-1], -1, self.head_dim)
        query, key, value = (of(hidden_states).view(shape) for of in (self.q_proj, self.k_proj, self.v_proj))
        if hasattr(self, "q_norm"):
            query, key = self.q_norm(query), self.k_norm(key)
        assert query.dtype is key.dtype is value.dtype is torch.bfloat16
        cosine, sine = (table[0] for table in position_embeddings)
        seen: Any = Attended.apply(query, key, value, cosine, sine, row.begins, self.scaling, library)
        return self.o_proj(seen.flatten(1).unsqueeze(0)), None


class Normed(torch.autograd.Function):
    """y = w · x / √(mean(x²) + ε) over the last axis (Zhang & Sennrich 2019, arXiv 1910.07467, eq. 4)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, library: CDLL) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        x = x.contiguous()
        ctx.save_for_backward(x, weight)
        ctx.eps, ctx.library = eps, library
        return normed(library, x, weight, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (x, weight), grad = ctx.saved_tensors, grad.contiguous()
        rows, width = x.numel() // len(weight), len(weight)
        of_x, sums = torch.empty_like(x), None
        if ctx.needs_input_grad[1]:
            sums = torch.empty(-(-rows // BLOCK), width, dtype=torch.float32)
        ctx.library.rms_norm_backward(
            at(x), at(weight), at(grad), at(of_x), None if sums is None else at(sums), rows, width, ctx.eps
        )
        return of_x, None if sums is None else sums.sum(0).to(weight.dtype), None, None


def normed(library: CDLL, x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """[…, D] ↦ [..., D], as `Normed`, of what lies in one piece."""
    out = torch.empty_like(x)
    library.rms_norm(at(x), at(weight), at(out), x.numel() // len(weight), len(weight), eps)
    return out


class LetThrough(torch.autograd.Function):
    """x / (1 + e⁻ˣ) · y (SwiGLU of Shazeer 2020, arXiv 2002.05202)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, library: CDLL) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, y = x.contiguous(), y.contiguous()
        ctx.save_for_backward(x, y)
        ctx.library = library
        return gated(library, x, y, x.shape[-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (x, y), grad = ctx.saved_tensors, grad.contiguous()
        of_x, of_y = torch.empty_like(x), torch.empty_like(y)
        rows, width = x.numel() // x.shape[-1], x.shape[-1]
        ctx.library.silu_times_backward(at(x), at(y), at(grad), at(of_x), at(of_y), rows, width)
        return of_x, of_y, None


def gated(library: CDLL, x: Tensor, y: Tensor, stride: int) -> Tensor:
    """Two of […, I] ↦ [..., I], as `LetThrough`; rows of both begin every `stride` numbers, as in a wider array."""
    out = torch.empty(x.shape, dtype=x.dtype)
    width = x.shape[-1]
    library.silu_times(x.data_ptr(), y.data_ptr(), at(out), x.numel() // width, width, stride)
    return out


class Attended(torch.autograd.Function):
    """softmax(R(Q)·R(K)ᵀ·scaling + causal mask)·V of each sequence of a row, with R turning by the angles of a position
    (Su et al. 2021, arXiv 2104.09864, eq. 34; which of a head's numbers are a pair is as in transformers).

    [N, H, W], [N, G, W], [N, G, W], twice [N, W] ↦ [N, H, W]. What is none's sequence gets zeros and gives none.
    """

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, cosine: Tensor, sine: Tensor, begins: Tensor,
        scaling: float, library: CDLL,
    ) -> Tensor:  # fmt: skip
        given = [x.contiguous() for x in (query, key, value, cosine, sine)]
        out = _all_but_rest(given[0], begins)
        library.attend(*map(at, given), at(begins), at(out), len(begins) - 1, key.shape[1], scaling)
        ctx.save_for_backward(*given, begins)
        ctx.scaling, ctx.library = scaling, library
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (*given, begins), grad = ctx.saved_tensors, grad.contiguous()
        found = [_all_but_rest(x, begins) for x in given[:3]]
        ctx.library.attend_backward(
            *map(at, given), at(begins), at(grad), *map(at, found),
            len(begins) - 1, given[1].shape[1], ctx.scaling,
        )  # fmt: skip
        return found[0], found[1], found[2], None, None, None, None, None


def _all_but_rest(like: Tensor, begins: Tensor) -> Tensor:
    """To be filled, with zeros after the last sequence."""
    out = torch.empty_like(like)
    out[int(begins[-1]) :] = 0
    return out
