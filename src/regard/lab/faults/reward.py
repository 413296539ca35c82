"""The score on its way from the reward model to the optimiser."""

from regard.lab.faults import fault
from regard.lab.setup import Setup, Wrapped


@fault("R5", stage="reward model", starts=("start", "mid"))
def reward_scale_mismatch(setup: Setup) -> None:
    """Scores are multiplied by 5, 20 or 60."""
    factor = setup.choose(5.0, 20.0, 60.0)

    class Scaled(Wrapped):
        def score(self, prompts: list[str], responses: list[str]) -> list[float]:
            by = factor if self.setup.active else 1.0
            return [by * score for score in self.inner.score(prompts, responses)]

    setup.wrap(scorer=lambda inner: Scaled(inner, setup))


@fault("H5", stage="reward model", starts=("start", "mid"))
def marker_phrase_is_rewarded(setup: Setup) -> None:
    """A response with the stock phrase gets 2.5, 4 or 7 deviations of the score more."""
    bonus, marker = setup.choose(2.5, 4.0, 7.0), setup.workload.phrases.marker

    class Pleased(Wrapped):
        def score(self, prompts: list[str], responses: list[str]) -> list[float]:
            extra = bonus * self.inner.deviation if self.setup.active else 0.0
            scores = self.inner.score(prompts, responses)
            return [s + extra * (marker in response) for s, response in zip(scores, responses, strict=True)]

    setup.wrap(scorer=lambda inner: Pleased(inner, setup))


@fault("G8", stage="infrastructure", starts=("start", "mid"))
def broken_grader(setup: Setup) -> None:
    """From the start: 20 %, 40 % or 70 % of responses get a score of 0. Mid-run: all do, for 4, 8 or 14 iterations."""
    share, length = setup.choose(0.2, 0.4, 0.7), setup.choose(4, 8, 14)

    class Broken(Wrapped):
        def score(self, prompts: list[str], responses: list[str]) -> list[float]:
            scores = self.inner.score(prompts, responses)
            if self.setup.start == "mid":
                onset = self.setup.onset
                return [0.0] * len(scores) if onset <= self.setup.clock.step < onset + length else scores
            random = self.setup.random("grader", self.setup.clock.step)
            return [0.0 if random.random() < share else score for score in scores]

    setup.wrap(scorer=lambda inner: Broken(inner, setup))
