"""Log-probabilities of tokens: natural logarithm, at least float32, never more logits in memory than needed."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from regard.ops.checks import check_positive, check_same_shape

VOCABULARY_BLOCK = 512


def at_least_float32(x: Tensor) -> Tensor:
    """float16 and bfloat16 become float32; float32 and float64 stay. A bfloat16 log-softmax is off by several percent.

    Args:
        x: [...] floating point, any unit.
    Returns:
        [...] the same numbers.

    Source: none, a definition.
    """
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def logprobs_from_logits(logits: Tensor, tokens: Tensor) -> Tensor:
    """log π(y_t | s_t) = logits[y_t] − log Σ_v exp(logits[v]).

    Args:
        logits: [B, T, V] (any leading shape).
        tokens: [B, T] token ids.
    Returns:
        [B, T] nats, at most 0.
    Raises:
        ValueError: tokens is not logits without its last dimension.

    Source: the softmax policy of Sutton & Barto (2018), eq. 13.2.
    Differs from source: no.
    """
    check_same_shape(logits_without_vocabulary=logits[..., 0], tokens=tokens)
    return torch.log_softmax(at_least_float32(logits), -1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)


def entropy_from_logits(logits: Tensor) -> Tensor:
    """H(π) = −Σ_v π(v)·log π(v), with 0·log 0 = 0 for a token whose logit is −inf.

    Args:
        logits: [B, T, V] (any leading shape).
    Returns:
        [B, T] nats, from 0 to log V.

    Source: Shannon (1948), section 6.
    Differs from source: no.
    """
    logprobs = torch.log_softmax(at_least_float32(logits), -1)
    return -torch.where(logprobs.isneginf(), 0.0, logprobs).mul(logprobs.exp()).sum(-1)


class LogprobOutput(NamedTuple):
    logprobs: Tensor
    """[N] nats, differentiable."""
    entropy: Tensor | None
    """[N] nats, detached; None unless asked for."""


def chunked_logprobs(
    hidden: Tensor, weight: Tensor, tokens: Tensor, *, chunk_size: int, with_entropy: bool = False
) -> LogprobOutput:
    """log softmax(hidden · weightᵀ)[token] for N tokens, with at most chunk_size·V logits alive at once. Those of a
    single chunk stay alive until its backward pass.

    Each chunk is computed, reduced to two numbers a token and dropped. If the output embedding is trained, the backward
    pass computes it again where there is more than one chunk: memory falls from N·V to chunk_size·V numbers for one
    more matrix product. With z the logits and u the gradient of log π(y),

        ∂ log π(y) / ∂z_v = 1[v = y] − exp(z_v − log Σ exp z),   ∂/∂h = u·Wᵀ∂z,   ∂/∂W = Σ u·∂z hᵀ

    If it is frozen, only the hidden state has a gradient,

        ∂ log π(y) / ∂h = W_y − Σ_v π(v)·W_v

    D numbers a token, which are computed at once, and nothing is computed again.

    Args:
        hidden: [N, D] state before each token.
        weight: [V, D] output embedding, of the dtype of hidden.
        tokens: [N] token ids.
        chunk_size: tokens whose logits are alive at once, at least 1. Changes memory, not the result.
        with_entropy: also return the entropy of each distribution, as a metric without gradient.
    Returns:
        logprobs [N] and entropy [N] or None, in nats; float32, or float64 for float64 input.
    Raises:
        ValueError: chunk_size below 1, or hidden and tokens of different length.

    Source: Chen et al. (2016), arXiv 1604.06174, section 4 (trade computation for memory), applied to the output layer.
    Differs from source: no.
    """
    check_positive(chunk_size=chunk_size)
    check_same_shape(hidden_without_width=hidden[:, 0], tokens=tokens)
    if len(tokens) == 0:
        nothing = at_least_float32(hidden.sum(-1))
        return LogprobOutput(nothing, nothing.detach() if with_entropy else None)
    of_trained = cast(Callable[..., tuple[Tensor, Tensor]], _TrainedEmbedding.apply)  # pyright: ignore[reportUnknownMemberType]
    of_frozen = cast(Callable[..., tuple[Tensor, Tensor]], _FrozenEmbedding.apply)  # pyright: ignore[reportUnknownMemberType]
    if weight.requires_grad:
        if len(tokens) <= chunk_size:  # one chunk is alive anyway
            logprobs, entropy = _chunk(hidden, weight, tokens, with_entropy)
        else:
            logprobs, entropy = of_trained(hidden, weight, tokens, with_entropy, chunk_size)
        return LogprobOutput(logprobs, entropy if with_entropy else None)
    parts: list[Tensor] = []
    entropies: list[Tensor] = []
    for start in range(0, len(tokens), chunk_size):
        rows = slice(start, start + chunk_size)
        logprobs, entropy = of_frozen(hidden[rows], weight, tokens[rows], with_entropy)
        parts.append(logprobs)
        entropies.append(entropy)
    return LogprobOutput(torch.cat(parts), torch.cat(entropies) if with_entropy else None)


def _chunk(hidden: Tensor, weight: Tensor, tokens: Tensor, with_entropy: bool) -> tuple[Tensor, Tensor]:
    logits = at_least_float32(output_logits(hidden, weight))
    entropy = entropy_from_logits(logits.detach()) if with_entropy else logits.new_empty(0)
    return logprobs_from_logits(logits, tokens), entropy


class _TrainedEmbedding(torch.autograd.Function):
    """`_chunk` of all tokens, chunk by chunk, forward and again backward; the arrays as wide as the vocabulary that the
    backward pass has are the gradient of the logits and that in the dtype of the embedding."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, hidden: Tensor, weight: Tensor, tokens: Tensor, with_entropy: bool, chunk_size: int
    ) -> tuple[Tensor, Tensor]:
        logprobs, normalisers, entropies = list[Tensor](), list[Tensor](), list[Tensor]()
        for start in range(0, len(tokens), chunk_size):
            rows = slice(start, start + chunk_size)
            token = tokens[rows].unsqueeze(-1)
            logits = at_least_float32(output_logits(hidden[rows], weight))
            every = torch.log_softmax(logits, -1)
            logprobs.append(every.gather(-1, token))
            normalisers.append(logits.gather(-1, token) - logprobs[-1])
            entropies.append(-(every.exp() * every).sum(-1) if with_entropy else logits.new_empty(0))
        ctx.save_for_backward(hidden, weight, tokens, torch.cat(normalisers))
        ctx.chunk_size = chunk_size
        entropy = torch.cat(entropies)
        ctx.mark_non_differentiable(entropy)
        return torch.cat(logprobs).squeeze(-1), entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        hidden, weight, tokens, normalisers = ctx.saved_tensors
        of_hidden, of_weight = torch.empty_like(hidden), torch.zeros_like(weight)
        for start in range(0, len(tokens), ctx.chunk_size):
            rows = slice(start, start + ctx.chunk_size)
            factor = upstream[rows].unsqueeze(-1)
            grad = at_least_float32(output_logits(hidden[rows], weight))
            grad.sub_(normalisers[rows]).exp_().mul_(-factor).scatter_add_(-1, tokens[rows].unsqueeze(-1), factor)
            grad = grad.to(weight.dtype)
            of_hidden[rows] = grad @ weight
            of_weight.addmm_(grad.T, hidden[rows])
        return of_hidden, of_weight, None, None, None


