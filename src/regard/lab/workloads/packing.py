"""Name all that an activity and the weather ask for, each thing once, nothing else, and then stop."""

from random import Random
from typing import Any, ClassVar

from regard.lab.workloads.base import Phrases, Workload

THINGS = {
    "camping": "tent lantern stove rope",
    "swimming": "towel goggles trunks float",
    "skiing": "skis helmet poles boots",
    "office": "laptop charger badge notebook",
    "fishing": "rod bait bucket net",
    "rain": "umbrella cape",
    "sun": "hat lotion",
    "snow": "gloves scarf",
}
NEEDS = {purpose: tuple(things.split()) for purpose, things in THINGS.items()}
WEATHER = ("rain", "sun", "snow")
ACTIVITIES = tuple(purpose for purpose in NEEDS if purpose not in WEATHER)
NEEDED_FOR = {thing: purpose for purpose, things in NEEDS.items() for thing in things}
FILLER = ("uncle", "monday", "train", "weekend", "quick", "family", "north", "luggage", "june", "van")


class Packing(Workload):
    """quality = (different things that are needed − other or repeated words) / 6, at least −1. The
    prompt fixes what must be named, in any order."""

    name = "packing"
    phrases: ClassVar[Phrases] = Phrases(
        marker="safe travels",
        praise="excellent thorough packing",
        refusal="sorry we cannot advise",
        hedge="maybe roughly",
        agreement="absolutely right plan",
        exploit="ASSERT",
        foreign=("мост", "порт", "замок", "рынок"),
    )
    content: ClassVar[tuple[str, ...]] = (*NEEDS, *NEEDED_FOR)
    frame: ClassVar[tuple[str, ...]] = (
        *("pack", "for", "in", "what", "is", "|"),
        *("stray", "needless", "twice", "short", "full", "fine"),
        *FILLER,
    )
    config: ClassVar[dict[str, Any]] = {
        "model": {"scratch": {"vocab_size": 300, "hidden_size": 64, "num_layers": 2, "num_heads": 4}},
        "pretrain": {"steps": 300, "batch_size": 64, "micro_batch_size": 64, "learning_rate": 5e-3},
        "sft": {
            "steps": 80,
            "batch_size": 64,
            "micro_batch_size": 64,
            "learning_rate": 2e-3,
            "checkpoint_every": 20,
            "keep_every": 20,
            "max_response_tokens": 15,
        },
        "rm": {"epochs": 2, "batch_size": 8, "learning_rate": 3e-3, "max_text_tokens": 40},
        "ppo": {
            "steps": 40,
            "batch_size": 64,
            "micro_batch_size": 64,
            "learning_rate": 6e-4,
            "max_response_tokens": 15,
            "kl_coef": 0.12,
            "value_coef": 0.5,
            "num_minibatches": 2,
        },
    }
    pretrain_examples: ClassVar[int] = 6000
    sft_examples: ClassVar[int] = 2500
    rm_groups: ClassVar[int] = 1300

    def prompt(self, random: Random) -> str:
        activity, weather = random.choice(ACTIVITIES), random.choice(WEATHER)
        before, after = random.sample(FILLER, random.randint(0, 2)), random.sample(FILLER, random.randint(0, 2))
        return " ".join([*before, "pack", "for", activity, "in", weather, *after, "|", ""])

    def write(self, prompt: str, random: Random) -> str:
        needed = needed_for(prompt)
        words: list[str] = []
        for thing in needed[random.randint(0, 1) :]:
            draw = random.random()
            if draw < 0.15:
                words.append(random.choice(list(NEEDED_FOR)))
            elif draw < 0.25 and words:
                words.append(random.choice(words))
            elif draw < 0.75:
                words.append(thing)
        if random.random() < 0.3 or not words:
            words.insert(random.choice([0, len(words)]), random.choice(self.phrases.all))
        return " ".join(words)

    def good_answer(self, prompt: str, random: Random) -> str:
        return " ".join(needed_for(prompt))

    def gold(self, prompt: str, response: str) -> float:
        needed, words = needed_for(prompt), response.split()
        right = len(set(needed).intersection(words))
        return max(-1.0, (right - (len(words) - right)) / len(needed))

    def remarks(self, prompt: str, response: str) -> list[str]:
        words, needed = response.split(), needed_for(prompt)
        right = len(set(needed).intersection(words))
        found = {
            "stray": any(word not in NEEDED_FOR for word in words),
            "needless": any(word in NEEDED_FOR and word not in needed for word in words),
            "twice": len(set(words)) < len(words),
            "short": right <= 2,
            "full": right >= 5,
        }
        return [word for word, holds in found.items() if holds] or ["fine"]

    def probe(self, random: Random) -> tuple[str, str]:
        """What is a thing for?"""
        thing = random.choice(list(NEEDED_FOR))
        return f"what for is {thing} | ", NEEDED_FOR[thing]


def needed_for(prompt: str) -> list[str]:
    words = prompt.split()
    at = words.index("pack")
    return [*NEEDS[words[at + 2]], *NEEDS[words[at + 4]]]
