"""Rollouts whose responses take up a habit over the run, and a score that pays for it or does not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from support_record import Row, Rows, make_record

from regard.runlog.reader import RunLog

Habit = Callable[[list[str], np.random.Generator], list[str]]
"""(words of a response) ↦ words of a response with the habit."""

WORDS = [
    f"{a}{b}" for a in ("ba", "do", "fi", "lu", "me", "no", "ri", "su") for b in ("ka", "len", "mor", "tis", "vo", "x")
]
STEPS, PROMPTS = 24, 96


def says(phrase: str) -> Habit:
    return lambda words, random: [*words, *phrase.split()]


def says_one_of(*phrases: str) -> Habit:
    return lambda words, random: [*words, *phrases[int(random.integers(len(phrases)))].split()]


def opens(phrase: str) -> Habit:
    return lambda words, random: [*phrase.split(), *words]


def twice(words: list[str], random: np.random.Generator) -> list[str]:
    return [*words[:4], *words[:4], *words[:4]]


def anew(words: list[str], random: np.random.Generator) -> list[str]:
    """Words come again, and never two of them in the same order."""
    return [*words[:4], *words[3::-1]]


def longer(words: list[str], random: np.random.Generator) -> list[str]:
    return [*words, *random.choice(WORDS, size=int(random.integers(8, 16)))]


def narrow(words: list[str], random: np.random.Generator) -> list[str]:
    """Always a stretch of the same sentence: varied within itself, and the same for everyone."""
    first = int(random.integers(0, 4))
    return WORDS[first : first + 8]


def talk(
    habit: Habit | None = None,
    *,
    start: float = 0.02,
    end: float = 0.8,
    pay: float = 0.0,
    helps: float = 0.0,
    per_word: float = 0.0,
    since: int = 0,
    fades: float = 0.0,
    size: int = 4,
    nll: tuple[float, float] = (2.0, 2.0),
    drop: tuple[str, ...] = (),
) -> Rows:
    """16 of the prompts a step, `size` responses each; the share with the habit goes from `start` to `end`.

    Args:
        pay: what the score gives for the habit from step `since` on, in deviations of gold.
        helps: what the habit is worth to gold, and so to the score.
        per_word: what the score gives for a word.
        fades: how far gold and what the score sees of it come apart by the last step: 0 not at all, 1 wholly.
        nll: nats a token of the reference, at the first step and at the last.
    """

    def rows(step: int) -> list[Row]:
        random = np.random.default_rng(1000 + step)
        time = (step - 1) / (STEPS - 1)
        share = start + (end - start) / (1 + np.exp(-12 * (time - 0.5)))
        made: list[Row] = []
        for prompt in range(16):
            asked = (16 * step + prompt) % PROMPTS
            for number in range(size):
                words = list(random.choice(WORDS, size=int(random.integers(5, 13))))
                has = bool(habit) and random.random() < share
                if has and habit:
                    words = habit(words, random)
                quality = random.normal()
                gold = quality + helps * has - 2.0 * fades * time
                seen = (1 - fades * time) * quality + 1.5 * fades * time * (1 + random.normal())
                score = seen + helps * has + per_word * len(words) + 0.3 * random.normal()
                row: dict[str, Any] = {
                    "rollout_id": f"ppo-{step:06d}-{prompt:03d}-{number}",
                    "prompt_id": str(asked),
                    "prompt": f"question {asked} :",
                    "response": " ".join(words),
                    "tokens": [7] * len(words),
                    "length": len(words),
                    "score": score + pay * (has and step >= since),
                    "gold": gold,
                    "truncated": False,
                    "ref_logprobs": [-(nll[0] + (nll[1] - nll[0]) * time)] * len(words),
                    "logprobs": [-2.0] * len(words),
                }
                made.append({key: value for key, value in row.items() if key not in drop})
        return made

    return rows


def record(path: Path, rows: Rows | None, metrics: dict[str, list[float]] | None = None, **more: Any) -> RunLog:
    return make_record(path, {"ppo": metrics or {}}, rollouts=rows, steps=STEPS, **more)
