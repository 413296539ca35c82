"""Movie review snippets rated by people (Hutto & Gilbert 2014), and the comparisons that their ratings imply.

The file has no rater names, but rows come in blocks of 30 (the last has 15), and column k of a block is one person:
within a block the ratings of neighbouring rows correlate column by column, across blocks they do not. So a block is
15 to 29 people who rated the same 30 texts, and each pair of texts in it was judged by all of them. Comparisons are
made within blocks, and data are split by block: no rater and no text is in two splits.
"""

import hashlib
import html
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from regard.data.comparisons import Comparison
from regard.data.leakage import normalised, stable_order
from regard.errors import DataError

BLOCK_ROWS = 30
TEXTS = "movieReviewSnippets_GroundTruth.txt"
RATINGS = "movieReviewSnippets_anonDataRatings.txt"


@dataclass(frozen=True, eq=False)
class Block:
    """Texts that the same people rated."""

    id: str
    texts: tuple[str, ...]
    ratings: np.ndarray
    """[items, raters] whole numbers from −4 (very negative) to 4 (very positive)."""


def load_movie_ratings(path: Path) -> list[Block]:
    """The 354 blocks of the fetched directory, in file order.

    HTML entities are resolved, and the '' that stands for a double quote is made one.

    Raises:
        DataError: with file:line, when the two files do not fit together or a rating is not −4 … 4.
    """
    texts, ratings = _rows(path / TEXTS, columns=3), _rows(path / RATINGS, columns=4)
    if len(texts) != len(ratings):
        raise DataError(
            f"{path / RATINGS}:{len(ratings)}: {len(texts)} texts have {len(ratings)} rows of ratings. "
            "Fetch them again: rm -r the directory and type regard data fetch movie-ratings"
        )
    rated: list[tuple[str, list[int]]] = []
    for line, ((text_id, _, text), (rating_id, _, _, listed)) in enumerate(zip(texts, ratings, strict=True), start=1):
        where = f"{path / RATINGS}:{line}"
        try:
            values = json.loads(listed)
        except ValueError:
            values = None
        if (
            text_id != rating_id
            or not isinstance(values, list)
            or not all(type(v) is int and -4 <= v <= 4 for v in values)
        ):
            raise DataError(
                f"{where}: no list of ratings from -4 to 4 for text {text_id}. Mend the line or fetch again."
            )
        if (line - 1) % BLOCK_ROWS and len(values) != len(rated[-1][1]):
            raise DataError(
                f"{where}: {len(values)} ratings where the block has {len(rated[-1][1])}. Fetch the file again."
            )
        rated.append((html.unescape(text).replace("''", '"').strip(), values))
    return [
        Block(
            id=f"movie-{start // BLOCK_ROWS:03d}",
            texts=tuple(text for text, _ in rated[start : start + BLOCK_ROWS]),
            ratings=np.array([values for _, values in rated[start : start + BLOCK_ROWS]], dtype=np.int64),
        )
        for start in range(0, len(rated), BLOCK_ROWS)
    ]


def _rows(path: Path, *, columns: int) -> list[list[str]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}:1: cannot be read ({error}). Type: regard data fetch movie-ratings") from error
    rows = [line.split("\t") for line in lines]
    for number, row in enumerate(rows, start=1):
        if len(row) != columns:
            raise DataError(
                f"{path}:{number}: {len(row)} columns, not {columns}. Type: regard data fetch movie-ratings"
            )
    return rows


def split_blocks(blocks: list[Block], seed: int) -> dict[str, list[Block]]:
    """A tenth of the blocks to "test", a tenth to "dev", the rest to "train"; the same shares of mostly positive
    blocks.

    Where a text stands in blocks of two splits, it is taken out of the one used earlier: train before dev before test.
    """
    split: dict[str, list[Block]] = {"train": [], "dev": [], "test": []}
    for positive in (True, False):
        part = [block for block in blocks if (block.ratings.mean() > 0) == positive]
        part.sort(key=lambda block: stable_order(seed, block.id))
        tenth = len(part) // 10
        split["test"] += part[:tenth]
        split["dev"] += part[tenth : 2 * tenth]
        split["train"] += part[2 * tenth :]
    test = {normalised(text) for block in split["test"] for text in block.texts}
    dev = {normalised(text) for block in split["dev"] for text in block.texts}
    split["dev"] = [_without(block, test) for block in split["dev"]]
    split["train"] = [_without(block, test | dev) for block in split["train"]]
    return split


def _without(block: Block, texts: set[str]) -> Block:
    kept = [item for item, text in enumerate(block.texts) if normalised(text) not in texts]
    if len(kept) == len(block.texts):
        return block
    return replace(block, texts=tuple(block.texts[item] for item in kept), ratings=block.ratings[kept])


