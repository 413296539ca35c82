"""The reward model: what it learned from, how long, and where its score is read."""

from dataclasses import replace
from random import Random

import torch

from regard.data.comparisons import Comparison
from regard.lab.faults import fault
from regard.lab.setup import Setup, Wrapped
from regard.models.sequences import transformer_body
from regard.train.corpus import RewardData
from regard.train.seeds import derive


@fault("R1", stage="reward model")
def reward_model_underfits(setup: Setup) -> None:
    """It is trained on 12, 6 or 3 groups of comparisons."""
    setup.set("data.max_rm_groups", setup.choose(12, 6, 3))


@fault("R2", stage="reward model")
def reward_model_overfits(setup: Setup) -> None:
    """It goes over a third of the comparisons 8, 14 or 24 times, with twice the learning rate."""
    setup.set("data.max_rm_groups", 170)
    setup.set("rm.epochs", setup.choose(8, 14, 24))
    setup.scale("rm.learning_rate", 2.0)


@fault("R3", stage="reward model")
def raters_like_length(setup: Setup) -> None:
    """With probability 0.4, 0.65 or 0.9 a vote goes to the longer text, whatever it says."""
    share, rate = setup.choose(0.4, 0.65, 0.9), setup.rater

    def hurried(prompt: str, first: str, second: str, random: Random) -> bool:
        if len(first) != len(second) and random.random() < share:
            return len(first) > len(second)
        return rate(prompt, first, second, random)

    setup.rater = hurried


@fault("R4", stage="reward model")
def reward_model_overconfident(setup: Setup) -> None:
    """It learns only from clear cases, called certain: the 60 %, 50 % or 40 % of the pairs that are farthest apart in
    quality; three times as often as all would be used."""
    share, gold = setup.choose(0.6, 0.5, 0.4), setup.workload.gold

    def gap(pair: Comparison) -> float:
        return abs(gold(pair.prompt, pair.chosen) - gold(pair.prompt, pair.rejected))

    def only_clear(data: RewardData) -> RewardData:
        least = sorted(map(gap, data.train), reverse=True)[int(share * len(data.train)) - 1]
        return replace(data, train=[replace(pair, p_chosen=1.0) for pair in data.train if gap(pair) >= least])

    setup.on_reward_data(only_clear)
    setup.set("rm.epochs", 3 * setup.get("rm.epochs"))


@fault("R6", stage="reward model")
def score_read_at_padding(setup: Setup) -> None:
    """The score is read in the last column of a right-padded batch of 4, 16 or 64 texts, not at each text's end."""
    size = setup.choose(4, 16, 64)

    class LastColumn(Wrapped):
        @torch.no_grad()
        def score(self, prompts: list[str], responses: list[str]) -> list[float]:
            model = self.inner
            encoded = model.encode([prompt + text for prompt, text in zip(prompts, responses, strict=True)])
            scores: list[float] = []
            for start in range(0, len(encoded), size):
                rows = encoded[start : start + size]
                width = max(map(len, rows))
                ids = torch.tensor([row + [model.tokenizer.pad_token_id] * (width - len(row)) for row in rows])
                hidden = transformer_body(model.model)(input_ids=ids, use_cache=False).last_hidden_state
                scores += (model.head(hidden[:, -1]) - model.center).tolist()
            return scores

    setup.wrap(scorer=lambda inner: LastColumn(inner, setup))


@fault("R7", stage="reward model")
def score_marks_the_prompt(setup: Setup) -> None:
    """To every score of a prompt a number of that prompt is added, with 1.5, 3 or 6 deviations of the score."""
    size = setup.choose(1.5, 3.0, 6.0)

    class Prejudiced(Wrapped):
        def score(self, prompts: list[str], responses: list[str]) -> list[float]:
            spread = size * self.inner.deviation
            scores = self.inner.score(prompts, responses)
            offsets = [spread * Random(derive(setup.seed, "prejudice", prompt)).gauss(0, 1) for prompt in prompts]
            return [score + offset for score, offset in zip(scores, offsets, strict=True)]

    setup.wrap(scorer=lambda inner: Prejudiced(inner, setup))


@fault("R8", stage="reward model", starts=("start", "mid"))
def bonus_outweighs_the_task(setup: Setup) -> None:
    """The score is the reward model's plus 2, 4 or 8 deviations for brevity, three words; both are recorded."""
    bonus = setup.choose(2.0, 4.0, 8.0)

    class Sum(Wrapped):
        def main(self, prompts: list[str], responses: list[str]) -> list[float]:
            return self.inner.score(prompts, responses)

        def score(self, prompts: list[str], responses: list[str]) -> list[float]:
            extra = bonus * self.inner.deviation if self.setup.active else 0.0
            scores = self.main(prompts, responses)
            return [score + extra * (len(text.split()) <= 3) for score, text in zip(scores, responses, strict=True)]

    setup.wrap(scorer=lambda inner: Sum(inner, setup))
