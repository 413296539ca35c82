"""Losses that fit a reward model to human rankings and ratings. Only differences of scores matter, save where noted."""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from regard.ops.checks import check_positive, check_same_shape
from regard.ops.masking import zero_outside

Item = TypeVar("Item")


class RankingLossOutput(NamedTuple):
    """The loss, and sums over pairs that add up across micro-batches. Only loss has a gradient."""

    loss: Tensor
    """[] nats per pair."""
    correct_count: Tensor
    """[] pairs in which the response preferred by more than half has the strictly higher score; a tie is wrong."""
    margin_sum: Tensor
    """[] Σ (score_chosen − score_rejected), score units."""
    decided_count: Tensor
    """[] pairs with p_chosen ≠ ½, the denominator of accuracy: an even split has no right answer."""


def pairwise_loss(
    score_chosen: Tensor,
    score_rejected: Tensor,
    *,
    p_chosen: Tensor | None = None,
    margin: Tensor | None = None,
    num_pairs: float,
) -> RankingLossOutput:
    """L = −(1/N)·Σ [p·log σ(Δ − m) + (1−p)·log σ(−Δ − m)], Δ = score_chosen − score_rejected.

    With p = 1 and m = 0, the Bradley-Terry negative log-likelihood: ln 2 at a tie, more if the order is wrong, less if
    it is right.

    Args:
        score_chosen: [N] score units.
        score_rejected: [N] score units.
        p_chosen: [N] share of raters that preferred `chosen`, in [0, 1]; None is 1.
        margin: [N] how far apart the scores should be, score units, at least 0; None is 0.
        num_pairs: pairs of the whole batch over all micro-batches and processes.
    Returns:
        loss and statistics.
    Raises:
        ValueError: shapes differ; num_pairs not positive.

    Source: Ouyang et al. (2022), arXiv 2203.02155, eq. 1; soft labels, Xiao & Zhu (2025), arXiv 2501.09223, chapter
    4; margin, Touvron et al. (2023), arXiv 2307.09288, eq. 2.
    Differs from source: with soft labels and a margin together (neither source has both) each direction must win by the
    margin, so that swapping chosen and rejected with p → 1 − p leaves the loss as it is.
    """
    check_positive(num_pairs=num_pairs)
    p = torch.ones_like(score_chosen) if p_chosen is None else p_chosen.to(score_chosen.dtype)
    m = torch.zeros_like(score_chosen) if margin is None else margin.to(score_chosen.dtype)
    check_same_shape(score_chosen=score_chosen, score_rejected=score_rejected, p_chosen=p, margin=m)
    difference = score_chosen - score_rejected
    loglikelihood = p * logsigmoid(difference - m) + (1 - p) * logsigmoid(-difference - m)
    difference = difference.detach()
    return RankingLossOutput(
        loss=-loglikelihood.sum() / num_pairs,
        correct_count=(difference * (p - 0.5) > 0).sum(),
        margin_sum=difference.sum(),
        decided_count=(p != 0.5).sum(),
    )


def listwise_pairwise_loss(ranked_scores: Tensor, item_mask: Tensor, *, num_lists: float) -> Tensor:
    """L = −(1/num_lists)·Σ_lists 1/(G(G−1))·Σ_{a ≻ b} log σ(r_a − r_b), over the pairs of each ranking.

    Args:
        ranked_scores: [B, G] scores of the items of each list, best first, score units.
        item_mask: [B, G] non-zero where there is an item. A list of fewer than two items adds 0.
        num_lists: lists of the whole batch over all micro-batches and processes.
    Returns:
        [] nats; half the mean over pairs, since G(G−1) counts each pair twice.
    Raises:
        ValueError: shapes differ; num_lists not positive.

    Source: Xiao & Zhu (2025), arXiv 2501.09223, chapter 4, accumulated pairwise loss of a list.
    Differs from source: no. Ouyang et al. (2022), arXiv 2203.02155, eq. 1, divide by the G(G−1)/2 pairs: twice this.
    """
    check_same_shape(ranked_scores=ranked_scores, item_mask=item_mask)
    check_positive(num_lists=num_lists)
    mask = item_mask.bool()
    scores = zero_outside(ranked_scores, mask)
    better_first = torch.ones_like(scores[:, :, None] - scores[:, None, :], dtype=torch.bool).triu(1)
    pairs = better_first & mask[:, :, None] & mask[:, None, :]
    terms = zero_outside(logsigmoid(scores[:, :, None] - scores[:, None, :]), pairs).sum((1, 2))
    count = mask.sum(1)
    return -(terms / (count * (count - 1)).clamp(min=1)).sum() / num_lists


