"""The update of stage 4 on a model of some thousand weights: what may and what may not change it."""

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from regard.config import PPOConfig, RecipeConfig
from regard.models.checkpoints import trained_parameters
from regard.models.policy import PolicyAndValue
from regard.models.sequences import make_batch
from regard.rollout.protocols import Prompt
from regard.train.distributed import World
from regard.train.kl_control import AdaptiveKL, FixedKL, make_kl_controller
from regard.train.ppo import Rollouts, run_update
from regard.train.ppo_metrics import explained_variance
from regard.train.stage import Context, GradientStep

PROMPTS = [(3, 4), (5, 6, 7, 8), (9,), (10, 11), (3, 3, 3), (4, 9), (5,), (6, 6)]
RESPONSES = [[5, 1], [7, 8, 9, 10], [4, 4, 1], [6], [3, 11, 2, 1], [8, 8, 8], [9, 1], [2, 5, 7, 3, 1]]


def llama(*, tied: bool = True) -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=12,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            initializer_range=0.3,
            tie_word_embeddings=tied,
        )
    )


def assembled(value_body: Any) -> PolicyAndValue:
    torch.manual_seed(0)
    policy = PolicyAndValue(llama(), SimpleNamespace(pad_token_id=0, eos_token_id=1), value_body, 1.0).double().eval()
    torch.nn.init.normal_(policy.value_head.linear.weight)
    return policy


@pytest.fixture
def policy() -> PolicyAndValue:
    return assembled(None)


@pytest.fixture
def apart() -> PolicyAndValue:
    """With a value model of its own."""
    torch.manual_seed(1)
    return assembled(llama())


def update(policy: PolicyAndValue, at: int = 0, max_grad_norm: float = 1e9, **ppo: Any) -> tuple[PolicyAndValue, Any]:
    """The update of iteration `at` on fixed rollouts, with a copy of `policy`; returns the copy and the sums."""
    policy = copy.deepcopy(policy)
    settings: dict[str, Any] = {"batch_size": 8, "num_minibatches": 1, "epochs": 1, "warmup_steps": 0, **ppo}
    config = RecipeConfig(ppo=PPOConfig(**settings))
    batch = make_batch(PROMPTS, RESPONSES, 0)
    with torch.no_grad():
        out = policy(batch)
    noise = torch.Generator().manual_seed(5)
    advantages = torch.randn(batch.tokens.shape, generator=noise, dtype=torch.float64)
    returns = torch.randn(batch.tokens.shape, generator=noise, dtype=torch.float64)
    prompts = [Prompt(str(i), "", tokens) for i, tokens in enumerate(PROMPTS)]
    rollouts = Rollouts(
        prompts, RESPONSES, [], [], [], [], {}, batch, out.logprobs, out.logprobs, out.values, out.entropy
    )
    parameters = trained_parameters({"policy": policy})
    groups = [{"params": list(parameters.values()), "lr": 1e-2}]
    step = GradientStep(groups, max_grad_norm, World(0, 1), value_parameters=policy.value_parameters())
    context = Context(config, None, World(0, 1))  # type: ignore[arg-type]
    return policy, run_update(context, policy, step, rollouts, advantages, returns, at)


def weights(policy: PolicyAndValue) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in policy.parameters()])


@pytest.mark.parametrize("size", [1, 3, 8])
def test_micro_batches_do_not_change_the_update(policy: PolicyAndValue, size: int) -> None:
    whole, sums = update(policy, micro_batch_size=100, epochs=3, num_minibatches=2)
    parts, part_sums = update(policy, micro_batch_size=size, epochs=3, num_minibatches=2)
    assert torch.allclose(weights(whole), weights(parts), atol=1e-9, rtol=0)
    assert torch.allclose(sums.total, part_sums.total, atol=1e-9)
    assert not torch.allclose(weights(whole), weights(policy), atol=1e-4)


