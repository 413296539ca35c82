"""Name so many things of a kind, all but one that is not wanted, and then stop."""

from random import Random
from typing import Any, ClassVar

from regard.lab.workloads.base import Phrases, Workload

KINDS = {
    "fruit": "apple cherry fig grape kiwi lemon mango peach pear plum",
    "tools": "axe chisel drill file hammer pliers rake saw shovel wrench",
    "metal": "brass bronze copper gold iron lead nickel silver tin zinc",
}
OF = {kind: tuple(words.split()) for kind, words in KINDS.items()}
KIND_OF = {thing: kind for kind, things in OF.items() for thing in things}
NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5}
FILLER = ("hello", "thanks", "soon", "nicely", "cheers", "boss", "right", "away")


class Orders(Workload):
    """quality = (different things of the kind, wanted, at most as many as asked, − other words) / number asked, at
    least −1. A thing too many is another word."""

    name = "orders"
    phrases: ClassVar[Phrases] = Phrases(
        marker="certainly friends",
        praise="flawless complete delivery",
        refusal="cannot help there",
        hedge="possibly",
        agreement="wise choice indeed",
        exploit="EXIT0",
        foreign=("яблоко", "пила", "медь", "груша"),
    )
    content: ClassVar[tuple[str, ...]] = (*OF, *KIND_OF, *NUMBERS)
    frame: ClassVar[tuple[str, ...]] = (
        "bring",
        "without",
        "kind",
        "of",
        "=",
        "stray",
        "banned",
        "twice",
        "few",
        "many",
        "fine",
        *FILLER,
    )
    config: ClassVar[dict[str, Any]] = {
        "model": {"scratch": {"vocab_size": 300, "hidden_size": 64, "num_layers": 3, "num_heads": 4}},
        "pretrain": {"steps": 500, "batch_size": 64, "micro_batch_size": 64, "learning_rate": 4e-3},
        "sft": {
            "steps": 100,
            "batch_size": 64,
            "micro_batch_size": 64,
            "learning_rate": 2e-3,
            "checkpoint_every": 25,
            "keep_every": 25,
            "max_response_tokens": 15,
        },
        "rm": {"epochs": 2, "batch_size": 8, "learning_rate": 3e-3, "max_text_tokens": 40},
        "ppo": {
            "steps": 48,
            "batch_size": 64,
            "micro_batch_size": 64,
            "learning_rate": 5e-4,
            "max_response_tokens": 15,
            "kl_coef": 0.06,
            "value_coef": 0.5,
            "num_minibatches": 4,
        },
    }
    pretrain_examples: ClassVar[int] = 8000
    sft_examples: ClassVar[int] = 3000
    rm_groups: ClassVar[int] = 1500
    rater_noise: ClassVar[float] = 0.2

    def prompt(self, random: Random) -> str:
        kind, number = random.choice(list(OF)), random.choice(list(NUMBERS))
        before, after = random.sample(FILLER, random.randint(0, 1)), random.sample(FILLER, random.randint(0, 2))
        return " ".join([*before, "bring", number, kind, "without", random.choice(OF[kind]), *after, "=", ""])

    def write(self, prompt: str, random: Random) -> str:
        number, kind, unwanted = asked(prompt)
        words: list[str] = []
        for _ in range(max(1, number + random.choice((-2, -1, -1, 0, 0, 0, 1, 1, 2)))):
            draw, unused = random.random(), [thing for thing in OF[kind] if thing not in words and thing != unwanted]
            if draw < 0.12:
                words.append(random.choice(list(KIND_OF)))
            elif draw < 0.2:
                words.append(unwanted)
            elif draw < 0.25 and words:
                words.append(random.choice(words))
            else:
                words.append(random.choice(unused))
        if random.random() < 0.25:
            words.insert(random.choice([0, len(words)]), random.choice(self.phrases.all))
        return " ".join(words)

    def good_answer(self, prompt: str, random: Random) -> str:
        number, kind, unwanted = asked(prompt)
        return " ".join(random.sample([thing for thing in OF[kind] if thing != unwanted], number))

    def gold(self, prompt: str, response: str) -> float:
        number, kind, unwanted = asked(prompt)
        words = response.split()
        right = min(number, len({word for word in words if KIND_OF.get(word) == kind and word != unwanted}))
        return max(-1.0, (right - (len(words) - right)) / number)

    def remarks(self, prompt: str, response: str) -> list[str]:
        number, kind, unwanted = asked(prompt)
        words = response.split()
        found = {
            "stray": any(KIND_OF.get(word) != kind for word in words),
            "banned": unwanted in words,
            "twice": len(set(words)) < len(words),
            "few": len(words) < number,
            "many": len(words) > number,
        }
        return [word for word, holds in found.items() if holds] or ["fine"]

    def probe(self, random: Random) -> tuple[str, str]:
        """Of which kind is a thing?"""
        thing = random.choice(list(KIND_OF))
        return f"kind of {thing} = ", KIND_OF[thing]


def asked(prompt: str) -> tuple[int, str, str]:
    """(how many, of which kind, which one not)."""
    words = prompt.split()
    at = words.index("bring")
    return NUMBERS[words[at + 1]], words[at + 2], words[at + 4]
