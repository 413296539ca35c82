"""Surrogates whose gradient is (an estimate of) the policy gradient."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from regard.ops.checks import check_positive, check_same_shape
from regard.ops.masking import zero_outside


class PolicyLossOutput(NamedTuple):
    """The loss, and sums over response tokens that add up across micro-batches. Only loss has a gradient."""

    loss: Tensor
    """[] advantage units."""
    ratio_sum: Tensor
    """[] Σ ratio of new to sampling policy; divide by num_tokens."""
    ratio_max: Tensor
    """[] largest ratio; −inf when there is no token."""
    ratio_min: Tensor
    """[] smallest ratio; +inf when there is no token."""
    clip_hi_count: Tensor
    """[] tokens whose gradient is cut because the ratio is above 1 + clip_range."""
    clip_lo_count: Tensor
    """[] tokens whose gradient is cut because the ratio is below 1 − clip_range."""
    approx_kl_sum: Tensor
    """[] Σ ½·(logprob − old_logprob)², nats (k2 between sampling and current policy); divide by num_tokens."""
    num_tokens: Tensor
    """[] response tokens in this micro-batch."""
    ratio_sq_sum: Tensor
    """[] Σ ratio², for its standard deviation."""


def ppo_clip_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    *,
    clip_range: float | None,
    num_loss_tokens: float,
    form: Literal["standard", "course"] = "standard",
) -> PolicyLossOutput:
    """L = −(1/N)·Σ_t min(ρ_t·A_t, clip(ρ_t, 1−ε, 1+ε)·A_t), ρ_t = exp(logprob − old_logprob).

    At ρ = 1 the gradient is that of `a2c_loss`. The ratio is against the policy that sampled, never the reference.

    Args:
        logprobs: [B, T] nats, under the policy in training.
        old_logprobs: [B, T] nats, the same tokens under the policy that sampled them; constant.
        advantages: [B, T] score units (or whitened); constant.
        response_mask: [B, T] non-zero on response tokens.
        clip_range: ε > 0; None switches clipping off.
        num_loss_tokens: N, response tokens of the whole batch over all micro-batches and processes.
        form: "standard", or "course": Σ_t min(ρ_t, clip(ρ_t, 1−ε, 1+ε))·A_t = Σ_t min(ρ_t, 1+ε)·A_t as the course
            prints it. For A < 0 its gradient dies where it is needed (ρ > 1+ε) and never stops where it should
            (ρ < 1−ε); it is here to be compared with, not to train with.
    Returns:
        loss and statistics. clip_hi_count and clip_lo_count count the tokens with zero gradient: in the standard form
        (A > 0, ρ > 1+ε) and (A < 0, ρ < 1−ε), in the course form (A ≠ 0, ρ > 1+ε) and none.
    Raises:
        ValueError: shapes differ; clip_range or num_loss_tokens not positive; unknown form.

    Source: Schulman et al. (2017), arXiv 1707.06347, eq. 7; the course form: Xiao & Zhu (2025), arXiv 2501.09223,
    chapter 4.
    Differs from source: token sum over a denominator of the caller's, not a mean; no entropy bonus in it.
    """
    check_same_shape(logprobs=logprobs, old_logprobs=old_logprobs, advantages=advantages, response_mask=response_mask)
    check_positive(num_loss_tokens=num_loss_tokens)
    if form not in ("standard", "course"):
        raise ValueError(f"form must be 'standard' or 'course', got {form!r}")
    mask = response_mask.bool()
    # masked before exp: the gradient of exp at NaN is NaN even when the result is thrown away
    log_ratio = zero_outside(logprobs - old_logprobs.detach(), mask)
    advantages = zero_outside(advantages.detach(), mask)
    ratio = log_ratio.exp()
    high = low = torch.zeros_like(mask)
    objective = ratio * advantages
    if clip_range is not None:
        check_positive(clip_range=clip_range)
        clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
        if form == "standard":
            objective = torch.minimum(objective, clipped * advantages)
            low = (advantages < 0) & (ratio < 1 - clip_range)
            high = (advantages > 0) & (ratio > 1 + clip_range)
        else:
            objective = torch.minimum(ratio, clipped) * advantages
            high = (advantages != 0) & (ratio > 1 + clip_range)
    ratio = ratio.detach()
    infinity = torch.full_like(ratio, torch.inf)
    return PolicyLossOutput(
        loss=-zero_outside(objective, mask).sum() / num_loss_tokens,
        ratio_sum=zero_outside(ratio, mask).sum(),
        ratio_max=torch.where(mask, ratio, -infinity).amax(),
        ratio_min=torch.where(mask, ratio, infinity).amin(),
        clip_hi_count=high.sum(),
        clip_lo_count=low.sum(),
        approx_kl_sum=0.5 * log_ratio.detach().square().sum(),
        num_tokens=mask.sum(),
        ratio_sq_sum=zero_outside(ratio.square(), mask).sum(),
    )


def a2c_loss(logprobs: Tensor, advantages: Tensor, response_mask: Tensor, *, num_loss_tokens: float) -> Tensor:
    """L = −(1/N)·Σ_t log π(y_t|s_t)·A_t, on tokens sampled from the policy itself.

    A token with advantage 0 gives exactly no gradient. With A = reward-to-go this is REINFORCE.

    Args:
        logprobs: [B, T] nats, under the policy in training.
        advantages: [B, T] score units (or whitened); constant.
        response_mask: [B, T] non-zero on response tokens.
        num_loss_tokens: N, response tokens of the whole batch over all micro-batches and processes.
    Returns:
        [] advantage units times nats; its level means nothing, its gradient is the policy gradient.
    Raises:
        ValueError: shapes differ; num_loss_tokens not positive.

    Source: Xiao & Zhu (2025), arXiv 2501.09223, chapter 4, A2C loss; Mnih et al. (2016), arXiv 1602.01783, section 4.
    Differs from source: token sum over a denominator of the caller's; no entropy bonus in it.
    """
    check_same_shape(logprobs=logprobs, advantages=advantages, response_mask=response_mask)
    check_positive(num_loss_tokens=num_loss_tokens)
    inside = zero_outside(logprobs, response_mask) * zero_outside(advantages.detach(), response_mask)
    return -inside.sum() / num_loss_tokens
