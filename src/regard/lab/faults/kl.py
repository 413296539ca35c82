"""The leash to the reference."""

from dataclasses import replace

import torch
from safetensors.torch import load_file

from regard.lab.faults import fault
from regard.lab.setup import Setup, Wrapped
from regard.models.checkpoints import checkpoints
from regard.models.loading import load_causal
from regard.models.policy import FrozenReference
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
