"""The value."""

from typing import Any

import torch

from regard.lab.faults import fault
from regard.lab.setup import Setup, Wrapped
from regard.train.stage import StepStats


@fault("C1", stage="critic")
def critic_underfit(setup: Setup) -> None:
    """A random value head, of weights 0.1, 0.3 or 1 in size, that is not trained and cannot move its body."""
    size = setup.choose(0.1, 0.3, 1.0)

    def random_head(policy: Any) -> Any:
        generator = torch.Generator().manual_seed(setup.random("head").randrange(2**31))
        weight = policy.value_head.linear.weight.data
        weight.copy_(size * torch.randn(weight.shape, generator=generator))
        policy.value_head.register_forward_pre_hook(lambda head, inputs: (inputs[0].detach(),))
        return policy

    class Frozen(Wrapped):
        def step(self, schedule: float) -> StepStats:
            self.inner.peaks = [*self.inner.peaks[:-1], 0.0]
            return self.inner.step(schedule)

    setup.wrap(
        policy=random_head,
        gradient_step=lambda make: lambda *a, **k: Frozen(make(*a, **k), setup),
    )
