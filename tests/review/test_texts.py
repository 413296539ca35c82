"""What is counted in texts, against counts by hand."""

import pytest

from regard.review.texts import Texts


def test_words_said_before_are_a_share_of_the_words() -> None:
    """Of a b a c b, the third and the fifth; of 64 words that differ and 36 more of the same, none: only the first 64
    count; nothing of an empty text."""
    many = " ".join([f"w{n}" for n in range(64)] + ["w1"] * 36)
    texts = Texts(["a b a c b", "one", "", many, "a a a a"])
    assert texts.said_before == pytest.approx([0.4, 0.0, 0.0, 0.0, 0.75])
