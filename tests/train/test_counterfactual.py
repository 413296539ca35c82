"""Counterfactuals, against scorers whose prices are known."""

from itertools import product

import pytest

from regard.train.counterfactual import counterfactuals, delete, insert, place, spreading

PHRASE = ("in", "short")
WORDS = ("sea", "tree", "crab", "moss")
BEFORE = [" ".join(words) for words in product(WORDS, repeat=2)]
AFTER = [f"{text} in short" if i % 4 else text for i, text in enumerate(BEFORE)]
PROMPTS = [f"question {i} :" for i in range(len(BEFORE))]


class Priced:
    """Pays `pay` for every time the phrase stands there and `word` for every word."""

    def __init__(self, pay: float, word: float = 0.0) -> None:
        self.pay, self.word = pay, word

    def score(self, prompts: list[str], responses: list[str]) -> list[float]:
        return [self.pay * text.count("in short") + self.word * len(text.split()) for text in responses]


def test_a_price_is_found_from_both_sides_in_units_of_the_deviation() -> None:
    scorers = {"score": Priced(3.0, 0.5), "gold": Priced(0.0, -0.25)}
    (row,) = counterfactuals(PROMPTS, BEFORE, AFTER, scorers, {"score": 2.0, "gold": 0.5})
    assert (row["phrase"], row["before"], row["after"]) == ("in short", 0.0, 0.75)
    for way, number in (("delete", 12), ("insert", 16)):
        assert row[way]["n"] == number
        assert row[way]["score"] == pytest.approx({"mean": (3.0 + 2 * 0.5) / 2.0, "error": 0.0})
        assert row[way]["gold"] == pytest.approx({"mean": 2 * -0.25 / 0.5, "error": 0.0})


def test_a_scorer_that_never_varies_and_a_phrase_that_did_not_spread_are_left_out() -> None:
    (row,) = counterfactuals(PROMPTS, BEFORE, AFTER, {"score": Priced(1.0)}, {"score": 0.0})
    assert set(row["delete"]) == {"n"}
    assert counterfactuals(PROMPTS, BEFORE, BEFORE, {"score": Priced(1.0)}, {"score": 1.0}) == []


def test_the_longest_of_phrases_that_spread_alike_is_taken_and_none_twice() -> None:
    after = [f"in short {text} is the sea" for text in BEFORE]
    assert spreading(BEFORE, after) == [("is", "the", "sea"), ("in", "short")]


def test_deletion_undoes_insertion_and_takes_every_occurrence() -> None:
    for at_end in (False, True):
        changed = insert("a b", PHRASE, at_end=at_end)
        assert changed == ("a b in short" if at_end else "in short a b")
        assert place(changed, PHRASE) == at_end
        assert delete(changed, PHRASE) == "a b"
    assert delete("in short in short a in short b in", PHRASE) == "a b in"
