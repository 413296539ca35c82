"""From fetched sets or the user's files to what the stages eat: windows, SFT examples, prompts, comparisons."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, overload

from regard.config import RecipeConfig
from regard.data.assets import fetch
from regard.data.comparisons import Comparison
from regard.data.ratings import Block, comparisons, kept_raters, label_raters, load_movie_ratings, split_blocks
from regard.data.readers import read_comparisons
from regard.data.reviews import Review, ReviewSplits, load_imdb, split_reviews
from regard.errors import ConfigError
from regard.rollout.protocols import Prompt
from regard.train.seeds import batch_rows, derive

SPLIT_SEED = 0
"""Of the splits. Not the run's seed: which text is held out must not change from run to run."""

_SENTENCE_END = re.compile(r"[.!?]+[\"')\]]*\s+")


class Example(NamedTuple):
    """One supervised example: the loss is on `response` only."""

    prompt: tuple[int, ...]
    response: tuple[int, ...]


@dataclass(frozen=True)
class RewardData:
    train: list[Comparison]
    dev: list[Comparison]
    test: list[Comparison]
    kept: list[Comparison]
    """The test pairs again, as judged by raters whose labels were never trained on."""
    blocks: dict[str, list[Block]]
    """Rating blocks by split; empty for the user's own comparisons."""


class Corpus:
    """All data of one recipe; each part is read when first asked for."""

    def __init__(self, config: RecipeConfig) -> None:
        self.config = config

    @cached_property
    def reviews(self) -> ReviewSplits:
        if self.config.data.reviews != "imdb-reviews":
            raise ConfigError(f"data.reviews: unknown set {self.config.data.reviews!r}. Use imdb-reviews.")
        splits = split_reviews(load_imdb(fetch("imdb-reviews")), SPLIT_SEED)
        most = self.config.data.max_reviews or None
        return ReviewSplits(splits.sft[:most], splits.judge[:most], splits.prompts[:most])

    @cached_property
    def rewards(self) -> RewardData:
        name = self.config.data.comparisons
        if name == "movie-ratings":
            blocks = split_blocks(load_movie_ratings(fetch(name)), SPLIT_SEED)
            parts = {split: _pairs(blocks[split], label_raters) for split in ("train", "dev", "test")}
            return RewardData(**parts, kept=_pairs(blocks["test"], kept_raters), blocks=blocks)
        if not Path(name).is_file():
            raise ConfigError(f"data.comparisons: no file {name}. Give a path, or movie-ratings.")
        pairs = read_comparisons(Path(name))
        groups = sorted({pair.group for pair in pairs}, key=lambda group: derive(SPLIT_SEED, group))
        if len(groups) < 10:
            raise ConfigError(f"{name}: {len(groups)} prompts are too few to hold some out. Give at least 10.")
        tenth = len(groups) // 10
        split = {g: "test" if i < tenth else "dev" if i < 2 * tenth else "train" for i, g in enumerate(groups)}
        own = {part: [p for p in pairs if split[p.group] == part] for part in ("train", "dev", "test")}
        return RewardData(**own, kept=[], blocks={})

    def examples(self, tokenizer: Any) -> list[Example]:
        """Review openings cut into a prompt and a response of whole sentences that ends with EOS.

        Only openings that fit the cap are used, so the policy learns to end; none is cut in mid-sentence.
        """
        low, high = self.config.data.prompt_tokens
        cap = self.config.sft.max_response_tokens
        openings = [_sentences(review.text, 8 * (high + cap)) for review in self.reviews.sft]
        ends = tokenizer([s for sentences in openings for s in sentences], add_special_tokens=False)["input_ids"]
        examples: list[Example] = []
        cursor = 0
        for review, sentences in zip(self.reviews.sft, openings, strict=True):
            candidates, cursor = ends[cursor : cursor + len(sentences)], cursor + len(sentences)
            length = low + derive(SPLIT_SEED, review.id) % (high - low + 1)
            fitting = [ids for ids in candidates if length + 4 <= len(ids) < length + cap]
            if fitting:
                ids = fitting[-1]
                examples.append(Example(tuple(ids[:length]), (*ids[length:], tokenizer.eos_token_id)))
        return examples

    def prompts(self, tokenizer: Any, *, held_out: bool) -> "ReviewBeginnings":
        """First tokens of reviews that no model has seen; the first `eval.num_prompts` are kept for evaluation."""
        number = self.config.eval.num_prompts
        pool = self.reviews.prompts[:number] if held_out else self.reviews.prompts[number:]
        return ReviewBeginnings(pool, tokenizer, self.config.data.prompt_tokens)

    def windows(self, tokenizer: Any, length: int, number: int) -> list[Example]:
        """Windows of a stream of reviews with EOS between them; the first token of each has no loss."""
        stream: list[int] = []
        for review in self.reviews.sft:
            if len(stream) >= number * length:
                break
            stream += [*tokenizer.encode(review.text, add_special_tokens=False), tokenizer.eos_token_id]
        starts = range(0, len(stream) - length, length)
        return [Example((stream[i],), tuple(stream[i + 1 : i + length])) for i in starts]


class ReviewBeginnings(Sequence[Prompt]):
    """Prompts from the first words of reviews. Each is tokenised when it is asked for: a run needs a few thousand of
    tens of thousands."""

    def __init__(self, reviews: Sequence[Review], tokenizer: Any, num_tokens: tuple[int, int]) -> None:
        self.reviews, self.tokenizer, self.num_tokens = reviews, tokenizer, num_tokens

    def __len__(self) -> int:
        return len(self.reviews)

    @overload
    def __getitem__(self, at: int) -> Prompt: ...
    @overload
    def __getitem__(self, at: slice) -> list[Prompt]: ...
    def __getitem__(self, at: int | slice) -> Prompt | list[Prompt]:
        return self._made(self.reviews[at]) if isinstance(at, slice) else self.take([at])[0]

    def take(self, rows: Sequence[int]) -> list[Prompt]:
        return self._made([self.reviews[row] for row in rows])

    def _made(self, reviews: Sequence[Review]) -> list[Prompt]:
        low, high = self.num_tokens
        heads = [review.text[: 12 * high] for review in reviews]
        encoded = self.tokenizer(heads, add_special_tokens=False)["input_ids"] if heads else []
        prompts: list[Prompt] = []
        for review, ids in zip(reviews, encoded, strict=True):
            tokens = tuple(ids[: low + derive(SPLIT_SEED, review.id) % (high - low + 1)])
            prompts.append(Prompt(str(review.id), self.tokenizer.decode(tokens), tokens))
        return prompts


class ReviewPrompts:
    """PromptSource: every prompt once per pass, `group_size` times in a row, in an order that depends on seed and pass
    alone."""

    def __init__(self, pool: ReviewBeginnings, batch_size: int, seed: int, group_size: int = 1) -> None:
        self.pool, self.batch_size, self.seed, self.group_size = pool, batch_size, seed, group_size

    def prompts(self, step: int) -> list[Prompt]:
        rows = batch_rows(step, self.batch_size // self.group_size, len(self.pool), self.seed, "prompts")
        return [prompt for prompt in self.pool.take(rows) for _ in range(self.group_size)]


def _pairs(blocks: list[Block], raters: Any) -> list[Comparison]:
    return [pair for block in blocks for pair in comparisons(block, raters(block))]


def _sentences(text: str, limit: int) -> list[str]:
    """Beginnings of `text` that end with a sentence, shortest first."""
    head = text[:limit]
    return [head[: match.end()].rstrip() for match in _SENTENCE_END.finditer(head)]
