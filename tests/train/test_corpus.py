"""Prompts that are tokenised when they are asked for are the same however they are asked for."""

from regard.data.reviews import Review
from regard.models.loading import train_tokenizer
from regard.train.corpus import ReviewBeginnings, ReviewPrompts

REVIEWS = [Review(str(n), f"film {n} has {n} scenes and an end that nobody saw coming " * 3, n % 2) for n in range(9)]


def beginnings() -> ReviewBeginnings:
    return ReviewBeginnings(REVIEWS, train_tokenizer([review.text for review in REVIEWS], 300), (4, 9))


def test_one_by_one_by_slice_and_by_rows_are_the_same_prompts() -> None:
    pool = beginnings()
    alone = [pool[row] for row in range(len(pool))]
    assert len(alone) == len(REVIEWS) and pool[-1] == alone[-1]
    assert pool[2:5] == alone[2:5] and pool[-3:] == alone[-3:] and pool[9:] == []
    assert pool.take([7, 0, 7]) == [alone[7], alone[0], alone[7]] and pool.take([]) == []
    assert list(pool) == alone


def test_a_prompt_is_the_first_tokens_of_its_review() -> None:
    pool = beginnings()
    for review, prompt in zip(REVIEWS, pool, strict=True):
        assert prompt.prompt_id == review.id and 4 <= len(prompt.tokens) <= 9
        assert review.text.startswith(prompt.text)
    assert len({len(prompt.tokens) for prompt in pool}) > 1


def test_a_source_gives_every_prompt_once_before_any_comes_again() -> None:
    source = ReviewPrompts(beginnings(), 3, seed=1)
    seen = [prompt.prompt_id for step in range(3) for prompt in source.prompts(step)]
    assert sorted(seen) == sorted(review.id for review in REVIEWS)
