"""From scores of whole responses to rewards of tokens."""

from typing import NamedTuple

import torch
from torch import Tensor

from regard.ops.checks import check_same_shape
from regard.ops.kl import kl_k1
from regard.ops.masking import zero_outside


def eos_reward(scores: Tensor, response_mask: Tensor) -> Tensor:
    """r_t = 0 for t < T and r_T = score, T being the last response position; a response without tokens gets 0.

    Args:
        scores: [B] reward-model output of each whole response, score units.
        response_mask: [B, T] non-zero on response tokens.
    Returns:
        [B, T] score units.
    Raises:
        ValueError: scores is not one number a row.

    Source: Xiao & Zhu (2025), arXiv 2501.09223, chapter 4 (the reward is given at the end of the sequence).
    Differs from source: no.
    """
    check_same_shape(scores=scores, rows_of_response_mask=response_mask[:, 0])
    positions = torch.arange(response_mask.shape[1], device=response_mask.device)
    last = torch.where(response_mask.bool(), positions, -1).amax(1, keepdim=True)
    return torch.where(positions == last, scores.unsqueeze(1), torch.zeros_like(scores).unsqueeze(1))


class ShapedReward(NamedTuple):
    rewards: Tensor
    """[B, T] score units; 0 outside the mask; a constant for the gradient."""
    kl: Tensor
    """[B, T] k1, nats; 0 outside the mask; a constant for the gradient."""


def shaped_reward(
    scores: Tensor, logprobs: Tensor, ref_logprobs: Tensor, response_mask: Tensor, kl_coef: float
) -> ShapedReward:
    """r_t = [t is last]·score − β·(log π(y_t|s_t) − log π_ref(y_t|s_t)).

    Its sum over the response is score − β·(log π(y|x) − log π_ref(y|x)), so the maximiser of its expectation is
    π*(y|x) ∝ π_ref(y|x)·exp(score/β).

    Args:
        scores: [B] reward-model output, score units.
        logprobs: [B, T] nats, under the policy that sampled the tokens.
        ref_logprobs: [B, T] nats, the same tokens under the frozen reference.
        response_mask: [B, T] non-zero on response tokens.
        kl_coef: β, score units per nat; 0 turns the leash off.
    Returns:
        rewards and kl, both detached: the KL acts through the advantage. Differentiated directly it would act as the
        loss β·log π, whose expected gradient is 0 (see `kl`).
    Raises:
        ValueError: shapes differ.

    Source: Ziegler et al. (2019), arXiv 1909.08593, eq. 2; Ouyang et al. (2022), arXiv 2203.02155, eq. 2 (per token).
    Differs from source: no pre-training term (eq. 2 of the latter, γ = 0). Xiao & Zhu (2025), arXiv 2501.09223,
    subtract the penalty from the objective instead, which as a sampled loss has no effect.
    """
    check_same_shape(logprobs=logprobs, response_mask=response_mask)
    kl = zero_outside(kl_k1(logprobs, ref_logprobs), response_mask).detach()
    return ShapedReward(eos_reward(scores, response_mask).detach() - kl_coef * kl, kl)


def kl_penalty(logprobs: Tensor, ref_logprobs: Tensor, response_mask: Tensor) -> Tensor:
    """log π(y|x) − log π_ref(y|x) = Σ_t (log π(y_t|s_t) − log π_ref(y_t|s_t)), one number per response.

    Exact for an autoregressive policy. Negative where the policy likes the response less than the reference does.

    Args:
        logprobs: [B, T] nats, under the policy.
        ref_logprobs: [B, T] nats, the same tokens under the reference.
        response_mask: [B, T] non-zero on response tokens.
    Returns:
        [B] nats per sequence.
    Raises:
        ValueError: shapes differ.

    Source: Xiao & Zhu (2025), arXiv 2501.09223, chapter 4, the penalty of the PPO objective.
    Differs from source: no; but do not add it to a loss, see `shaped_reward`.
    """
    return zero_outside(kl_k1(logprobs, ref_logprobs), response_mask).sum(1)


def break_even_kl_coef(score_gap: float, kl_gap: float) -> float:
    """β* = Δscore / ΔKL, at which two responses have the same shaped reward: Δscore − β*·ΔKL = 0.

    Below β* the response with the higher score wins, above it the one nearer to the reference. With a score minus a
    value as the gap, β* is where the advantage changes sign.

    Args:
        score_gap: score of one response minus that of the other, score units.
        kl_gap: log-ratio to the reference of the one minus that of the other, nats; not 0.
    Returns:
        score units per nat; negative when one response is better on both counts and so wins at every β ≥ 0.
    Raises:
        ValueError: kl_gap is 0; then β has no say.

    Source: from the shaped reward of Ziegler et al. (2019), arXiv 1909.08593, eq. 2.
    Differs from source: no.
    """
    if kl_gap == 0:
        raise ValueError("kl_gap is 0: both responses are equally far from the reference, so no kl_coef separates them")
    return score_gap / kl_gap


def ensemble_score(scores: Tensor, weights: Tensor | None = None) -> Tensor:
    """r = (1/K)·Σ_k w_k·r_k over K reward models; without weights the mean (w = 1).

    Args:
        scores: [K, ...] one row a reward model, score units.
        weights: [K] without unit. Weights that sum to K keep the scale; they are not normalised here.
    Returns:
        [...] score units.
    Raises:
        ValueError: weights is not one number a model.

    Source: Xiao & Zhu (2025), arXiv 2501.09223, chapter 4, combination of reward models; Coste et al. (2024),
    arXiv 2310.02743, mean of an ensemble.
    Differs from source: no.
    """
    if weights is None:
        return scores.mean(0)
    if weights.shape != scores.shape[:1]:
        raise ValueError(f"{scores.shape[0]} models need as many weights, got shape {tuple(weights.shape)}")
    return (weights.to(scores.dtype).view(-1, *[1] * (scores.dim() - 1)) * scores).sum(0) / scores.shape[0]


def segment_score(segments: Tensor, segment_mask: Tensor | None = None) -> Tensor:
    """r(x, y) = Σ_k r(x, y, ȳ_k): the score of a response is the sum over its segments.

    Args:
        segments: [B, K] score of each segment, score units.
        segment_mask: [B, K] non-zero where there is a segment; None is everywhere.
    Returns:
        [B] score units.
    Raises:
        ValueError: shapes differ.

    Source: Xiao & Zhu (2025), arXiv 2501.09223, chapter 4, segment-based reward.
    Differs from source: no. A sum pays for more segments; compare responses of equal count, or expect longer ones.
    """
    return (segments if segment_mask is None else zero_outside(segments, segment_mask)).sum(1)
