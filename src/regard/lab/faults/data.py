"""What people labelled."""

from random import Random

from regard.lab.faults import fault
from regard.lab.setup import Setup
from regard.train.seeds import derive


@fault("D1", stage="data")
def preference_label_noise(setup: Setup) -> None:
    """Each vote says the opposite with probability 0.15, 0.3 or 0.42."""
    share, rate = setup.choose(0.15, 0.3, 0.42), setup.rater

    def careless(prompt: str, first: str, second: str, random: Random) -> bool:
        return rate(prompt, first, second, random) != (random.random() < share)

    setup.rater = careless


@fault("D2", stage="data")
def flipped_preferences(setup: Setup) -> None:
    """Chosen and rejected are swapped for 75 %, 90 % or all of the prompts."""
    share, rate = setup.choose(0.75, 0.9, 1.0), setup.rater

    def swapped(prompt: str, first: str, second: str, random: Random) -> bool:
        of_prompt = Random(derive(setup.seed, "swapped", prompt)).random()
        return rate(prompt, first, second, random) != (of_prompt < share)

    setup.rater = swapped