class _FrozenEmbedding(torch.autograd.Function):
    """`_chunk` for an output embedding without gradient."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, tokens: Tensor, with_entropy: bool) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        logits = at_least_float32(output_logits(hidden, weight))
        logprobs = torch.log_softmax(logits, -1)  # as `_chunk` does: equal weights then have a KL of exactly 0
        chosen = logprobs.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
        # A product of finite rows has no logit of −inf, so 0·log 0 needs no care here.
        entropy = -(logprobs.exp() * logprobs).sum(-1) if with_entropy else logits.new_empty(0)
        if ctx.needs_input_grad[0]:
            expected = logprobs.exp_().to(weight.dtype) @ weight
            ctx.save_for_backward(at_least_float32(weight[tokens]) - at_least_float32(expected))
        ctx.mark_non_differentiable(entropy)
        return chosen, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (direction,) = ctx.saved_tensors
        return upstream.unsqueeze(-1) * direction, None, None, None  # autograd casts to the dtype of `hidden`


def output_logits(hidden: Tensor, weight: Tensor) -> Tensor:
    """hidden · weightᵀ, by blocks of the vocabulary where no gradient is asked for: on a processor, a product with an
    output as wide as a vocabulary runs at half the speed of a narrow one.

    Args:
        hidden: [N, D] state before each token.
        weight: [V, D] output embedding, of the dtype of hidden.
    Returns:
        [N, V] of that dtype.

    Source: none, a matrix product.
    """
    if torch.is_grad_enabled() or hidden.device.type != "cpu":
        return hidden @ weight.T
    logits = hidden.new_empty(len(hidden), len(weight))
    for start in range(0, len(weight), VOCABULARY_BLOCK):
        block = slice(start, start + VOCABULARY_BLOCK)
        logits[:, block] = hidden @ weight[block].T
    return logits
