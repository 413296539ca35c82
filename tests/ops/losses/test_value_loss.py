"""Oracle: a loop over tokens with the printed equation."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from regard import ops


@given(seed=st.integers(0, 999), clip=st.sampled_from([None, 0.1, 0.5]))
def test_value_loss_equals_a_loop_over_the_printed_equation(seed, clip):
    generator = torch.Generator().manual_seed(seed)
    values, old, returns = torch.randn(3, 3, 4, dtype=torch.float64, generator=generator)
    mask = torch.rand(3, 4, generator=generator) < 0.7
    total, errors, clipped_tokens = 0.0, 0.0, 0
    for v, o, r, m in zip(*(x.flatten().tolist() for x in (values, old, returns, mask)), strict=True):
        if not m:
            continue
        error = (v - r) ** 2
        errors += error
        near = v if clip is None else min(max(v, o - clip), o + clip)
        total += max(error, (near - r) ** 2) / 2
        clipped_tokens += (near - r) ** 2 > error + 1e-12
    out = ops.clipped_value_loss(values, old, returns, mask, value_clip_range=clip, num_loss_tokens=10)
    assert out.loss.item() == pytest.approx(total / 10, abs=1e-12)
    assert out.error_sq_sum.item() == pytest.approx(errors, abs=1e-10)
    assert out.clip_count.item() == clipped_tokens
    assert out.num_tokens.item() == mask.sum().item()


def test_clipped_value_known_answer():
    # value 2, old 0, return 3, range 0.5: unclipped error 1, clipped value 0.5 with error 6.25; half the larger
    value = torch.tensor([[2.0]], dtype=torch.float64, requires_grad=True)
    old, returns = torch.tensor([[0.0]], dtype=torch.float64), torch.tensor([[3.0]], dtype=torch.float64)
    out = ops.clipped_value_loss(value, old, returns, torch.ones(1, 1), value_clip_range=0.5, num_loss_tokens=1)
    out.loss.backward()
    assert out.loss.item() == 3.125
    assert value.grad.item() == 0
    assert out.clip_count.item() == 1
    plain = ops.clipped_value_loss(value, old, returns, torch.ones(1, 1), value_clip_range=None, num_loss_tokens=1)
    assert plain.loss.item() == 0.5


def test_the_target_never_carries_the_gradient():
    values, old, returns = (torch.full((1, 2), x, requires_grad=True) for x in (1.0, 0.9, 3.0))
    out = ops.clipped_value_loss(values, old, returns, torch.ones(1, 2), value_clip_range=0.2, num_loss_tokens=2)
    out.loss.backward()
    assert values.grad is not None
    assert old.grad is None
    assert returns.grad is None
    assert not any(x.requires_grad for x in out[1:])


def test_a_clip_range_that_is_not_positive_is_refused():
    x = torch.zeros(1, 2)
    with pytest.raises(ValueError, match="value_clip_range"):
        ops.clipped_value_loss(x, x, x, x, value_clip_range=-1.0, num_loss_tokens=1)
