"""The optimiser's step."""

from dataclasses import replace
from typing import Any

from regard.lab.faults import fault
from regard.lab.setup import Setup, Wrapped
from regard.models.policy import FrozenReference
from regard.train.ppo import Parts
from regard.train.stage import StepStats


class _Faster(Wrapped):
    """Peak learning rates multiplied by `factor`, of all groups or of the last (the value head) alone."""

    def __init__(self, inner: Any, setup: Setup, factor: float, *, value_only: bool) -> None:
        super().__init__(inner, setup)
        self.factor = factor
        self.value_only = value_only
        self.healthy = list(inner.peaks)

    def step(self, schedule: float) -> StepStats:
        if self.setup.active:
            changed = [peak * self.factor for peak in self.healthy]
            self.inner.peaks = [*self.healthy[:-1], changed[-1]] if self.value_only else changed
        return self.inner.step(schedule)


def _wrap_step(setup: Setup, factor: float, *, value_only: bool) -> None:
    setup.wrap(gradient_step=lambda make: lambda *a, **k: _Faster(make(*a, **k), setup, factor, value_only=value_only))


@fault("P1", stage="policy optimisation", starts=("start", "mid"))
def learning_rate_too_high(setup: Setup) -> None:
    """Learning rate times 10, 30 or 100; from the start it stands in the configuration."""
    factor = setup.choose(10, 30, 100)
    if setup.start == "start":
        setup.scale("ppo.learning_rate", factor)
    else:
        _wrap_step(setup, factor, value_only=False)


@fault("C2", stage="critic", starts=("start", "mid"))
def critic_diverges(setup: Setup) -> None:
    """The value head's learning rate times 100, 300 or 1000; times 30 it heals by itself."""
    _wrap_step(setup, setup.choose(100, 300, 1000), value_only=True)


@fault("N3", stage="infrastructure", starts=("mid",))
def restart_loses_state(setup: Setup) -> None:
    """Resumed with fresh moments and the schedule from its beginning; severe: the reference is the policy of then."""

    class Fresh(Wrapped):
        done = False

        def step(self, schedule: float) -> StepStats:
            if self.setup.active and not self.done:
                self.inner.optimizer.state.clear()
                self.done = True
            return self.inner.step(schedule)

    setup.wrap(gradient_step=lambda make: lambda *a, **k: Fresh(make(*a, **k), setup))
    if setup.severity != "mild":
        setup.wrap(
            schedule=lambda inner: (
                lambda step, total, warmup: inner(step - setup.onset if setup.active else step, total, warmup)
            )
        )

    def on_resume(parts: Parts) -> Parts:
        source = parts.source

        class Resumed(Wrapped):
            def prompts(self, step: int) -> list[Any]:
                if step == setup.onset:
                    setup.event("resume", step=step)
                    if setup.severity == "severe" and isinstance(parts.reference, FrozenReference):
                        parts.reference.model.load_state_dict(parts.policy.model.state_dict())
                return self.inner.prompts(step)

        return replace(parts, source=Resumed(source, setup))

    setup.on_parts(on_resume)
