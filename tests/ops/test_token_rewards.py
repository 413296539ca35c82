import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from regard import ops

LENGTHS = st.lists(st.integers(0, 4), min_size=1, max_size=4)


@given(lengths=LENGTHS, pad_left=st.booleans())
def test_the_score_lands_on_the_last_response_token(lengths, pad_left):
    mask, want = torch.zeros(len(lengths), 5), torch.zeros(len(lengths), 5)
    for row, length in enumerate(lengths):
        start = 5 - length if pad_left else 0
        mask[row, start : start + length] = 1
        if length:
            want[row, start + length - 1] = row + 1
    got = ops.eos_reward(torch.arange(1.0, len(lengths) + 1), mask)
    assert got.tolist() == want.tolist()


def test_shaped_reward_known_answer():
    scores = torch.tensor([2.0], dtype=torch.float64)
    logprobs = torch.tensor([[-1.0, -2.0, math.nan]], dtype=torch.float64)
    ref_logprobs = torch.tensor([[-1.5, -1.0, 7.0]], dtype=torch.float64)
    out = ops.shaped_reward(scores, logprobs, ref_logprobs, torch.tensor([[1, 1, 0]]), kl_coef=0.1)
    # k1 = (0.5, -1); rewards = (-0.05, 2 + 0.1)
    torch.testing.assert_close(out.kl.tolist(), [[0.5, -1.0, 0.0]])
    torch.testing.assert_close(out.rewards.tolist(), [[-0.05, 2.1, 0.0]])


def test_shaped_reward_carries_no_gradient():
    logprobs = torch.zeros(1, 2, requires_grad=True)
    out = ops.shaped_reward(torch.ones(1, requires_grad=True), logprobs, torch.ones(1, 2), torch.ones(1, 2), 0.1)
    assert not out.rewards.requires_grad
    assert not out.kl.requires_grad


@given(st.integers(0, 99), st.floats(0, 2))
def test_shaped_rewards_sum_to_score_minus_penalty(seed, kl_coef):
    draw = torch.Generator().manual_seed(seed)
    logprobs, ref_logprobs = torch.randn(2, 3, 4, dtype=torch.float64, generator=draw)
    scores = torch.randn(3, dtype=torch.float64, generator=draw)
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 1, 0]])
    penalty = torch.stack(
        [sum((a - b for a, b, m in zip(*r, strict=True) if m), torch.tensor(0.0, dtype=torch.float64))
         for r in zip(logprobs, ref_logprobs, mask, strict=True)]
    )  # fmt: skip
    torch.testing.assert_close(ops.kl_penalty(logprobs, ref_logprobs, mask), penalty)
    shaped = ops.shaped_reward(scores, logprobs, ref_logprobs, mask, kl_coef)
    torch.testing.assert_close(shaped.rewards.sum(1), scores - kl_coef * penalty)


def test_break_even_makes_shaped_rewards_equal():
    # verbose: score 2.10, log-ratio 9.0; concise: 1.95, 0.5
    beta = ops.break_even_kl_coef(2.10 - 1.95, 9.0 - 0.5)
    assert 2.10 - beta * 9.0 == pytest.approx(1.95 - beta * 0.5, abs=1e-12)
    with pytest.raises(ValueError, match="no kl_coef"):
        ops.break_even_kl_coef(1.0, 0.0)


def test_ensemble_over_a_batch():
    scores = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    assert ops.ensemble_score(scores).tolist() == [2.0, 4.0]
    # (3·1 + 1·3)/2, (3·2 + 1·6)/2
    assert ops.ensemble_score(scores, torch.tensor([3.0, 1.0])).tolist() == [3.0, 6.0]
    with pytest.raises(ValueError, match="2 models"):
        ops.ensemble_score(scores, torch.ones(3))


def test_segments_outside_the_mask_add_nothing():
    got = ops.segment_score(torch.tensor([[1.0, 2.0], [3.0, math.nan]]), torch.tensor([[1, 1], [1, 0]]))
    assert got.tolist() == [3.0, 3.0]
    assert ops.segment_score(torch.tensor([[1.0, 2.0], [3.0, 4.0]])).tolist() == [3.0, 7.0]


def test_one_score_a_row_is_required():
    with pytest.raises(ValueError, match="shapes must be equal"):
        ops.eos_reward(torch.ones(3), torch.ones(2, 4))
