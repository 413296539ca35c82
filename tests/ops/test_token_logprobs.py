"""Oracles: math.log and math.exp one token at a time; torch's own cross-entropy with autograd."""

import math

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from regard import ops


def test_logprobs_known_answer():
    # softmax of (0, ln 2, ln 5) is (1/8, 2/8, 5/8)
    logits = torch.tensor([[[0.0, math.log(2), math.log(5)]] * 2], dtype=torch.float64)
    got = ops.logprobs_from_logits(logits, torch.tensor([[2, 0]]))
    torch.testing.assert_close(got.tolist(), [[math.log(5 / 8), math.log(1 / 8)]], rtol=1e-12, atol=0)


def test_entropy_known_answer():
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, math.log(3), -math.inf, -math.inf]], dtype=torch.float64)
    want = [math.log(4), -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))]
    torch.testing.assert_close(ops.entropy_from_logits(logits).tolist(), want, rtol=1e-12, atol=0)


def test_step_logprobs_sum_to_the_sequence_logprob():
    logits = torch.randn(1, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    tokens = torch.tensor([[0, 3, 2, 2, 1]])
    probability = 1.0
    for t, token in enumerate(tokens[0].tolist()):
        weights = [math.exp(v) for v in logits[0, t].tolist()]
        probability *= weights[token] / sum(weights)
    assert ops.logprobs_from_logits(logits, tokens).sum().item() == pytest.approx(math.log(probability), abs=1e-12)


@example(n=4, chunk_size=9, seed=0, frozen=False)  # a trained embedding in one chunk
@example(n=7, chunk_size=3, seed=0, frozen=False)
@given(n=st.integers(0, 9), chunk_size=st.integers(1, 11), seed=st.integers(0, 99), frozen=st.booleans())
def test_chunked_logprobs_and_gradients_equal_the_plain_ones(n, chunk_size, seed, frozen):
    draw = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, 3, dtype=torch.float64, generator=draw)
    weight = torch.randn(7, 3, dtype=torch.float64, generator=draw)
    tokens = torch.randint(7, (n,), generator=draw)
    upstream = torch.randn(n, dtype=torch.float64, generator=draw)
    results = []
    for chunked in (True, False):
        h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_(not frozen)
        if chunked:
            out = ops.chunked_logprobs(h, w, tokens, chunk_size=chunk_size, with_entropy=True)
            logprobs, entropy = out.logprobs, out.entropy
            assert entropy is not None
            assert not entropy.requires_grad
        else:
            logprobs = -cross_entropy(h @ w.T, tokens, reduction="none")
            entropy = torch.distributions.Categorical(logits=h @ w.T, validate_args=False).entropy().detach()
        (logprobs * upstream).sum().backward()
        grads = [h.grad, torch.zeros_like(w) if w.grad is None else w.grad]
        results.append([logprobs.detach(), entropy, *grads])
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("frozen", [False, True])
def test_gradients_in_bfloat16_are_within_its_roundings_of_those_in_float64(frozen):
    draw = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(40, 16, generator=draw).bfloat16(), torch.randn(90, 16, generator=draw).bfloat16()
    tokens, upstream = torch.randint(90, (40,), generator=draw), torch.randn(40, generator=draw)
    h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_(not frozen)
    out = ops.chunked_logprobs(h, w, tokens, chunk_size=16).logprobs
    (out * upstream).sum().backward()
    exact, its_weight = hidden.double().requires_grad_(), weight.double().requires_grad_()
    expected = -cross_entropy(exact @ its_weight.T, tokens, reduction="none")
    (expected * upstream).sum().backward()
    assert out.dtype is torch.float32 and h.grad is not None and h.grad.dtype is torch.bfloat16
    for got, want in [(out, expected), (h.grad, exact.grad), *([] if frozen else [(w.grad, its_weight.grad)])]:
        assert float((got.detach().double() - want.detach()).norm() / want.detach().norm()) < 0.02


