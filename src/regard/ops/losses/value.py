"""The regression of the value on the returns."""

from typing import NamedTuple

import torch
from torch import Tensor

from regard.ops.checks import check_positive, check_same_shape
from regard.ops.masking import zero_outside


class ValueLossOutput(NamedTuple):
    """The loss, and sums over response tokens that add up across micro-batches. Only loss has a gradient."""

    loss: Tensor
    """[] squared score units."""
    clip_count: Tensor
    """[] tokens where the clipped error is the larger, so that the value gets no gradient."""
    error_sq_sum: Tensor
    """[] Σ (value − return)², unclipped and without the ½."""
    num_tokens: Tensor
    """[] response tokens in this micro-batch."""


def clipped_value_loss(
    values: Tensor,
    old_values: Tensor,
    returns: Tensor,
    response_mask: Tensor,
    *,
    value_clip_range: float | None,
    num_loss_tokens: float,
) -> ValueLossOutput:
    """L = (1/N)·Σ_t ½·max((V_t − R_t)², (V_old + clip(V_t − V_old, −ε, ε) − R_t)²).

    Args:
        values: [B, T] value in training, score units.
        old_values: [B, T] the value when the rollout was made; constant.
        returns: [B, T] targets, constant: the target never carries the gradient.
        response_mask: [B, T] non-zero on response tokens.
        value_clip_range: ε > 0, score units; None is the plain squared error.
        num_loss_tokens: N, response tokens of the whole batch over all micro-batches and processes.
    Returns:
        loss and statistics.
    Raises:
        ValueError: shapes differ; value_clip_range or num_loss_tokens not positive.

    Source: the critic's squared error, Xiao & Zhu (2025), arXiv 2501.09223, chapter 4; the clipping, Huang et al.
    (2022), "The 37 implementation details of PPO", detail 9, after OpenAI baselines ppo2.
    Differs from source: factor ½ as in baselines; the course has 1, which only rescales the value coefficient. Token
    sum over a denominator of the caller's.
    """
    check_same_shape(values=values, old_values=old_values, returns=returns, response_mask=response_mask)
    check_positive(num_loss_tokens=num_loss_tokens)
    mask = response_mask.bool()
    values = zero_outside(values, mask)
    old_values, returns = zero_outside(old_values.detach(), mask), zero_outside(returns.detach(), mask)
    error = (values - returns).square()
    worst, clipped_count = error, mask.new_zeros((), dtype=torch.long)
    if value_clip_range is not None:
        check_positive(value_clip_range=value_clip_range)
        clipped = old_values + (values - old_values).clamp(-value_clip_range, value_clip_range)
        clipped_error = (clipped - returns).square()
        worst, clipped_count = torch.maximum(error, clipped_error), (clipped_error > error).sum()
    return ValueLossOutput(
        loss=0.5 * worst.sum() / num_loss_tokens,
        clip_count=clipped_count,
        error_sq_sum=error.detach().sum(),
        num_tokens=mask.sum(),
    )
