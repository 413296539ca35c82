"""Oracle: Schulman et al. (2016) eq. 16 as the double sum it is printed as, over Python lists."""

import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from regard import ops

UNIT = st.floats(0, 1)
SEEDS = st.integers(0, 999)


def draw(seed, rows=3, width=6):
    generator = torch.Generator().manual_seed(seed)
    rewards, values = torch.randn(2, rows, width, dtype=torch.float64, generator=generator)
    mask = torch.rand(rows, width, generator=generator) < 0.7  # padding on both sides and holes
    return rewards, values, mask


def slow_gae(rewards, values, gamma, lam):
    """A_t = Σ_l (γλ)^l·δ_{t+l} over the tokens of one response."""
    values = [*values, 0.0]
    deltas = [r + gamma * values[t + 1] - values[t] for t, r in enumerate(rewards)]
    return [sum((gamma * lam) ** k * d for k, d in enumerate(deltas[t:])) for t in range(len(deltas))]


def scatter(mask, per_row):
    """Per-response lists back to the places the mask marks, zero elsewhere."""
    result = torch.zeros(mask.shape, dtype=torch.float64)
    for row, numbers in enumerate(per_row):
        result[row, mask[row]] = torch.tensor(numbers, dtype=torch.float64)
    return result


def responses(x, mask):
    return [x[row, mask[row]].tolist() for row in range(len(x))]


