"""Advantages and returns over the response tokens of each row.

All walk from the last position to the first and step over positions outside the mask, so padding on either side, or a
stretch inside that is not the policy's (a tool's answer), joins its neighbours as if it were not there.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from regard.ops.checks import check_same_shape
from regard.ops.masking import zero_outside


class AdvantageOutput(NamedTuple):
    advantages: Tensor
    """[B, T] score units; 0 outside the mask."""
    returns: Tensor
    """[B, T] target of the value: advantage + value; 0 outside the mask."""


@torch.no_grad()
def gae(rewards: Tensor, values: Tensor, response_mask: Tensor, *, gamma: float, gae_lambda: float) -> AdvantageOutput:
    """A_t = δ_t + γλ·A_{t+1}, δ_t = r_t + γ·V(s_{t+1}) − V(s_t); V and A are 0 after the last response token.

    λ = 1 is reward-to-go minus the value (no bias from the value), λ = 0 the TD error (`td_advantages`).

    Args:
        rewards: [B, T] score units.
        values: [B, T] value of the state before each token, score units.
        response_mask: [B, T] non-zero on response tokens.
        gamma: discount per token, in [0, 1]; 1 is usual for responses.
        gae_lambda: λ, in [0, 1].
    Returns:
        advantages and returns = advantages + values, without gradient.
    Raises:
        ValueError: shapes differ, or gamma or gae_lambda outside [0, 1].

    Source: Schulman et al. (2016), arXiv 1506.02438, eq. 16.
    Differs from source: the horizon is the last response token, and nothing is bootstrapped there: a response that was
    cut off counts as ended. Returns are TD(λ) targets, not the Monte-Carlo sums of their section 5.
    """
    check_same_shape(rewards=rewards, values=values, response_mask=response_mask)
    _check_unit_interval(gamma=gamma, gae_lambda=gae_lambda)
    mask = response_mask.bool()
    rewards, values = zero_outside(rewards, mask), zero_outside(values, mask)
    advantages = torch.zeros_like(rewards)
    running = next_value = torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        running = torch.where(mask[:, t], delta + gamma * gae_lambda * running, running)
        next_value = torch.where(mask[:, t], values[:, t], next_value)
        advantages[:, t] = running
    advantages = zero_outside(advantages, mask)
    return AdvantageOutput(advantages, advantages + values)


@torch.no_grad()
def td_advantages(rewards: Tensor, values: Tensor, response_mask: Tensor, *, gamma: float) -> AdvantageOutput:
    """A_t = r_t + γ·V(s_{t+1}) − V(s_t); V is 0 after the last response token. GAE with λ = 0, written directly.

    Args:
        rewards: [B, T] score units.
        values: [B, T] value of the state before each token, score units.
        response_mask: [B, T] non-zero on response tokens.
        gamma: discount per token, in [0, 1].
    Returns:
        advantages and returns = r_t + γ·V(s_{t+1}), without gradient: the target of the value is held constant.
    Raises:
        ValueError: shapes differ, or gamma outside [0, 1].

    Source: Xiao & Zhu (2025), arXiv 2501.09223, chapter 4, advantage as a TD error; Sutton & Barto (2018), eq. 6.5.
    Differs from source: no.
    """
    check_same_shape(rewards=rewards, values=values, response_mask=response_mask)
    _check_unit_interval(gamma=gamma)
    mask = response_mask.bool()
    rewards, values = zero_outside(rewards, mask), zero_outside(values, mask)
    next_values = torch.zeros_like(values)
    following = torch.zeros_like(values[:, 0])
    for t in reversed(range(values.shape[1])):
        next_values[:, t] = following
        following = torch.where(mask[:, t], values[:, t], following)
    returns = zero_outside(rewards + gamma * next_values, mask)
    return AdvantageOutput(returns - values, returns)


@torch.no_grad()
def reward_to_go(rewards: Tensor, response_mask: Tensor, *, gamma: float) -> Tensor:
    """R_t = r_t + γ·R_{t+1} = Σ_{k ≥ 0} γᵏ·r_{t+k}; R is 0 after the last response token.

    Args:
        rewards: [B, T] score units.
        response_mask: [B, T] non-zero on response tokens.
        gamma: discount per token, in [0, 1].
    Returns:
        [B, T] score units, without gradient; 0 outside the mask.
    Raises:
        ValueError: shapes differ, or gamma outside [0, 1].

    Source: Sutton & Barto (2018), eq. 3.8 and 3.9.
    Differs from source: no.
    """
    check_same_shape(rewards=rewards, response_mask=response_mask)
    _check_unit_interval(gamma=gamma)
    mask = response_mask.bool()
    rewards = zero_outside(rewards, mask)
    result = torch.zeros_like(rewards)
    running = torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        running = torch.where(mask[:, t], rewards[:, t] + gamma * running, running)
        result[:, t] = running
    return zero_outside(result, mask)


GROUP_EPSILON = 1e-4
"""Added to a group's deviation, so that rewards which hardly differ are not blown up to 1."""


