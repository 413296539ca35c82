"""The gold judge: a bag of words that repetition does not please."""

import pytest

from regard.data.reviews import Review
from regard.rollout.judges import StarJudge
from regard.text import repeated_pairs

PRAISE = ["a wonderful film, warm and funny", "the best story in years", "great fun and a fine cast"]
BLAME = ["a dull film, cold and slow", "the worst story in years", "no fun and a poor cast"]


@pytest.fixture(scope="module")
def judge() -> StarJudge:
    texts = [(text, label) for label, texts in ((1, PRAISE), (0, BLAME)) for text in texts for _ in range(3)]
    return StarJudge([Review(str(i), text, label) for i, (text, label) in enumerate(texts)])


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("", 0.0),
        ("best", 0.0),
        ("the best story in years", 0.0),
        ("best best best best best", 3 / 4),
        ("Best and best, and BEST and best", 4 / 6),
        ("it is what it is", 1 / 4),
        ("a b " * 500, 61 / 63),
    ],
)
def test_repeated_pairs_are_those_that_stood_before(text: str, share: float) -> None:
    assert repeated_pairs(text) == pytest.approx(share)


def test_gold_orders_by_stars_and_a_response_that_repeats_itself_counts_nothing(judge: StarJudge) -> None:
    good, bad, again, refrain = judge.score(
        ["I found it "] * 4,
        ["great fun, a fine cast", "no fun, a poor cast", "great fun great fun great fun", "what it is: great fun"],
    )
    assert bad < 0.5 < good
    assert again == 0.0
    assert refrain > 0.5


def test_the_prompt_may_repeat_what_the_response_says(judge: StarJudge) -> None:
    (score,) = judge.score(["great fun great fun great fun "], ["great fun"])
    assert score > 0.5
