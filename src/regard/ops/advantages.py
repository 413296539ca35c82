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


def _check_unit_interval(**numbers: float) -> None:
    for name, number in numbers.items():
        if not 0 <= number <= 1:
            raise ValueError(f"{name} must lie in [0, 1], got {number}")