@pytest.mark.parametrize("frozen", [False, True])
def test_chunked_logprobs_keeps_no_logits_for_the_backward_pass(frozen):
    hidden = torch.randn(8, 3, requires_grad=True)
    weight = torch.randn(50, 3, requires_grad=not frozen)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(tuple(t.shape)) or t, lambda t: t):
        ops.chunked_logprobs(hidden, weight, torch.zeros(8, dtype=torch.long), chunk_size=4)
    assert all(shape != (4, 50) and shape != (8, 50) for shape in kept)


@pytest.mark.parametrize(("chunk_size", "products"), [(4, 2 * 2), (8, 1), (9, 1)])
def test_logits_of_a_trained_embedding_are_computed_again_only_where_there_are_several_chunks(
    chunk_size: int, products: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from regard.ops import logprobs

    plain, made = logprobs.output_logits, []
    monkeypatch.setattr(logprobs, "output_logits", lambda h, w: made.append(len(h)) or plain(h, w))
    hidden, weight = torch.randn(8, 3, requires_grad=True), torch.randn(50, 3, requires_grad=True)
    ops.chunked_logprobs(
        hidden, weight, torch.zeros(8, dtype=torch.long), chunk_size=chunk_size
    ).logprobs.sum().backward()
    assert len(made) == products


def test_logits_by_blocks_of_the_vocabulary_equal_one_product():
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(3, 4, dtype=torch.float64, generator=draw)
    weight = torch.randn(1300, 4, dtype=torch.float64, generator=draw)  # two whole blocks and part of one
    with torch.no_grad():
        torch.testing.assert_close(ops.output_logits(hidden, weight), hidden @ weight.T, rtol=1e-12, atol=0)


def test_a_frozen_copy_gives_the_same_bits_as_a_trained_embedding():
    """Or the KL of a policy to its own copy would not be exactly 0."""
    draw = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(5, 8, generator=draw), torch.randn(700, 8, generator=draw)
    tokens = torch.randint(700, (5,), generator=draw)
    with torch.no_grad():
        trained, frozen = (
            ops.chunked_logprobs(hidden, weight.clone().requires_grad_(grad), tokens, chunk_size=3).logprobs
            for grad in (True, False)
        )
    assert torch.equal(trained, frozen)


def test_entropy_is_absent_unless_asked_for():
    out = ops.chunked_logprobs(torch.ones(2, 3), torch.ones(4, 3), torch.tensor([0, 1]), chunk_size=1)
    assert out.entropy is None


def test_half_precision_logits_are_normalised_in_float32():
    logits = torch.zeros(1, 1, 1000, dtype=torch.bfloat16)
    got = ops.logprobs_from_logits(logits, torch.zeros(1, 1, dtype=torch.long))
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx(-math.log(1000), abs=1e-5)
    assert ops.entropy_from_logits(logits).item() == pytest.approx(math.log(1000), abs=1e-4)
    out = ops.chunked_logprobs(
        torch.zeros(1, 2, dtype=torch.bfloat16),
        torch.zeros(1000, 2, dtype=torch.bfloat16),
        torch.zeros(1, dtype=torch.long),
        chunk_size=1,
    )
    assert out.logprobs.item() == pytest.approx(-math.log(1000), abs=1e-5)
    hidden = torch.ones(1, 2, dtype=torch.bfloat16, requires_grad=True)
    ops.chunked_logprobs(hidden, torch.eye(2).bfloat16(), torch.tensor([0]), chunk_size=1).logprobs.sum().backward()
    assert hidden.grad is not None and hidden.grad.dtype == torch.bfloat16
    assert hidden.grad.tolist() == [[0.5, -0.5]]


def test_wrong_shapes_and_chunk_sizes_are_refused():
    with pytest.raises(ValueError, match="shapes must be equal"):
        ops.logprobs_from_logits(torch.zeros(2, 3, 4), torch.zeros(2, 2, dtype=torch.long))
    with pytest.raises(ValueError, match="chunk_size"):
        ops.chunked_logprobs(torch.ones(1, 2), torch.ones(3, 2), torch.tensor([0]), chunk_size=0)
