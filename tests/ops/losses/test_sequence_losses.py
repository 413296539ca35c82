"""Supervised fine-tuning against torch's cross-entropy; DPO against the printed probability."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from regard import ops

LOGPROB = st.floats(-30, 0)


def t(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


@given(st.integers(0, 999))
def test_sft_loss_and_gradient_equal_cross_entropy(seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3, 4, dtype=torch.float64, generator=generator)
    tokens = torch.randint(4, (2, 3), generator=generator)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    loss = ops.sft_loss(ops.logprobs_from_logits(ours, tokens), mask, num_loss_tokens=3)
    want = cross_entropy(theirs.flatten(0, 1), tokens.where(mask.bool(), -100).flatten())
    loss.backward()
    want.backward()
    torch.testing.assert_close(loss, want, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-10, atol=1e-12)


@given(LOGPROB, LOGPROB, LOGPROB, LOGPROB, st.floats(0.01, 1))
def test_dpo_is_the_bradley_terry_loss_of_implicit_rewards(w, l, ref_w, ref_l, beta):  # noqa: E741
    out = ops.dpo_loss(t(w), t(l), t(ref_w), t(ref_l), beta=beta, num_pairs=2)
    chosen, rejected = beta * (w - ref_w), beta * (l - ref_l)
    assert out.loss.item() == pytest.approx(math.log1p(math.exp(rejected - chosen)) / 2, rel=1e-9)
    assert out.chosen_reward_sum.item() == pytest.approx(chosen)
    assert out.rejected_reward_sum.item() == pytest.approx(rejected)
    assert bool(out.correct_count) == (t(chosen) > t(rejected)).item()


@given(LOGPROB, LOGPROB, LOGPROB, LOGPROB)
def test_swapping_the_pair_gives_the_other_likelihood(w, l, ref_w, ref_l):  # noqa: E741
    there = ops.dpo_loss(t(w), t(l), t(ref_w), t(ref_l), beta=0.1, num_pairs=1).loss.item()
    back = ops.dpo_loss(t(l), t(w), t(ref_l), t(ref_w), beta=0.1, num_pairs=1).loss.item()
    assert math.exp(-there) + math.exp(-back) == pytest.approx(1)


def test_dpo_at_the_reference_is_ln_two_and_moves_only_the_policy():
    chosen, rejected, ref_chosen, ref_rejected = (torch.full((1,), -3.0, requires_grad=True) for _ in range(4))
    out = ops.dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta=0.4, num_pairs=1)
    out.loss.backward()
    assert out.loss.item() == pytest.approx(math.log(2))
    assert out.correct_count.item() == 0
    # −β·σ(0) on the chosen, +β·σ(0) on the rejected
    assert (chosen.grad.item(), rejected.grad.item()) == (pytest.approx(-0.2), pytest.approx(0.2))
    assert ref_chosen.grad is None
    assert ref_rejected.grad is None


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="beta"):
        ops.dpo_loss(t(0.0), t(0.0), t(0.0), t(0.0), beta=0.0, num_pairs=1)
    with pytest.raises(ValueError, match="shapes must be equal"):
        ops.dpo_loss(t(0.0, 1.0), t(0.0), t(0.0), t(0.0), beta=0.1, num_pairs=1)