@torch.no_grad()
def leave_one_out_advantages(rewards: Tensor, response_mask: Tensor, *, group_size: int) -> AdvantageOutput:
    """A_i = R_i − 1/(K−1)·Σ_{j ≠ i} R_j, the same at every token of response i; R_i = Σ_t r_it, K responses a prompt.

    The others' mean does not depend on y_i, so as a baseline it leaves the expected gradient as it is.

    Args:
        rewards: [B, T] score units; rows 0 … K−1 answer the first prompt, the next K the second, and so on.
        response_mask: [B, T] non-zero on response tokens.
        group_size: K, at least 2.
    Returns:
        advantages, and R_i at every token as returns; score units, without gradient; 0 outside the mask.
    Raises:
        ValueError: shapes differ, or the rows are no multiple of a group of two or more.

    Source: Kool et al. (2019); Ahmadian et al. (2024), arXiv 2402.14740, eq. 6 (RLOO).
    Differs from source: no.
    """
    total, groups = _group_totals(rewards, response_mask, group_size)
    advantages = (groups - groups.mean(1, keepdim=True)) * group_size / (group_size - 1)
    return _at_every_token(advantages.flatten(), total, response_mask)


@torch.no_grad()
def group_relative_advantages(rewards: Tensor, response_mask: Tensor, *, group_size: int) -> AdvantageOutput:
    """A_i = (R_i − mean_j R_j) / (std_j R_j + 1e-4), the same at every token of response i; R_i = Σ_t r_it.

    Args:
        rewards: [B, T] score units; rows 0 … K−1 answer the first prompt, the next K the second, and so on.
        response_mask: [B, T] non-zero on response tokens.
        group_size: K, at least 2.
    Returns:
        advantages (no unit), and R_i at every token as returns (score units), without gradient; 0 outside the mask. A
        group whose rewards are equal has no advantage anywhere.
    Raises:
        ValueError: shapes differ, or the rows are no multiple of a group of two or more.

    Source: Shao et al. (2024), arXiv 2402.03300, section 4.1.2 (GRPO, outcome supervision).
    Differs from source: the deviation is that of a sample, over K − 1 (the paper does not say), and 1e-4 is added. What
    R_i is, is left to the caller: the paper keeps the KL out of it and puts it into the loss.
    """
    total, groups = _group_totals(rewards, response_mask, group_size)
    advantages = (groups - groups.mean(1, keepdim=True)) / (groups.std(1, keepdim=True) + GROUP_EPSILON)
    return _at_every_token(advantages.flatten(), total, response_mask)


def _group_totals(rewards: Tensor, response_mask: Tensor, group_size: int) -> tuple[Tensor, Tensor]:
    """[B] R_i, and the same as [B/K, K]."""
    check_same_shape(rewards=rewards, response_mask=response_mask)
    if group_size < 2 or len(rewards) % group_size:
        raise ValueError(f"{len(rewards)} rows are no groups of {group_size}; a group needs two rows or more")
    total = zero_outside(rewards, response_mask).sum(1)
    return total, total.view(-1, group_size)


def _at_every_token(advantages: Tensor, total: Tensor, response_mask: Tensor) -> AdvantageOutput:
    shape = response_mask.shape
    return AdvantageOutput(*(zero_outside(x.unsqueeze(1).expand(shape), response_mask) for x in (advantages, total)))


def _check_unit_interval(**numbers: float) -> None:
    for name, number in numbers.items():
        if not 0 <= number <= 1:
            raise ValueError(f"{name} must lie in [0, 1], got {number}")
