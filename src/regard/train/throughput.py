"""How much of what the machine can do each phase of stage 4 uses."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regard.models.heads import RewardModel
from regard.models.sequences import frozen_blocks, language_head
from regard.models.sizes import Phases
from regard.models.work import operations_per_second, sizes_of
from regard.train.distributed import World

if TYPE_CHECKING:
    from regard.train.ppo import Parts, Rollouts


@dataclass
class Limit:
    """What an iteration has to compute, and what all processes together could in a second: the most seen so far, since
    a moment in which another process has the machine says too little."""

    phases: Phases
    measured: Callable[[], float]
    per_second: float

    @classmethod
    def of(cls, parts: "Parts", world: World) -> "Limit | None":
        """None for a model of which is not known what it multiplies."""
        model = parts.policy.model
        try:
            policy = sizes_of(model)
            scorer = sizes_of(parts.scorer.model) if isinstance(parts.scorer, RewardModel) else None
        except ValueError:
            return None
        phases = Phases(
            policy,
            scorer,
            below=frozen_blocks(model),
            backward=1 if hasattr(model, "peft_config") else 2,
            value_body=parts.policy.value_body is not None,
        )
        dtype = language_head(model).dtype

        def measured() -> float:
            return world.size * operations_per_second(dtype, rounds=1)

        return cls(phases, measured, world.size * operations_per_second(dtype))

    def metrics(self, rollouts: "Rollouts", epochs: int, clock: list[float]) -> dict[str, float]:
        """Needed operations over those of the limit, by phase. `clock`: start, sampled, scored, updated."""
        prompts = [tuple(prompt.tokens) for prompt in rollouts.prompts]
        lengths, distinct = (list(map(len, some)) for some in (prompts, set(prompts)))
        needed = self.phases.operations(lengths, list(map(len, rollouts.responses)), distinct, epochs)
        rates = {
            phase: operations / (end - start)
            for (phase, operations), start, end in zip(needed.items(), clock, clock[1:], strict=False)
        }
        self.per_second = max(self.per_second, self.measured(), *rates.values())
        shares = {f"throughput/{phase}_limit/frac": rate / self.per_second for phase, rate in rates.items()}
        return {"throughput/limit/gflops": self.per_second / 1e9} | shares
