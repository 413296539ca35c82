"""The policy's step: how far, how often, on what, and how advantages become a gradient."""

from typing import Any

import torch
from torch import Tensor

from regard.lab.faults import fault
from regard.lab.setup import Setup, Wrapped
from regard.ops import AdvantageOutput, masked_whiten


@fault("P2", stage="policy optimisation", starts=("start", "mid"))
def steps_too_small(setup: Setup) -> None:
    """Learning rate times 0.03, 0.01 or 0.001; mid-run: the schedule falls to that."""
    factor = setup.choose(0.03, 0.01, 0.001)
    if setup.start == "start":
        setup.scale("ppo.learning_rate", factor)
    else:
        setup.wrap(
            schedule=lambda inner: (
                lambda step, total, warmup: inner(step, total, warmup) * (factor if setup.active else 1.0)
            )
        )


@fault("P3", stage="policy optimisation")
def too_many_epochs(setup: Setup) -> None:
    """8, 12 or 20 epochs over the rollouts of an iteration, without a limit on how far they go."""
    setup.set("ppo.epochs", setup.choose(8, 12, 20))
    setup.set("ppo.early_stop_kl", None)


@fault("P4", stage="policy optimisation")
def clip_range_too_tight(setup: Setup) -> None:
    """A clip range of 0.02, 0.005 or 0.001."""
    setup.set("ppo.clip_range", setup.choose(0.02, 0.005, 0.001))


@fault("P5", stage="policy optimisation", starts=("start", "mid"))
def advantages_normalised_wrongly(setup: Setup) -> None:
    """Whitened over padding too; over each response by itself; severe: neither centred nor scaled to one."""

    def wrap(inner: Any) -> Any:
        def estimate(config: Any, rewards: Tensor, values: Tensor, mask: Tensor) -> tuple[AdvantageOutput, Tensor]:
            raw, whitened = inner(config, rewards, values, mask)
            if not setup.active:
                return raw, whitened
            a = raw.advantages
            if setup.severity == "mild":  # pads enter mean and deviation, as zeros up to the cap
                count = len(a) * config.max_response_tokens
                mean = a.sum() / count
                deviation = ((a**2).sum() / count - mean**2).sqrt()
                return raw, (a - mean) / deviation * mask
            if setup.severity == "medium":
                rows = [masked_whiten(row[None], own[None]) for row, own in zip(a, mask, strict=True)]
                return raw, torch.cat(rows)
            return raw, (a * 20 + 10) * mask

        return estimate

    setup.wrap(estimate_advantages=wrap)


@fault("P6", stage="policy optimisation")
def discount_too_short(setup: Setup) -> None:
    """γ of 0.8, 0.6 or 0.3 a token, so that the score at the end hardly reaches the first words."""
    setup.set("ppo.gamma", setup.choose(0.8, 0.6, 0.3))


@fault("P7", stage="policy optimisation")
def batch_too_small(setup: Setup) -> None:
    """12, 8 or 4 responses an iteration."""
    size = setup.choose(12, 8, 4)
    setup.set("ppo.batch_size", size)
    setup.set("ppo.micro_batch_size", size)


@fault("P8", stage="policy optimisation")
def noise_is_scaled_up_after_saturation(setup: Setup) -> None:
    """The score is 1 for 3 words or more, plus noise of 0.03, 0.01 or 0.003; a tenth of β, twice the steps."""
    size = setup.choose(0.03, 0.01, 0.003)
    setup.scale("ppo.kl_coef", 0.1)
    setup.scale("ppo.steps", 2)

    class Easy(Wrapped):
        def score(self, prompts: list[str], responses: list[str]) -> list[float]:
            random = self.setup.random("grading", self.setup.clock.step)
            unit = self.inner.deviation
            return [unit * ((len(r.split()) >= 3) + random.gauss(0, size)) for r in responses]

    setup.wrap(scorer=lambda inner: Easy(inner, setup))
