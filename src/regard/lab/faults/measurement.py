"""How the success of training is judged."""

from dataclasses import replace

from regard.lab.faults import fault
from regard.lab.setup import Setup
from regard.train.ppo import Parts


@fault("M2", stage="measurement", severities=("medium",))
def judge_is_the_reward_model(setup: Setup) -> None:
    """What is called an independent judge is the reward model that is optimised."""

    def same(parts: Parts) -> Parts:
        return replace(parts, judges={"gold": parts.scorer})

    setup.on_parts(same)


@fault("M3", stage="measurement")
def comparison_of_few_prompts(setup: Setup) -> None:
    """Before and after are compared on 24, 16 or 8 prompts, after a fifth of the training."""
    setup.set("eval.num_prompts", setup.choose(24, 16, 8))
    setup.set("ppo.steps", max(12, setup.get("ppo.steps") // 5))