@pytest.mark.parametrize("size", [1, 3])
def test_micro_batches_do_not_change_the_update_of_two_models(apart: PolicyAndValue, size: int) -> None:
    whole, sums = update(apart, micro_batch_size=100, epochs=3, num_minibatches=2)
    parts, part_sums = update(apart, micro_batch_size=size, epochs=3, num_minibatches=2)
    assert torch.allclose(weights(whole), weights(parts), atol=1e-9, rtol=0)
    assert torch.allclose(sums.total, part_sums.total, atol=1e-9)


@pytest.mark.parametrize("max_grad_norm", [1e9, 0.01])
@pytest.mark.parametrize("models", ["policy", "apart"])
def test_policy_and_value_learn_what_torch_makes_of_their_losses(
    models: str, max_grad_norm: float, request: pytest.FixtureRequest
) -> None:
    """One step of AdamW after one backward pass of both losses. Gradients are clipped for each model that shares no
    weight with another, whether the steps are taken at once or one by one."""
    before: PolicyAndValue = request.getfixturevalue(models)
    got, sums = update(
        before, 0, max_grad_norm, entropy_coef=0.3, value_coef=0.7, value_clip_range=None, clip_range=None
    )
    expected, batch = copy.deepcopy(before), make_batch(PROMPTS, RESPONSES, 0)
    noise = torch.Generator().manual_seed(5)
    advantages, returns = (
        torch.randn(batch.tokens.shape, generator=noise, dtype=torch.float64)[batch.response_mask] for _ in range(2)
    )
    out = expected(batch, differentiable_entropy=True)
    logprobs, entropy, values = (x[batch.response_mask] for x in (out.logprobs, out.entropy, out.values))
    surrogate = -(torch.exp(logprobs - logprobs.detach()) * advantages).mean()
    errors = (values - returns).square()
    value = 0.5 * errors.mean()
    loss = surrogate + 0.7 * value - 0.3 * entropy.mean()
    loss.backward()
    value_model = [*expected.value_head.parameters()]
    value_model += [] if expected.value_body is None else [*expected.value_body.parameters()]
    of_value = float(torch.nn.utils.get_total_norm([p.grad for p in value_model if p.grad is not None]))
    together = [[*expected.parameters()]] if models == "policy" else [[*expected.model.parameters()], value_model]
    norms = [float(torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm)) for parameters in together]
    torch.optim.AdamW(expected.parameters(), lr=1e-2, weight_decay=0.0).step()
    assert torch.allclose(weights(got), weights(expected), atol=1e-9, rtol=0)
    assert sums.grad_norms == [pytest.approx(sum(norm**2 for norm in norms) ** 0.5, rel=1e-9)]
    assert sums.value_grad_norm == pytest.approx(of_value, rel=1e-9)
    assert sums.clipped == (max_grad_norm < 1)
    assert sums.total[:3].tolist() == [pytest.approx(float(x.detach()), rel=1e-9) for x in (surrogate, value, loss)]
    assert sums.total[9:].tolist() == [0.0, pytest.approx(float(errors.detach().sum()), rel=1e-9)]


def test_an_output_embedding_that_no_loss_reads_is_not_trained() -> None:
    policy = assembled(llama(tied=False))
    assert policy.value_body is not None
    unused = policy.value_body.get_output_embeddings().weight
    assert not any(p is unused for p in policy.parameters() if p.requires_grad)
    trained = policy.apart()
    assert len(trained["policy"]) == len(trained["value"]) - 2  # which has a head


def test_a_pass_of_one_model_computes_nothing_of_the_other(apart: PolicyAndValue) -> None:
    ran: list[str] = []
    apart.model.base_model.register_forward_hook(lambda *_: ran.append("policy"))
    apart.value_body.base_model.register_forward_hook(lambda *_: ran.append("value"))  # type: ignore[union-attr]
    batch = make_batch(PROMPTS, RESPONSES, 0)
    whole, policy, value = apart(batch), apart(batch, "policy"), apart(batch, "value")
    assert ran == ["policy", "value", "policy", "value"]
    assert torch.equal(policy.logprobs, whole.logprobs) and not policy.values.any()
    assert torch.equal(value.values, whole.values) and not value.logprobs.any()


