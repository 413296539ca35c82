"""How much of what the machine can do each phase of stage 4 uses."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regard.models.heads import RewardModel
from regard.models.sequences import frozen_blocks, language_head
from regard.models.work import Sizes, operations_per_second
from regard.train.distributed import World

if TYPE_CHECKING:
    from regard.train.ppo import Parts, Rollouts


@dataclass(frozen=True)
class Limit:
    """What an iteration has to compute, and what all processes together could.

    Attributes:
        below: frozen first blocks, which policy and reference share.
        backward: forward passes that a backward pass costs: 2, or 1 where the weights are frozen and adapters trained.
        value_body: whether the value has a body of its own.
    """

    policy: Sizes
    scorer: Sizes | None
    below: int
    backward: int
    value_body: bool
    per_second: float

    @classmethod
    def of(cls, parts: "Parts", world: World) -> "Limit | None":
        """None for a model of which `Sizes` does not know what it multiplies."""
        model = parts.policy.model
        try:
            policy = Sizes.of(model)
            scorer = Sizes.of(parts.scorer.model) if isinstance(parts.scorer, RewardModel) else None
        except ValueError:
            return None
        return cls(
            policy,
            scorer,
            below=frozen_blocks(model),
            backward=1 if hasattr(model, "peft_config") else 2,
            value_body=parts.policy.value_body is not None,
            per_second=world.size * operations_per_second(language_head(model).dtype),
        )

    def metrics(self, rollouts: "Rollouts", epochs: int, clock: list[float]) -> dict[str, float]:
        """Needed operations over those of the limit, by phase. `clock`: start, sampled, scored, updated."""
        answered = [len(response) for response in rollouts.responses]
        prompts = [tuple(prompt.tokens) for prompt in rollouts.prompts]
        lengths = [len(prompt) + n for prompt, n in zip(prompts, answered, strict=True)]
        every, distinct = (self.policy.blocks(list(map(len, some))) for some in (prompts, set(prompts)))
        whole, head = self.policy.blocks(lengths), self.policy.logits(sum(answered))
        above = self.policy.blocks(lengths, self.policy.layers - self.below)
        bodies = 2 if self.value_body else 1
        scored = self.scorer.blocks(lengths) if self.scorer is not None else 0.0
        reference = above if self.backward == 1 else whole
        needed = {
            "rollout": whole - every + distinct + head,  # a group's prompt is computed once
            "score": whole + (bodies - 1) * above + reference + 2 * head + scored,
            "update": epochs * (1 + self.backward) * (bodies * above + head),
        }
        shares = {
            f"throughput/{phase}_limit/frac": operations / (end - start) / self.per_second
            for (phase, operations), start, end in zip(needed.items(), clock, clock[1:], strict=False)
        }
        return {"throughput/limit/gflops": self.per_second / 1e9} | shares
