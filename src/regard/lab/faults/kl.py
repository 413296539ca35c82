"""The leash to the reference."""

from dataclasses import replace
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from regard.lab.faults import fault
from regard.lab.setup import Setup, Wrapped
from regard.models.checkpoints import checkpoints
from regard.models.loading import load_causal
from regard.models.policy import FrozenReference
from regard.ops import ShapedReward, kl_k1, kl_k3, masked_sum
from regard.train.ppo import Parts


@fault("K1", stage="kl", starts=("start", "mid"))
def kl_coefficient_too_low(setup: Setup) -> None:
    """β of 0.3, 0.1 or 0 times the tuned one."""
    factor = setup.choose(0.3, 0.1, 0.0)
    if setup.start == "start":
        setup.scale("ppo.kl_coef", factor)
        return

    class Loosened(Wrapped):
        @property
        def coef(self) -> float:
            return self.inner.coef * (factor if self.setup.active else 1.0)

        @coef.setter
        def coef(self, value: float) -> None:
            self.inner.coef = value

    setup.wrap(kl_controller=lambda inner: Loosened(inner, setup))


@fault("K3", stage="kl")
def reference_is_not_the_initial_policy(setup: Setup) -> None:
    """The reference is the SFT model at three quarters or a quarter of its training, or the model before SFT."""

    def load_other(parts: Parts) -> Parts:
        final = setup.context.final("sft")
        if setup.severity == "severe":
            model, _ = load_causal(str(setup.context.final("pretrain")), torch.float32)
        else:
            model, _ = load_causal(str(final), torch.float32)
            saved = checkpoints(final.with_name("checkpoints"))[setup.choose(2, 0, None)]
            weights = load_file(saved / "state.safetensors")
            prefix = "weights/model/"
            own = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
            model.load_state_dict(own, strict=False)
        reference = FrozenReference(model.eval().requires_grad_(False), parts.policy.temperature, adapters_off=False)
        return replace(parts, reference=reference)

    setup.on_parts(load_other)


@fault("K2", stage="kl")
def kl_coefficient_too_high(setup: Setup) -> None:
    """β of 20, 60 or 200 times the tuned one."""
    setup.scale("ppo.kl_coef", setup.choose(20.0, 60.0, 200.0))


@fault("K5", stage="kl", starts=("start", "mid"))
def kl_term_is_misplaced(setup: Setup) -> None:
    """The KL leaves the reward and is added to the loss: as k3, as k1; severe: it is added to the reward, not taken."""
    severity = setup.severity

    def shaping(inner: Any) -> Any:
        def shape(scores: Tensor, old: Tensor, ref: Tensor, mask: Tensor, coef: float) -> ShapedReward:
            if setup.active:
                coef = -coef if severity == "severe" else 0.0
            return inner(scores, old, ref, mask, coef)

        return shape

    def loss(inner: Any) -> Any:
        def added(config: Any, out: Any, minibatch: Any, num_loss_tokens: float) -> Any:
            result = inner(config, out, minibatch, num_loss_tokens)
            if not setup.active or severity == "severe":
                return result
            estimate = (kl_k3 if severity == "mild" else kl_k1)(out.logprobs, minibatch.ref_logprobs)
            term = masked_sum(estimate, minibatch.batch.response_mask) / num_loss_tokens
            return result._replace(loss=result.loss + config.kl_coef * term)

        return added

    setup.wrap(shape_reward=shaping, policy_loss=loss)


@fault("K6", stage="kl")
def kl_controller_has_the_wrong_gain_or_unit(setup: Setup) -> None:
    """A target of 6 nats per sequence taken per token; a target of 0.02 nats; a horizon of a quarter of a batch."""
    target, unit, batches = setup.choose(
        (6.0, "nats/token", 1.5), (0.02, "nats/sequence", 1.5), (2.0, "nats/sequence", 0.25)
    )
    setup.set("ppo.kl_target", target)
    setup.set("ppo.kl_target_unit", unit)
    setup.set("ppo.kl_horizon", int(batches * setup.get("ppo.batch_size")))


@fault("K7", stage="kl", starts=("start", "mid"))
def padding_counts_in_the_kl(setup: Setup) -> None:
    """Each pad of the batch brings 0.1, 0.3 or 1 nat into the KL of its response, and into the penalty."""
    sentinel = setup.choose(0.1, 0.3, 1.0)

    def shaping(inner: Any) -> Any:
        def shape(scores: Tensor, old: Tensor, ref: Tensor, mask: Tensor, coef: float) -> ShapedReward:
            if not setup.active:
                return inner(scores, old, ref, mask, coef)
            pads = sentinel * (1.0 - mask.float())
            shaped = inner(scores - coef * pads.sum(1), old, ref, mask, coef)
            return shaped._replace(kl=shaped.kl + pads)

        return shape

    setup.wrap(shape_reward=shaping)


@fault("K8", stage="kl", starts=("start", "mid"))
def reference_moves(setup: Setup) -> None:
    """The reference takes over the policy's weights every 10 iterations, every 4, or is the policy itself."""
    every = setup.choose(10, 4, 1)

    def follow(parts: Parts) -> Parts:
        source, reference = parts.source, parts.reference

        class Following(Wrapped):
            def prompts(self, step: int) -> list[Any]:
                due = step >= setup.onset and (step - setup.onset) % every == 0
                if due and isinstance(reference, FrozenReference):
                    reference.model.load_state_dict(parts.policy.model.state_dict())
                return self.inner.prompts(step)

        return replace(parts, source=Following(source, setup))

    setup.on_parts(follow)