def plackett_luce_loss(ranked_scores: Tensor, item_mask: Tensor, *, num_lists: float) -> Tensor:
    """L = −(1/num_lists)·Σ_lists Σ_k log( e^{r_k} / Σ_{j ≥ k} e^{r_j} ): the best is drawn first, then the next best.

    For two items it is the Bradley-Terry loss; for more it is not the sum of pairs.

    Args:
        ranked_scores: [B, G] scores of the items of each list, best first, score units.
        item_mask: [B, G] non-zero where there is an item.
        num_lists: lists of the whole batch over all micro-batches and processes.
    Returns:
        [] nats per list.
    Raises:
        ValueError: shapes differ; num_lists not positive.

    Source: Plackett (1975), Luce (1959); Xiao & Zhu (2025), arXiv 2501.09223, chapter 4; Xia et al. (2008), ListMLE.
    Differs from source: no.
    """
    check_same_shape(ranked_scores=ranked_scores, item_mask=item_mask)
    check_positive(num_lists=num_lists)
    mask = item_mask.bool()
    scores = zero_outside(ranked_scores, mask)
    num_items = scores.shape[1]
    still_there = torch.ones(num_items, num_items, dtype=torch.bool, device=mask.device).triu() & mask[:, None, :]
    # a padded row keeps its own place, or its log-sum would be −inf and the gradient NaN
    still_there = still_there | torch.eye(num_items, dtype=torch.bool, device=mask.device)
    rest = scores[:, None, :].masked_fill(~still_there, -torch.inf).logsumexp(-1)
    return -zero_outside(scores - rest, mask).sum() / num_lists


def pointwise_loss(scores: Tensor, ratings: Tensor, *, num_scores: float) -> Tensor:
    """L = (1/N)·Σ (rating − score)²: regression on ratings. Here the level of the score matters, not only differences.

    Args:
        scores: [N] score units.
        ratings: [N] human ratings in the same unit; constant.
        num_scores: scores of the whole batch over all micro-batches and processes.
    Returns:
        [] squared score units.
    Raises:
        ValueError: shapes differ; num_scores not positive.

    Source: Xiao & Zhu (2025), arXiv 2501.09223, chapter 4, pointwise method.
    Differs from source: the sign; there the squared error also appears with a minus, here it is minimised.
    """
    check_same_shape(scores=scores, ratings=ratings)
    check_positive(num_scores=num_scores)
    return (ratings.detach().to(scores.dtype) - scores).square().sum() / num_scores


def centering_penalty(score_chosen: Tensor, score_rejected: Tensor, *, num_pairs: float | None = None) -> Tensor:
    """(1/N)·Σ (score_chosen + score_rejected)²: holds the scores of a pair around 0, and leaves their margin alone.

    Args:
        score_chosen: [N] score units.
        score_rejected: [N] score units.
        num_pairs: pairs of the whole batch over all micro-batches and processes; None is the pairs given here.
    Returns:
        [] squared score units.
    Raises:
        ValueError: shapes differ; num_pairs not positive, or no pair is given.

    Source: Xiao & Zhu (2025), arXiv 2501.09223, chapter 4, regularisation; Eisenstein et al. (2023), arXiv
    2312.09244.
    Differs from source: plus. The course prints a minus before it in a loss that is minimised, which would push the
    offset to infinity.
    """
    check_same_shape(score_chosen=score_chosen, score_rejected=score_rejected)
    denominator = score_chosen.numel() if num_pairs is None else num_pairs
    check_positive(num_pairs=denominator)
    return (score_chosen + score_rejected).square().sum() / denominator


def ranking_to_pairs(ranking: Sequence[Item]) -> list[tuple[Item, Item]]:
    """All (better, worse) pairs of a ranking, best first: G items give G(G−1)/2 pairs, in reading order.

    Args:
        ranking: G items of any kind, best first.
    Returns:
        list of pairs; empty for fewer than two items.

    Source: Ouyang et al. (2022), arXiv 2203.02155, section 3.5 (all comparisons of one ranking).
    Differs from source: no.
    """
    return [(better, worse) for i, better in enumerate(ranking) for worse in ranking[i + 1 :]]
