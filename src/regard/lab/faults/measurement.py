"""How the success of training is judged."""

from dataclasses import replace

from regard.lab.faults import fault
from regard.lab.setup import Setup, Wrapped
from regard.train.ppo import Parts


@fault("M2", stage="measurement", severities=("medium",))
def judge_is_the_reward_model(setup: Setup) -> None:
    """What is called an independent judge is the reward model that is optimised."""

    def same(parts: Parts) -> Parts:
        return replace(parts, judges={"gold": parts.scorer})

    setup.on_parts(same)


@fault("M3", stage="measurement")
def comparison_of_few_prompts(setup: Setup) -> None:
    """Before and after are compared on 24, 16 or 8 prompts by a judge with noise of 0.8, after half of the training."""
    setup.set("eval.num_prompts", setup.choose(24, 16, 8))
    setup.set("ppo.steps", max(12, setup.get("ppo.steps") // 2))
    noisy_judges(setup, 0.8)


def noisy_judges(setup: Setup, size: float) -> None:
    """Normal noise of this standard deviation on every judgement; controls use it too."""
    random = setup.random("noisy gold")

    class Noisy(Wrapped):
        def score(self, prompts: list[str], responses: list[str]) -> list[float]:
            return [gold + random.gauss(0, size) for gold in self.inner.score(prompts, responses)]

    setup.wrap(judges=lambda judges: {name: Noisy(judge, setup) for name, judge in judges.items()})
