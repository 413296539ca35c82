"""Number formats."""

import torch

from regard.lab.faults import fault
from regard.lab.setup import Setup, Wrapped
from regard.train.stage import StepStats


@fault("N1", stage="infrastructure", starts=("start", "mid"))
def gradients_overflow(setup: Setup) -> None:
    """Gradients pass through float16 with a loss scale that they outgrow, for 1 or 4 iterations or to the end."""
    length, scale = setup.choose(1, 4, 10**6), 2.0**30

    class Half(Wrapped):
        def step(self, schedule: float) -> StepStats:
            onset = self.setup.onset
            if onset <= self.setup.clock.step < onset + length:
                for parameter in self.inner.parameters:
                    if parameter.grad is not None:
                        parameter.grad = (parameter.grad * scale).half().float() / scale
            return self.inner.step(schedule)

    setup.wrap(gradient_step=lambda make: lambda *a, **k: Half(make(*a, **k), setup))


@fault("N2", stage="infrastructure")
def updates_underflow(setup: Setup) -> None:
    """Weights keep 5, 4 or 3 bits of their mantissa, as if after each update they were stored in a shorter format."""
    bits = setup.choose(5, 4, 3)

    class Short(Wrapped):
        @torch.no_grad()
        def step(self, schedule: float) -> StepStats:
            stats = self.inner.step(schedule)
            for parameter in self.inner.parameters:
                mantissa, exponent = torch.frexp(parameter)
                parameter.copy_(torch.ldexp((mantissa * 2**bits).round() / 2**bits, exponent))
            return stats

    setup.wrap(gradient_step=lambda make: lambda *a, **k: Short(make(*a, **k), setup))