def label_raters(block: Block) -> list[int]:
    """Columns whose ratings become training labels: half of the raters, by a hash of the block's id."""
    return sorted(_shuffled_raters(block)[: (block.ratings.shape[1] + 1) // 2])


def kept_raters(block: Block) -> list[int]:
    """The other half: never trained on, so they can judge what was learnt."""
    return sorted(_shuffled_raters(block)[(block.ratings.shape[1] + 1) // 2 :])


def all_raters(block: Block) -> list[int]:
    """Every column."""
    return list(range(block.ratings.shape[1]))


def _shuffled_raters(block: Block) -> list[int]:
    columns = range(block.ratings.shape[1])
    return sorted(columns, key=lambda column: hashlib.sha256(f"{block.id}/{column}".encode()).digest())


def kept_means(block: Block) -> list[float]:
    """Mean rating of each text by the kept raters."""
    return block.ratings[:, kept_raters(block)].mean(axis=1).tolist()


class _Votes(NamedTuple):
    """Of all pairs (first, second) of a block's items, first < second; each field is [pairs]."""

    first: np.ndarray
    second: np.ndarray
    wins: np.ndarray
    """How many raters rated `first` higher."""
    losses: np.ndarray


def _votes(block: Block, raters: Sequence[int]) -> _Votes:
    ratings = block.ratings[:, list(raters)]
    first, second = np.triu_indices(len(block.texts), k=1)
    gaps = ratings[first] - ratings[second]
    return _Votes(first, second, (gaps > 0).sum(axis=1), (gaps < 0).sum(axis=1))


def _gaps(block: Block, raters: Sequence[int]) -> np.ndarray:
    """[pairs] distance of the two mean ratings, in the order of `_votes`."""
    means = block.ratings[:, list(raters)].mean(axis=1)
    first, second = np.triu_indices(len(block.texts), k=1)
    return np.abs(means[first] - means[second])


def comparisons(block: Block, raters: Sequence[int]) -> list[Comparison]:
    """Every pair of different texts of a block, "which is more positive", as these raters' ratings answer it.

        p_chosen = (raters who rated chosen higher + ties / 2) / raters

    Exact ties are kept, with p_chosen = 0.5. `margin` is the distance of the mean ratings, in rating points. Only the
    given raters are used for any of it, so nothing of the kept raters reaches a comparison made from the others.
    """
    votes = _votes(block, raters)
    total = len(raters)
    ties = total - votes.wins - votes.losses
    p_first = (votes.wins + ties / 2) / total
    ids = tuple(f"{block.id}/{rater}" for rater in raters)
    texts = block.texts
    made: list[Comparison] = []
    columns = (votes.first, votes.second, p_first, ties, _gaps(block, raters))
    for first, second, p, num_ties, margin in zip(*(column.tolist() for column in columns), strict=True):
        chosen, rejected = (texts[first], texts[second]) if p >= 0.5 else (texts[second], texts[first])
        if chosen != rejected:
            made.append(
                Comparison("", chosen, rejected, max(p, 1 - p), total, num_ties, ids, margin, block.id, "movie-ratings")
            )
    return made


class Agreement(NamedTuple):
    """How often people agree with each other: the bar for a reward model that is judged by one person's choices."""

    overall: float
    """P(two raters prefer the same text | neither sees a tie), each pair of texts counted once."""
    by_bin: list[float]
    """The same by distance of the mean ratings; NaN where a bin is empty."""
    ties_by_bin: list[float]
    """Share of single judgements that are ties."""
    pairs_by_bin: list[int]
    """Pairs of texts."""


def human_agreement(
    blocks: list[Block],
    edges: Sequence[float],
    *,
    bin_raters: Callable[[Block], list[int]] = label_raters,
    judge_raters: Callable[[Block], list[int]] = kept_raters,
) -> Agreement:
    """Agreement between two people about a pair of texts, overall and by how far apart the texts are.

        agreement = mean over pairs of [C(w, 2) + C(l, 2)] / C(w + l, 2),    w, l = raters for either text

    over pairs that at least two raters decided. The raters that place a pair in a bin are others than those whose
    agreement is counted: a pair is wide partly because the people who rated it happened to agree, so the same people
    in both places would flatter the wide bins and slander the narrow ones.

    Args:
        edges: of the bins, in rating points; a bin has its lower edge, the last bin both.
    """
    gaps = np.concatenate([_gaps(block, bin_raters(block)) for block in blocks])
    votes = [_votes(block, judge_raters(block)) for block in blocks]
    wins = np.concatenate([v.wins for v in votes])
    losses = np.concatenate([v.losses for v in votes])
    raters = np.concatenate([np.full(len(v.wins), len(judge_raters(b))) for v, b in zip(votes, blocks, strict=True)])
    decided = wins + losses
    agreeing = wins * (wins - 1) + losses * (losses - 1)
    with np.errstate(invalid="ignore"):
        agreement = agreeing / (decided * (decided - 1))  # 0/0 = NaN below two deciding raters
    bins = np.searchsorted(np.asarray(edges), gaps, side="right") - 1
    bins[gaps == edges[-1]] = len(edges) - 2
    inside = [bins == index for index in range(len(edges) - 1)]
    return Agreement(
        overall=_mean(agreement[decided > 1]),
        by_bin=[_mean(agreement[these & (decided > 1)]) for these in inside],
        ties_by_bin=[1 - _mean(decided[these] / raters[these]) for these in inside],
        pairs_by_bin=[int(these.sum()) for these in inside],
    )


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
