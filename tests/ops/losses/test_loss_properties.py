"""What must hold of every loss, over one table of them: masks, micro-batches, order of the rows, empty input."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from regard import ops

SEEDS = st.integers(0, 999)
ROWS, WIDTH = 4, 5

# name -> loss of three [B, T] inputs (the first carries the gradient), a mask and the denominator of the whole batch
MASKED = {
    "sft": lambda a, b, c, mask, n: ops.sft_loss(a, mask, num_loss_tokens=n),
    "a2c": lambda a, b, c, mask, n: ops.a2c_loss(a, b, mask, num_loss_tokens=n),
    "ppo": lambda a, b, c, mask, n: ops.ppo_clip_loss(a, b, c, mask, clip_range=0.2, num_loss_tokens=n).loss,
    "ppo course": lambda a, b, c, mask, n: (
        ops.ppo_clip_loss(a, b, c, mask, clip_range=0.2, num_loss_tokens=n, form="course").loss
    ),
    "ppo unclipped": lambda a, b, c, mask, n: ops.ppo_clip_loss(a, b, c, mask, clip_range=None, num_loss_tokens=n).loss,
    "value": lambda a, b, c, mask, n: (
        ops.clipped_value_loss(a, b, c, mask, value_clip_range=0.2, num_loss_tokens=n).loss
    ),
    "value unclipped": lambda a, b, c, mask, n: (
        ops.clipped_value_loss(a, b, c, mask, value_clip_range=None, num_loss_tokens=n).loss
    ),
    "listwise pairs": lambda a, b, c, mask, n: ops.listwise_pairwise_loss(a, mask, num_lists=n),
    "plackett-luce": lambda a, b, c, mask, n: ops.plackett_luce_loss(a, mask, num_lists=n),
    "kl penalty": lambda a, b, c, mask, n: ops.kl_penalty(a, b, mask).sum() / n,
    "whitened": lambda a, b, c, mask, n: ops.masked_whiten(a, mask).square().square().sum() / n,
    "mean": lambda a, b, c, mask, n: ops.masked_mean(a, mask) / n,
    "variance": lambda a, b, c, mask, n: ops.masked_var(a, mask) / n,
}
NOT_ADDITIVE = {"whitened", "mean", "variance"}
MASKED_LOSSES = pytest.mark.parametrize("name", MASKED)

# losses over flat pairs
FLAT = {
    "pairwise": lambda a, b, c, d, n: (
        ops.pairwise_loss(a, b, p_chosen=torch.sigmoid(c), margin=d.abs(), num_pairs=n).loss
    ),
    "pointwise": lambda a, b, c, d, n: ops.pointwise_loss(a, b, num_scores=n),
    "centering": lambda a, b, c, d, n: ops.centering_penalty(a, b, num_pairs=n),
    "dpo": lambda a, b, c, d, n: ops.dpo_loss(a, b, c, d, beta=0.3, num_pairs=n).loss,
}


def draw(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    tensors = torch.randn(4, *shape, dtype=torch.float64, generator=generator)
    return list(tensors), torch.rand(*shape, generator=generator) < 0.6


def value_and_gradient(loss, first, *rest):
    leaf = first.clone().requires_grad_()
    value = loss(leaf, *rest)
    value.backward()
    return value.detach(), leaf.grad


@MASKED_LOSSES
@pytest.mark.parametrize("filler", [math.nan, math.inf, -math.inf, 1e9])
def test_what_lies_under_the_mask_never_matters(name, filler):
    for seed in range(5):
        (a, b, c, _), mask = draw(seed, ROWS, WIDTH)
        want = value_and_gradient(MASKED[name], a, b, c, mask, 7)
        got = value_and_gradient(MASKED[name], *(torch.where(mask, x, filler) for x in (a, b, c)), mask, 7)
        for x, y in zip(got, want, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-14)
        assert (got[1][~mask] == 0).all()


@MASKED_LOSSES
def test_all_masked_gives_zero_with_finite_gradient(name):
    (a, _, _, _), mask = draw(0, ROWS, WIDTH)
    nothing = torch.full_like(a, math.nan)
    value, gradient = value_and_gradient(MASKED[name], nothing, nothing, nothing, torch.zeros_like(mask), 7)
    assert value == 0
    assert (gradient == 0).all()


@MASKED_LOSSES
@given(SEEDS, st.integers(1, ROWS - 1))
def test_splitting_into_micro_batches_changes_nothing(name, seed, cut):
    if name in NOT_ADDITIVE:
        return
    (a, b, c, _), mask = draw(seed, ROWS, WIDTH)
    whole = value_and_gradient(MASKED[name], a, b, c, mask, 7)
    parts = [
        value_and_gradient(MASKED[name], a[s], b[s], c[s], mask[s], 7) for s in (slice(None, cut), slice(cut, None))
    ]
    torch.testing.assert_close(parts[0][0] + parts[1][0], whole[0], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(torch.cat([parts[0][1], parts[1][1]]), whole[1], rtol=1e-10, atol=1e-12)


@MASKED_LOSSES
@given(SEEDS, st.permutations(range(ROWS)))
def test_the_order_of_sequences_changes_nothing(name, seed, order):
    (a, b, c, _), mask = draw(seed, ROWS, WIDTH)
    order = list(order)
    value, gradient = value_and_gradient(MASKED[name], a, b, c, mask, 7)
    got = value_and_gradient(MASKED[name], a[order], b[order], c[order], mask[order], 7)
    torch.testing.assert_close(got[0], value, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(got[1], gradient[order], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", FLAT)
@given(SEEDS, st.integers(1, 5))
def test_flat_losses_add_up_over_micro_batches(name, seed, cut):
    inputs, _ = draw(seed, 6)
    whole = value_and_gradient(FLAT[name], *inputs, 6)
    head = value_and_gradient(FLAT[name], *(x[:cut] for x in inputs), 6)
    tail = value_and_gradient(FLAT[name], *(x[cut:] for x in inputs), 6)
    torch.testing.assert_close(head[0] + tail[0], whole[0], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(torch.cat([head[1], tail[1]]), whole[1], rtol=1e-10, atol=1e-12)


@MASKED_LOSSES
def test_gradients_agree_with_finite_differences(name):
    for seed in range(3):
        (a, b, c, _), mask = draw(seed, 2, 3)
        leaf = a.clone().requires_grad_()
        assert torch.autograd.gradcheck(lambda x, b=b, c=c, mask=mask: MASKED[name](x, b, c, mask, 7), (leaf,))


@MASKED_LOSSES
@pytest.mark.parametrize("num", [0, -1, math.nan])
def test_a_denominator_that_is_not_positive_is_refused(name, num):
    if name in NOT_ADDITIVE | {"kl penalty"}:
        return
    (a, b, c, _), mask = draw(0, ROWS, WIDTH)
    with pytest.raises(ValueError, match="greater than 0"):
        MASKED[name](a, b, c, mask, num)


@MASKED_LOSSES
def test_shapes_that_would_broadcast_are_refused(name):
    (a, b, c, _), mask = draw(0, ROWS, WIDTH)
    with pytest.raises(ValueError, match="shapes must be equal"):
        MASKED[name](a, b, c, mask[:, :1], 7)
