"""Exact enumeration over a vocabulary of four tokens: the true KL and its true gradient, by finite differences too."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from regard import ops

SEEDS = st.integers(0, 999)


def policies(seed):
    draw = torch.Generator().manual_seed(seed)
    theta, ref = torch.randn(2, 4, dtype=torch.float64, generator=draw)
    return theta, ref


def softmax(logits):
    weights = [math.exp(v) for v in logits]
    return [w / sum(weights) for w in weights]


def true_kl(theta, ref):
    return sum(p * math.log(p / q) for p, q in zip(softmax(theta), softmax(ref), strict=True))


def numeric_gradient(function, theta, step=1e-5):
    gradient = []
    for i in range(len(theta)):
        up, down = list(theta), list(theta)
        up[i] += step
        down[i] -= step
        gradient.append((function(up) - function(down)) / (2 * step))
    return torch.tensor(gradient, dtype=torch.float64)


def expected_gradient(theta, term):
    """Gradient of Σ_v π(v)·term(log π(v)) with the sampling weights held constant: what autograd sees on samples."""
    theta = theta.clone().requires_grad_()
    logprobs = torch.log_softmax(theta, 0)
    (logprobs.exp().detach() * term(logprobs)).sum().backward()
    return theta.grad


@given(SEEDS)
def test_exact_kl_and_its_gradient_are_the_true_ones(seed):
    theta, ref = policies(seed)
    leaf = theta.clone().requires_grad_()
    kl = ops.kl_exact(leaf, ref)
    kl.backward()
    torch.testing.assert_close(kl.item(), true_kl(theta.tolist(), ref.tolist()), rtol=1e-9, atol=1e-12)
    want = numeric_gradient(lambda logits: true_kl(logits, ref.tolist()), theta.tolist())
    torch.testing.assert_close(leaf.grad, want, rtol=1e-6, atol=1e-8)


@given(SEEDS)
def test_k1_and_k3_are_unbiased(seed):
    theta, ref = policies(seed)
    logprobs, ref_logprobs = torch.log_softmax(theta, 0), torch.log_softmax(ref, 0)
    want = true_kl(theta.tolist(), ref.tolist())
    for estimator in (ops.kl_k1, ops.kl_k3):
        got = (logprobs.exp() * estimator(logprobs, ref_logprobs)).sum().item()
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


def test_estimators_known_answer():
    # d = ref - policy = -1 + 2 = 1: k1 = -1, k2 = 1/2, k3 = e - 2
    logprobs, ref_logprobs = torch.tensor([[-2.0]], dtype=torch.float64), torch.tensor([[-1.0]], dtype=torch.float64)
    got = [k(logprobs, ref_logprobs).item() for k in (ops.kl_k1, ops.kl_k2, ops.kl_k3)]
    torch.testing.assert_close(got, [-1.0, 0.5, math.e - 2], rtol=1e-12, atol=0)


@given(SEEDS)
def test_k1_as_a_loss_has_no_expected_gradient(seed):
    theta, ref = policies(seed)
    ref_logprobs = torch.log_softmax(ref, 0)
    got = expected_gradient(theta, lambda logprobs: ops.kl_k1(logprobs, ref_logprobs))
    torch.testing.assert_close(got, torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-12)


@given(SEEDS)
def test_k2_as_a_loss_has_the_gradient_of_reverse_kl(seed):
    theta, ref = policies(seed)
    ref_logprobs = torch.log_softmax(ref, 0)
    got = expected_gradient(theta, lambda logprobs: ops.kl_k2(logprobs, ref_logprobs))
    want = numeric_gradient(lambda logits: true_kl(logits, ref.tolist()), theta.tolist())
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-8)


@given(SEEDS)
def test_k3_as_a_loss_has_the_gradient_of_forward_kl(seed):
    theta, ref = policies(seed)
    ref_logprobs = torch.log_softmax(ref, 0)
    got = expected_gradient(theta, lambda logprobs: ops.kl_k3(logprobs, ref_logprobs))
    want = numeric_gradient(lambda logits: true_kl(ref.tolist(), logits), theta.tolist())
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-8)


@given(SEEDS)
def test_kl_in_the_reward_has_the_gradient_of_reverse_kl(seed):
    theta, ref = policies(seed)
    tokens = torch.arange(4).unsqueeze(1)
    mask = torch.ones(4, 1)
    leaf = theta.clone().requires_grad_()
    logprobs = ops.logprobs_from_logits(leaf.expand(4, 1, 4), tokens)
    ref_logprobs = torch.log_softmax(ref, 0).unsqueeze(1)
    shaped = ops.shaped_reward(torch.zeros(4, dtype=torch.float64), logprobs, ref_logprobs, mask, kl_coef=0.3)
    weights = torch.log_softmax(theta, 0).exp().unsqueeze(1)
    advantages = weights * ops.reward_to_go(shaped.rewards, mask, gamma=1.0)
    ops.a2c_loss(logprobs, advantages, mask, num_loss_tokens=1).backward()
    want = 0.3 * numeric_gradient(lambda logits: true_kl(logits, ref.tolist()), theta.tolist())
    torch.testing.assert_close(leaf.grad, want, rtol=1e-6, atol=1e-8)


@given(SEEDS)
def test_k2_k3_and_exact_kl_are_never_negative_and_zero_for_equal_policies(seed):
    theta, ref = policies(seed)
    for estimator in (ops.kl_k2, ops.kl_k3):
        assert (estimator(theta, ref) >= 0).all()
        assert (estimator(theta, theta) == 0).all()
    assert ops.kl_exact(theta, ref) >= 0
    assert ops.kl_exact(theta, theta) == 0


def test_exact_kl_with_impossible_tokens():
    logits = torch.tensor([0.0, 0.0, -math.inf], dtype=torch.float64, requires_grad=True)
    kl = ops.kl_exact(logits, torch.tensor([0.0, math.log(3), -math.inf], dtype=torch.float64))
    kl.backward()
    # 1/2 ln(1/2 / 1/4) + 1/2 ln(1/2 / 3/4)
    torch.testing.assert_close(kl.item(), 0.5 * math.log(2) + 0.5 * math.log(2 / 3), rtol=1e-12, atol=0)
    assert logits.grad.isfinite().all()
    assert ops.kl_exact(torch.zeros(2), torch.tensor([0.0, -math.inf])).item() == math.inf
