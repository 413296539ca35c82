"""Plain measures of texts and of scores given to them: variety, repetition, rank correlation."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from scipy.stats import spearmanr


def distinct_n(texts: Sequence[str], n: int) -> float:
    """Distinct word n-grams over all of them (Li et al. 2016); 0 when no text has n words."""
    grams = [tuple(words[i : i + n]) for words in map(str.split, texts) for i in range(len(words) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def repetition(texts: Sequence[str]) -> float:
    """Mean share of a text's words that already stood in it; 0 for texts without words."""
    shares = [1 - len(set(words)) / len(words) for words in (text.lower().split() for text in texts) if words]
    return sum(shares) / len(shares) if shares else 0.0


_WORD = re.compile(r"\w+(?:['’]\w+)*")
FIRST_WORDS = 64


def repeated_pairs(text: str) -> float:
    """Share of neighbouring word pairs that already stood in the text, in its first 64 words, since longer texts repeat
    more without fault; 0 below two words."""
    words = _WORD.findall(text.lower())[:FIRST_WORDS]
    pairs = list(pairwise(words))
    return 1 - len(set(pairs)) / len(pairs) if pairs else 0.0


def rank_correlation(first: Sequence[float] | Any, second: Sequence[float] | Any) -> float:
    """Spearman's ρ; NaN where one of the two does not vary."""
    result: Any = spearmanr(first, second)
    return float(result.statistic)
