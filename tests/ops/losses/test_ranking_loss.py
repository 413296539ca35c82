"""Oracles: math.log of the printed probability; enumeration of all orders for Plackett-Luce."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from regard import ops

SCORE = st.floats(-5, 5)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def t(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


@given(SCORE, SCORE, st.floats(0, 1), st.floats(0, 2))
def test_pairwise_loss_is_the_negative_log_likelihood_of_the_raters(a, b, p, m):
    out = ops.pairwise_loss(t(a), t(b), p_chosen=t(p), margin=t(m), num_pairs=2)
    want = -(p * math.log(sigmoid(a - b - m)) + (1 - p) * math.log(sigmoid(b - a - m))) / 2
    assert out.loss.item() == pytest.approx(want, rel=1e-9)
    assert out.margin_sum.item() == pytest.approx(a - b)


def test_pairwise_counts():
    # right, wrong, tie, right because the raters prefer `rejected`, undecided
    out = ops.pairwise_loss(
        t(2.0, 1.0, 1.0, 0.0, 3.0), t(1.0, 2.0, 1.0, 4.0, 0.0), p_chosen=t(1.0, 0.9, 0.8, 0.1, 0.5), num_pairs=5
    )
    assert (out.correct_count.item(), out.decided_count.item()) == (2, 4)
    plain = ops.pairwise_loss(t(2.0, 1.0, 1.0), t(1.0, 2.0, 1.0), num_pairs=3)
    assert (plain.correct_count.item(), plain.decided_count.item()) == (1, 3)
    assert not any(x.requires_grad for x in plain[1:])


@given(SCORE, SCORE, st.floats(0, 1), st.floats(0, 2))
def test_swapping_chosen_and_rejected_flips(a, b, p, m):
    there = ops.pairwise_loss(t(a), t(b), p_chosen=t(p), margin=t(m), num_pairs=1)
    back = ops.pairwise_loss(t(b), t(a), p_chosen=t(1 - p), margin=t(m), num_pairs=1)
    assert back.loss.item() == pytest.approx(there.loss.item(), rel=1e-9)
    assert back.margin_sum.item() == -there.margin_sum.item()
    # without rewriting the label, the likelihoods of the two orders add up to one
    losses = [ops.pairwise_loss(t(x), t(y), num_pairs=1).loss.item() for x, y in ((a, b), (b, a))]
    assert sum(math.exp(-loss) for loss in losses) == pytest.approx(1)


@given(st.lists(SCORE, min_size=2, max_size=4))
def test_plackett_luce_is_a_distribution_over_orders(scores):
    total = 0.0
    for order in itertools.permutations(scores):
        want = 0.0
        for k in range(len(order)):
            want -= math.log(math.exp(order[k]) / sum(math.exp(s) for s in order[k:]))
        loss = ops.plackett_luce_loss(t(list(order)), torch.ones(1, len(order)), num_lists=1).item()
        assert loss == pytest.approx(want, abs=1e-9)
        total += math.exp(-loss)
    assert total == pytest.approx(1)


@given(st.lists(SCORE, min_size=2, max_size=5), st.integers(0, 2))
def test_listwise_pairs_equal_a_loop_whatever_the_padding(scores, pad):
    want = 0.0
    for i, j in itertools.combinations(range(len(scores)), 2):
        want -= math.log(sigmoid(scores[i] - scores[j]))
    want /= len(scores) * (len(scores) - 1)
    padded = t([*scores, *[math.nan] * pad])
    mask = torch.tensor([[1] * len(scores) + [0] * pad])
    assert ops.listwise_pairwise_loss(padded, mask, num_lists=1).item() == pytest.approx(want, rel=1e-9)


@given(st.lists(SCORE, min_size=2, max_size=5), SCORE)
def test_ranking_losses_do_not_see_an_offset(scores, offset):
    mask = torch.ones(1, len(scores))
    for loss in (ops.listwise_pairwise_loss, ops.plackett_luce_loss):
        moved = loss(t([s + offset for s in scores]), mask, num_lists=1)
        torch.testing.assert_close(moved, loss(t(scores), mask, num_lists=1), rtol=1e-9, atol=1e-9)


def test_a_list_of_one_item_adds_nothing():
    scores, mask = t([3.0, math.nan]), torch.tensor([[1, 0]])
    assert ops.listwise_pairwise_loss(scores, mask, num_lists=1).item() == 0
    assert ops.plackett_luce_loss(scores, mask, num_lists=1).item() == 0


def test_pointwise_known_answer():
    scores = torch.tensor([1.0, 4.0], dtype=torch.float64, requires_grad=True)
    loss = ops.pointwise_loss(scores, t(3.0, 3.0), num_scores=2)
    loss.backward()
    # (4 + 1) / 2, gradient 2·(score − rating)/2
    assert loss.item() == 2.5
    assert scores.grad.tolist() == [-2.0, 1.0]


@given(SCORE, SCORE, SCORE)
def test_centering_holds_the_offset_and_not_the_margin(a, b, delta):
    got = ops.centering_penalty(t(a + delta), t(b - delta)).item()
    assert got == pytest.approx((a + b) ** 2, abs=1e-9)


def test_centering_is_a_mean_over_the_pairs():
    # (1+2)^2 = 9, (0-1)^2 = 1
    scores = t(1.0, 0.0), t(2.0, -1.0)
    assert ops.centering_penalty(*scores).item() == 5.0
    assert ops.centering_penalty(*scores, num_pairs=10).item() == 1.0


@given(st.permutations("abcde"))
def test_every_pair_appears_once_and_in_order(ranking):
    pairs = ops.ranking_to_pairs(ranking)
    assert len(pairs) == 10
    assert all(ranking.index(better) < ranking.index(worse) for better, worse in pairs)
    assert len({frozenset(p) for p in pairs}) == 10
    assert ops.ranking_to_pairs(["only"]) == []
