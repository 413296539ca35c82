"""Oracles: plain Python over the selected elements."""

import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from regard import ops

NUMBERS = st.floats(-100, 100)
ROWS = st.lists(st.tuples(NUMBERS, st.booleans()), min_size=1, max_size=12)


def unpack(rows):
    x = torch.tensor([value for value, _ in rows], dtype=torch.float64)
    mask = torch.tensor([keep for _, keep in rows])
    return x, mask, [value for value, keep in rows if keep]


@given(ROWS)
def test_masked_statistics_are_those_of_the_selected_elements(rows):
    x, mask, kept = unpack(rows)
    torch.testing.assert_close(ops.zero_outside(x, mask).tolist(), [v if keep else 0.0 for v, keep in rows])
    assert ops.masked_sum(x, mask).item() == pytest.approx(sum(kept), abs=1e-9)
    assert ops.masked_mean(x, mask).item() == pytest.approx(statistics.fmean(kept) if kept else 0.0, abs=1e-9)
    assert ops.masked_var(x, mask).item() == pytest.approx(statistics.pvariance(kept) if kept else 0.0, abs=1e-7)


def test_whiten_known_answer():
    x = torch.tensor([[1.0, 3.0, 99.0]], dtype=torch.float64)
    mask = torch.tensor([[1, 1, 0]])
    # mean 2, population variance 1
    torch.testing.assert_close(ops.masked_whiten(x, mask).tolist(), [[-1.0, 1.0, 0.0]], rtol=0, atol=1e-7)
    torch.testing.assert_close(ops.masked_whiten(x, mask, center=False).tolist(), [[1.0, 3.0, 0.0]], rtol=0, atol=1e-7)


def test_whiten_of_a_constant_is_zero():
    assert ops.masked_whiten(torch.full((2, 2), 5.0), torch.ones(2, 2)).tolist() == [[0.0, 0.0], [0.0, 0.0]]


@given(st.floats(0.1, 10), st.floats(-10, 10))
def test_whiten_forgets_scale_and_offset(scale, offset):
    x = torch.tensor([1.0, -2.0, 4.0, 0.5], dtype=torch.float64)
    mask = torch.tensor([1, 1, 1, 0])
    torch.testing.assert_close(
        ops.masked_whiten(scale * x + offset, mask), ops.masked_whiten(x, mask), rtol=1e-5, atol=1e-6
    )


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="shapes must be equal"):
        ops.masked_sum(torch.ones(2, 3), torch.ones(3))
