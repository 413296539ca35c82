"""Oracles: a loop over tokens with the printed equation; exact enumeration of a policy over four tokens."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from regard import ops

SEEDS = st.integers(0, 999)


def draw(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    logprobs, old, advantages = 0.4 * torch.randn(3, *shape, dtype=torch.float64, generator=generator)
    return logprobs - 1, old - 1, 3 * advantages, torch.rand(*shape, generator=generator) < 0.7


@pytest.mark.parametrize("form", ["standard", "course"])
@given(seed=SEEDS, clip_range=st.sampled_from([0.1, 0.2, 0.5]))
def test_ppo_equals_a_loop_over_the_printed_equation(form, seed, clip_range):
    logprobs, old, advantages, mask = draw(seed, 3, 4)
    total, ratios, high, low, kl = 0.0, [], 0, 0, 0.0
    for lp, olp, adv, counts in zip(
        *(x.flatten().tolist() for x in (logprobs, old, advantages, mask)), strict=True
    ):  # fmt: skip
        if not counts:
            continue
        ratio = math.exp(lp - olp)
        ratios.append(ratio)
        bound = min(max(ratio, 1 - clip_range), 1 + clip_range)
        total += min(ratio * adv, bound * adv) if form == "standard" else min(ratio, bound) * adv
        high += ratio > 1 + clip_range and (adv > 0 or form == "course")
        low += ratio < 1 - clip_range and adv < 0 and form == "standard"
        kl += (lp - olp) ** 2 / 2
    out = ops.ppo_clip_loss(logprobs, old, advantages, mask, clip_range=clip_range, num_loss_tokens=10, form=form)
    assert out.loss.item() == pytest.approx(-total / 10, abs=1e-12)
    assert out.ratio_sum.item() == pytest.approx(sum(ratios), abs=1e-10)
    assert out.ratio_sq_sum.item() == pytest.approx(sum(r * r for r in ratios), abs=1e-10)
    assert out.ratio_max.item() == pytest.approx(max(ratios, default=-math.inf))
    assert out.ratio_min.item() == pytest.approx(min(ratios, default=math.inf))
    assert (out.clip_hi_count.item(), out.clip_lo_count.item()) == (high, low)
    assert out.approx_kl_sum.item() == pytest.approx(kl, abs=1e-10)
    assert out.num_tokens.item() == len(ratios)


@given(SEEDS)
def test_without_clipping_the_objective_is_the_importance_weighted_one(seed):
    logprobs, old, advantages, mask = draw(seed, 3, 4)
    out = ops.ppo_clip_loss(logprobs, old, advantages, mask, clip_range=None, num_loss_tokens=1)
    want = sum(
        -math.exp(a - b) * c
        for a, b, c, m in zip(*(x.flatten().tolist() for x in (logprobs, old, advantages, mask)), strict=True)
        if m
    )
    assert out.loss.item() == pytest.approx(want, abs=1e-10)
    assert (out.clip_hi_count + out.clip_lo_count).item() == 0


@pytest.mark.parametrize("form", ["standard", "course"])
@given(seed=SEEDS)
def test_at_ratio_one_the_ppo_gradient_is_that_of_a2c(form, seed):
    _, old, advantages, mask = draw(seed, 3, 4)
    gradients = []
    for loss in (
        lambda lp: ops.ppo_clip_loss(lp, old, advantages, mask, clip_range=0.2, num_loss_tokens=9, form=form).loss,
        lambda lp: ops.a2c_loss(lp, advantages, mask, num_loss_tokens=9),
    ):
        leaf = old.clone().requires_grad_()
        loss(leaf).backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=1e-12)


@given(SEEDS)
def test_a2c_gradient_is_minus_the_advantage_over_n(seed):
    logprobs, _, advantages, mask = draw(seed, 3, 4)
    leaf = logprobs.clone().requires_grad_()
    ops.a2c_loss(leaf, advantages, mask, num_loss_tokens=9).backward()
    torch.testing.assert_close(leaf.grad, torch.where(mask, -advantages / 9, 0.0), rtol=0, atol=1e-14)


def sampled_gradients(theta, rewards, baseline):
    """REINFORCE gradient from each single action, and the probabilities they come with."""
    gradients = []
    for action in range(len(theta)):
        leaf = theta.clone().requires_grad_()
        logprobs = ops.logprobs_from_logits(leaf[None, None], torch.tensor([[action]]))
        advantage = (rewards[action] - baseline).reshape(1, 1)
        ops.a2c_loss(logprobs, advantage, torch.ones(1, 1), num_loss_tokens=1).backward()
        gradients.append(-leaf.grad)
    return torch.stack(gradients), torch.softmax(theta, 0)


@given(SEEDS)
def test_expected_a2c_gradient_is_the_gradient_of_the_expected_reward(seed):
    generator = torch.Generator().manual_seed(seed)
    theta, rewards = torch.randn(2, 4, dtype=torch.float64, generator=generator)
    gradients, probabilities = sampled_gradients(theta, rewards, torch.tensor(0.0))
    # d/dθ_v Σ π r = π_v (r_v − E r)
    want = probabilities * (rewards - (probabilities * rewards).sum())
    torch.testing.assert_close(probabilities @ gradients, want, rtol=1e-9, atol=1e-12)


def test_a_baseline_leaves_the_mean_gradient_and_lowers_its_variance():
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        theta, rewards = torch.randn(2, 4, dtype=torch.float64, generator=generator)
        rewards = rewards + 5  # scores far from zero, as a reward model is free to give
        value = (torch.softmax(theta, 0) * rewards).sum()
        means, variances = [], []
        for baseline in (torch.tensor(0.0, dtype=torch.float64), value):
            gradients, probabilities = sampled_gradients(theta, rewards, baseline)
            mean = probabilities @ gradients
            means.append(mean)
            variances.append((probabilities @ (gradients - mean).square()).sum())
        torch.testing.assert_close(means[0], means[1], rtol=1e-9, atol=1e-12)
        assert variances[1] < 0.5 * variances[0]


def test_old_logprobs_and_advantages_are_constants():
    inputs = [torch.full((1, 2), 0.5, requires_grad=True) for _ in range(3)]
    out = ops.ppo_clip_loss(*inputs, torch.ones(1, 2), clip_range=0.2, num_loss_tokens=2)
    (out.loss + ops.a2c_loss(inputs[0], inputs[2], torch.ones(1, 2), num_loss_tokens=2)).backward()
    assert inputs[0].grad is not None
    assert inputs[1].grad is None
    assert inputs[2].grad is None
    assert not any(x.requires_grad for x in out[1:])


@pytest.mark.parametrize("ratios", [(1.5, 2.0), (0.25, 0.5)])
def test_padding_is_no_ratio(ratios):
    logprobs = torch.tensor([[math.log(ratios[0]), math.log(ratios[1]), 0.0]], dtype=torch.float64)
    zeros, mask = torch.zeros_like(logprobs), torch.tensor([[1, 1, 0]])
    out = ops.ppo_clip_loss(logprobs, zeros, zeros, mask, clip_range=0.2, num_loss_tokens=2)
    assert (out.ratio_min.item(), out.ratio_max.item()) == pytest.approx(ratios)


def test_bad_arguments_are_refused():
    x = torch.zeros(1, 2)
    with pytest.raises(ValueError, match="clip_range"):
        ops.ppo_clip_loss(x, x, x, x, clip_range=0.0, num_loss_tokens=1)
    with pytest.raises(ValueError, match="form must be"):
        ops.ppo_clip_loss(x, x, x, x, clip_range=0.2, num_loss_tokens=1, form="book")