@given(SEEDS, UNIT, UNIT)
def test_gae_equals_the_double_sum(seed, gamma, lam):
    rewards, values, mask = draw(seed)
    pairs = list(zip(responses(rewards, mask), responses(values, mask), strict=True))
    want = scatter(mask, [slow_gae(r, v, gamma, lam) for r, v in pairs])
    out = ops.gae(rewards, values, mask, gamma=gamma, gae_lambda=lam)
    torch.testing.assert_close(out.advantages, want, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(out.returns, want + torch.where(mask, values, 0.0), rtol=1e-9, atol=1e-10)


@given(SEEDS, UNIT)
def test_td_advantages_equal_the_double_sum_at_lambda_zero(seed, gamma):
    rewards, values, mask = draw(seed)
    pairs = list(zip(responses(rewards, mask), responses(values, mask), strict=True))
    want = scatter(mask, [slow_gae(r, v, gamma, 0.0) for r, v in pairs])
    out = ops.td_advantages(rewards, values, mask, gamma=gamma)
    torch.testing.assert_close(out.advantages, want, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(out.returns, want + torch.where(mask, values, 0.0), rtol=1e-9, atol=1e-10)


@given(SEEDS, UNIT)
def test_reward_to_go_equals_the_discounted_sum(seed, gamma):
    rewards, _, mask = draw(seed)
    rows = responses(rewards, mask)
    want = [[sum(gamma**k * r for k, r in enumerate(row[t:])) for t in range(len(row))] for row in rows]
    torch.testing.assert_close(ops.reward_to_go(rewards, mask, gamma=gamma), scatter(mask, want), rtol=1e-9, atol=1e-10)


@given(SEEDS)
def test_gamma_and_lambda_one_give_reward_to_go(seed):
    rewards, values, mask = draw(seed)
    want = scatter(mask, [[sum(row[t:]) for t in range(len(row))] for row in responses(rewards, mask)])
    torch.testing.assert_close(ops.gae(rewards, values, mask, gamma=1.0, gae_lambda=1.0).returns, want)


@given(SEEDS, st.sampled_from([float("nan"), float("inf"), 1e9]))
def test_what_lies_under_the_mask_never_matters(seed, filler):
    rewards, values, mask = draw(seed)
    spoilt = [torch.where(mask, x, filler) for x in (rewards, values)]
    for got, want in (
        (ops.gae(*spoilt, mask, gamma=0.9, gae_lambda=0.8), ops.gae(rewards, values, mask, gamma=0.9, gae_lambda=0.8)),
        (ops.td_advantages(*spoilt, mask, gamma=0.9), ops.td_advantages(rewards, values, mask, gamma=0.9)),
    ):
        assert torch.equal(got.advantages, want.advantages)
        assert torch.equal(got.returns, want.returns)
        assert (got.advantages[~mask] == 0).all()
        assert (got.returns[~mask] == 0).all()
    assert torch.equal(ops.reward_to_go(spoilt[0], mask, gamma=0.9), ops.reward_to_go(rewards, mask, gamma=0.9))


@given(SEEDS, st.integers(1, 3))
def test_padding_on_either_side_changes_nothing(seed, pad):
    rewards, values, mask = draw(seed)
    plain = ops.gae(rewards, values, mask, gamma=0.9, gae_lambda=0.8).advantages
    for sides in ((pad, 0), (0, pad)):
        padded = [torch.nn.functional.pad(x, sides, value=7.0) for x in (rewards, values)]
        wide = ops.gae(*padded, torch.nn.functional.pad(mask, sides), gamma=0.9, gae_lambda=0.8).advantages
        torch.testing.assert_close(wide[:, sides[0] : sides[0] + mask.shape[1]], plain)


def test_the_last_token_bootstraps_nothing():
    # the third position is padding with a value; V after the second token is still 0
    rewards = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)
    values = torch.tensor([[0.5, 0.25, 9.0]], dtype=torch.float64)
    mask = torch.tensor([[1, 1, 0]])
    want = [[0.25 - 0.5, 1.0 - 0.25, 0.0]]
    assert ops.td_advantages(rewards, values, mask, gamma=1.0).advantages.tolist() == want
    assert ops.gae(rewards, values, mask, gamma=1.0, gae_lambda=0.0).advantages.tolist() == want


def test_targets_carry_no_gradient():
    values = torch.ones(1, 2, requires_grad=True)
    for out in (
        ops.gae(torch.ones(1, 2), values, torch.ones(1, 2), gamma=1.0, gae_lambda=0.9),
        ops.td_advantages(torch.ones(1, 2), values, torch.ones(1, 2), gamma=1.0),
    ):
        assert not out.advantages.requires_grad
        assert not out.returns.requires_grad


def test_impossible_discounts_are_refused():
    x = torch.ones(1, 2)
    with pytest.raises(ValueError, match=r"gamma must lie in \[0, 1\]"):
        ops.gae(x, x, x, gamma=1.5, gae_lambda=0.9)
    with pytest.raises(ValueError, match="gae_lambda"):
        ops.gae(x, x, x, gamma=1.0, gae_lambda=-0.1)
    with pytest.raises(ValueError, match="shapes must be equal"):
        ops.gae(x, torch.ones(2), x, gamma=1.0, gae_lambda=0.9)


def slow_leave_one_out(total):
    return [r - sum(total[:i] + total[i + 1 :]) / (len(total) - 1) for i, r in enumerate(total)]


def slow_group_relative(total):
    return [(r - statistics.mean(total)) / (statistics.stdev(total) + 1e-4) for r in total]


GROUPED = [
    (ops.leave_one_out_advantages, slow_leave_one_out),
    (ops.group_relative_advantages, slow_group_relative),
]


@pytest.mark.parametrize(("fast", "slow"), GROUPED)
@given(SEEDS, st.integers(2, 4), st.integers(1, 3))
def test_advantages_in_a_group_equal_those_of_plain_lists(fast, slow, seed, size, groups):
    rewards, _, mask = draw(seed, rows=size * groups)
    total = [sum(row) for row in responses(rewards, mask)]
    each = [a for g in range(groups) for a in slow(total[g * size : (g + 1) * size])]
    out = fast(rewards, mask, group_size=size)
    lengths = mask.sum(1).tolist()
    for got, numbers in ((out.advantages, each), (out.returns, total)):
        want = scatter(mask, [[number] * length for number, length in zip(numbers, lengths, strict=True)])
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("fast", [fast for fast, _ in GROUPED])
@given(SEEDS)
def test_what_lies_outside_the_mask_is_no_part_of_a_groups_advantages(fast, seed):
    rewards, _, mask = draw(seed, rows=4)
    want = fast(rewards, mask, group_size=2)
    for value in (7.0, float("inf"), float("nan")):
        torch.testing.assert_close(fast(torch.where(mask, rewards, value), mask, group_size=2), want)


def test_equal_answers_to_a_prompt_have_no_advantage():
    rewards, mask = torch.full((4, 3), 0.7), torch.ones(4, 3)
    for fast, _ in GROUPED:
        torch.testing.assert_close(fast(rewards, mask, group_size=4).advantages, torch.zeros(4, 3), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("rows", "size"), [(4, 1), (4, 3), (3, 2)])
def test_rows_that_are_no_groups_are_refused(rows, size):
    for fast, _ in GROUPED:
        with pytest.raises(ValueError, match=f"{rows} rows are no groups of {size}"):
            fast(torch.zeros(rows, 2), torch.ones(rows, 2), group_size=size)