def test_first_ppo_step_equals_a2c(policy: PolicyAndValue) -> None:
    """At ratio 1 the clip is inactive and the gradients are the same."""
    ppo, sums = update(policy)
    a2c, _ = update(policy, algorithm="a2c")
    assert torch.allclose(weights(ppo), weights(a2c), atol=1e-12)
    assert sums.ratio_max == pytest.approx(1, abs=1e-12) and sums.ratio_min == pytest.approx(1, abs=1e-12)


def test_clipping_holds_the_ratio_back(policy: PolicyAndValue) -> None:
    _, clipped = update(policy, epochs=20, clip_range=0.05, early_stop_kl=None)
    _, free = update(policy, epochs=20, clip_range=None, early_stop_kl=None)
    assert clipped.epoch_clip[-1] > 0 and free.epoch_clip[-1] == 0
    assert clipped.epoch_kl[-1] < free.epoch_kl[-1]


@pytest.mark.parametrize(("iteration", "factor"), [(0, 0.5), (1, 1.0), (2, 1.0), (6, 0.55), (9, 0.2125)])
def test_learning_rate_rises_then_falls_to_a_tenth(policy: PolicyAndValue, iteration: int, factor: float) -> None:
    _, sums = update(policy, at=iteration, warmup_steps=2, steps=10)
    assert sums.learning_rate == pytest.approx(1e-2 * factor, rel=1e-9)


def test_kl_early_stop_ends_the_epochs(policy: PolicyAndValue) -> None:
    _, sums = update(policy, epochs=20, early_stop_kl=1e-3)
    assert sums.early_stopped and len(sums.epoch_kl) < 20
    assert sums.epoch_kl[-1] > 1e-3 and all(kl <= 1e-3 for kl in sums.epoch_kl[:-1])


def test_entropy_bonus_raises_entropy(policy: PolicyAndValue) -> None:
    batch = make_batch(PROMPTS, RESPONSES, 0)

    def entropy(p: PolicyAndValue) -> float:
        return float(p(batch).entropy[batch.response_mask].mean().detach())

    plain, _ = update(policy, value_coef=0.0)
    bonus, _ = update(policy, value_coef=0.0, entropy_coef=5.0)
    assert entropy(bonus) > entropy(plain)


def test_nonfinite_gradient_is_skipped_and_counted(policy: PolicyAndValue) -> None:
    before = weights(policy).clone()
    step = GradientStep([{"params": list(policy.parameters()), "lr": 1.0}], 1.0, World(0, 1))
    for parameter in policy.parameters():
        parameter.grad = torch.full_like(parameter, float("nan"))
    stats = step.step(1.0)
    assert not stats.finite and torch.equal(weights(policy), before)


def test_adaptive_coefficient_moves_towards_its_target_by_at_most_a_fifth() -> None:
    """β·(1 + clip(KL/target − 1, ±0.2)·n/horizon) by hand."""
    controller = AdaptiveKL(0.1, 6.0, "nats/sequence", 1000)
    controller.update(12.0, 99.0, 100)
    assert controller.coef == pytest.approx(0.1 * (1 + 0.2 * 0.1))
    controller.update(5.4, 99.0, 500)
    assert controller.coef == pytest.approx(0.102 * (1 - 0.1 * 0.5))


def test_unit_of_the_target_decides_which_kl_is_read() -> None:
    per_token = make_kl_controller(PPOConfig(kl_target=0.1, kl_target_unit="nats/token", kl_coef=1.0, kl_horizon=100))
    per_token.update(99.0, 0.1, 100)
    assert per_token.coef == pytest.approx(1.0)
    assert isinstance(make_kl_controller(PPOConfig()), FixedKL)


def test_explained_variance_by_hand() -> None:
    returns = torch.tensor([1.0, 2.0, 3.0])
    assert explained_variance(returns, returns) == 1.0
    assert explained_variance(torch.zeros(3), returns) == pytest.approx(0.0)
    # errors 0, 1, 0: variance 2/9; returns: variance 2/3
    assert explained_variance(torch.tensor([1.0, 1.0, 3.0]), returns) == pytest.approx(1 - (2 / 9) / (2 / 3))
    assert explained_variance(returns, torch.ones(3)) != explained_variance(returns, torch.ones(3))  # NaN
