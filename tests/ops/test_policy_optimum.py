"""Gradient ascent with our ops on a bandit small enough to enumerate ends at π* ∝ π_ref·exp(r/β)."""

import math

import pytest
import torch

from regard import ops


@pytest.mark.parametrize("beta", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("leash", ["kl in the reward", "exact kl as a loss", "k2 as a loss"])
def test_ascent_reaches_the_closed_form_optimum(beta, leash):
    ref_probabilities, scores = [0.1, 0.4, 0.3, 0.2], [1.0, 0.2, -0.5, 0.6]
    weights = [p * math.exp(r / beta) for p, r in zip(ref_probabilities, scores, strict=True)]
    want = torch.tensor(weights, dtype=torch.float64) / sum(weights)

    ref = torch.tensor(ref_probabilities, dtype=torch.float64).log()
    rewards = torch.tensor(scores, dtype=torch.float64)
    tokens, mask = torch.arange(4).unsqueeze(1), torch.ones(4, 1)
    theta = ref.clone().requires_grad_()
    for _ in range(600):
        logprobs = ops.logprobs_from_logits(theta.expand(4, 1, 4), tokens)
        probabilities = logprobs.exp().detach()
        in_reward = beta if leash == "kl in the reward" else 0.0
        shaped = ops.shaped_reward(rewards, logprobs, ref.unsqueeze(1), mask, in_reward)
        values = (probabilities * shaped.rewards).sum().expand(4, 1)
        advantages = ops.gae(shaped.rewards, values, mask, gamma=1.0, gae_lambda=0.95).advantages
        # one ratio-1 PPO step on every action, weighted with its probability
        loss = ops.ppo_clip_loss(
            logprobs, logprobs.detach(), probabilities * advantages, mask, clip_range=0.2, num_loss_tokens=1
        ).loss
        if leash == "exact kl as a loss":
            loss = loss + beta * ops.kl_exact(theta, ref)
        if leash == "k2 as a loss":
            loss = loss + beta * (probabilities * ops.kl_k2(logprobs, ref.unsqueeze(1))).sum()
        (gradient,) = torch.autograd.grad(loss, theta)
        with torch.no_grad():
            theta -= 1.5 / beta * gradient
    torch.testing.assert_close(torch.softmax(theta.detach(), 0), want, rtol=0, atol=1e-6)


def test_k1_as_a_loss_does_not_hold_the_policy():
    ref = torch.tensor([0.1, 0.4, 0.3, 0.2], dtype=torch.float64).log()
    rewards = torch.tensor([1.0, 0.2, -0.5, 0.6], dtype=torch.float64)
    tokens, mask = torch.arange(4).unsqueeze(1), torch.ones(4, 1)
    gradients = []
    for beta in (0.0, 10.0):
        theta = torch.tensor([2.0, 0.0, 1.0, 0.0], dtype=torch.float64, requires_grad=True)
        logprobs = ops.logprobs_from_logits(theta.expand(4, 1, 4), tokens)
        probabilities = logprobs.exp().detach()
        loss = ops.a2c_loss(logprobs, probabilities * rewards.unsqueeze(1), mask, num_loss_tokens=1)
        loss = loss + beta * (probabilities * ops.kl_k1(logprobs, ref.unsqueeze(1))).sum()
        gradients.append(torch.autograd.grad(loss, theta)[0])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=1e-12)
