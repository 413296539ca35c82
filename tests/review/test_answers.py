"""What is estimated from responses alone, against numbers by hand."""

import numpy as np
import pytest

from regard.review.answers import LEAST_TWINS, Answers
from regard.runlog.sample import RolloutSample


def sample(prompts: list[str], responses: list[str], **numbers: np.ndarray) -> RolloutSample:
    number = len(responses)
    texts = {"rollout_id": [str(i) for i in range(number)], "prompt_id": prompts, "prompt": prompts,
             "response": responses}  # fmt: skip
    return RolloutSample(np.arange(number) // 16 + 1, dict(numbers), texts, {}, number // 16)


def test_noise_is_the_variance_over_the_same_text_to_the_same_prompt() -> None:
    """Ten pairs that differ by 2, so each is 1 from its mean: 20 · 1² / 10 twins = 2. The same text to another prompt
    is no twin, and neither is one without a value."""
    prompts = ["a"] * 20 + ["b"] * 12
    responses = [f"text {i // 2}" for i in range(20)] + [f"text {i}" for i in range(10)] + ["text 0", "text 0"]
    gold = np.array([3.0, 5.0] * 10 + [100.0 + 7 * i for i in range(10)] + [np.nan, np.nan])
    answers = Answers(sample(prompts, responses, gold=gold))
    assert answers.noise("gold") == pytest.approx(2.0)
    few = 2 * (LEAST_TWINS - 1)
    assert Answers(sample(prompts[:few], responses[:few], gold=gold[:few])).noise("gold") == 0.0


def test_gain_is_in_deviations_among_the_first() -> None:
    """First ±2 around 1, last ±4 around 4: (4 − 1) / 2 = 1.5; the error √(2²/160 + 4²/160) / 2 = √0.125 / 2."""
    number = 960
    gold = np.tile([-1.0, 3.0], number // 2)
    gold[-160:] = np.tile([0.0, 8.0], 80)
    answers = Answers(sample(["a"] * number, [f"text {i}" for i in range(number)], gold=gold, flat=np.ones(number)))
    assert answers.early.sum() == answers.late.sum() == 160
    gain = answers.gain("gold")
    assert gain is not None
    assert (gain.size, gain.error) == (pytest.approx(1.5), pytest.approx(0.125**0.5 / 2))
    assert answers.gain("flat") is None and answers.gain("score") is None
    gold[-300:] = np.nan
    unjudged = Answers(sample(["a"] * number, [f"text {i}" for i in range(number)], gold=gold))
    assert unjudged.gain("gold") is None, "the last were not judged"


def test_what_a_noisy_judge_values_is_not_called_overpaid() -> None:
    """Score and gold are worth the same with the word; only the judge's noise, three times as wide, is beside it."""
    random = np.random.default_rng(0)
    number = 1600
    prompts = [f"p{i % 160 // 4}" for i in range(number)]
    quality, word = random.integers(0, 3, number), random.random(number) < 0.5
    responses = [f"w{q} {'indeed' if has else ''}" for q, has in zip(quality, word, strict=True)]
    worth = quality + 2.0 * word
    noisy = worth + 3.0 * random.normal(size=number)
    answers = Answers(sample(prompts, responses, score=worth, gold=noisy))
    assert answers.noise("gold") == pytest.approx(9.0, rel=0.15)
    rows = np.ones(number, dtype=bool)
    score, gold = answers.standardised("score", rows), answers.standardised("gold", rows)
    assert score is not None and gold is not None
    beyond = answers.price(word, score - gold, rows)
    assert beyond is not None and abs(beyond.slope) < 0.3
    attenuated = answers.price(word, score - gold * np.nanstd(gold) ** -1, rows)
    assert attenuated is not None and attenuated.slope > 0.75, "or the correction would not matter"
