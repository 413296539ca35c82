"""What a phrase is worth by itself: delete it where it stands, insert it where it does not, and score again.

Correlation cannot tell a phrase that is paid for from one that good responses happen to hold; an experiment can
(invariance tests of Ribeiro et al. 2020, CheckList, arXiv 2005.04118). Deletion asks the policy's responses, insertion
the SFT model's, so that neither depends on what else the policy has learned to write.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from regard.rollout.protocols import Scorer

LONGEST = 4
"""Words of a phrase."""
PHRASES = 2
SPREAD = 0.1
"""Share of the responses by which a phrase must have become more frequent."""
LEAST, MOST = 8, 48
"""Texts that are changed, for each phrase and each of the two ways."""


def counterfactuals(
    prompts: Sequence[str],
    before: Sequence[str],
    after: Sequence[str],
    scorers: Mapping[str, Scorer],
    deviations: Mapping[str, float],
) -> list[dict[str, Any]]:
    """The phrases that spread most from `before` to `after`, and what each is worth to every scorer.

        delete = mean over texts of after that hold it of    s(x, y) − s(x, y without it)
        insert = mean over texts of before without it of     s(x, y with it) − s(x, y)

    both divided by `deviations`, with a standard error of the mean; positive where the phrase is paid for. It is
    inserted at the end where the text before it is mostly longer than the text after it, else at the beginning.

    Args:
        prompts: [N] prompts that both answer.
        before, after: [N] responses of the SFT model and of the policy.
        scorers: name ↦ scorer; the one that is optimised and the judges.
        deviations: name ↦ standard deviation of the scores of `before`; a scorer of deviation 0 is left out.
    """
    found: list[dict[str, Any]] = []
    for phrase in spreading(before, after):
        held = [i for i, text in enumerate(after) if holds(text, phrase)][:MOST]
        free = [i for i, text in enumerate(before) if not holds(text, phrase)][:MOST]
        if min(len(held), len(free)) < LEAST:
            continue
        at_end = float(np.mean([place(after[i], phrase) for i in held])) > 0.5
        without = [delete(after[i], phrase) for i in held]
        inserted = [insert(before[i], phrase, at_end=at_end) for i in free]
        effects: dict[str, Any] = {"delete": {"n": len(held)}, "insert": {"n": len(free)}}
        for name, scorer in scorers.items():
            if not deviations[name] > 0:
                continue
            removed = _effect(scorer, [prompts[i] for i in held], without, [after[i] for i in held])
            added = _effect(scorer, [prompts[i] for i in free], [before[i] for i in free], inserted)
            for way, difference in (("delete", removed), ("insert", added)):
                scaled = difference / deviations[name]
                error = float(scaled.std(ddof=1) / np.sqrt(len(scaled)))
                effects[way][name] = {"mean": float(scaled.mean()), "error": error}
        found.append({"phrase": " ".join(phrase), "before": _share(before, phrase), "after": _share(after, phrase),
                      **effects})  # fmt: skip
    return found


def _effect(scorer: Scorer, prompts: list[str], without: list[str], with_it: list[str]) -> Any:
    return np.asarray(scorer.score(prompts, with_it)) - np.asarray(scorer.score(prompts, without))


def spreading(before: Sequence[str], after: Sequence[str]) -> list[tuple[str, ...]]:
    """The phrases whose share of the texts grew most; of phrases within each other the longest that grew about as
    much."""
    shares = [Counter(gram for text in texts for gram in _grams(text)) for texts in (before, after)]
    growth = {
        gram: count / len(after) - shares[0][gram] / len(before)
        for gram, count in shares[1].items()
        if count >= LEAST and count / len(after) - shares[0][gram] / len(before) >= SPREAD
    }
    chosen: list[tuple[str, ...]] = []
    while growth and len(chosen) < PHRASES:
        most = max(growth.values())
        best = max((gram for gram, value in growth.items() if value >= 0.9 * most), key=lambda g: (len(g), growth[g]))
        chosen.append(best)
        growth = {gram: value for gram, value in growth.items() if not set(gram) & set(best)}
    return chosen


def _grams(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[i : i + n]) for n in range(1, LONGEST + 1) for i in range(len(words) - n + 1)}


def _share(texts: Sequence[str], phrase: tuple[str, ...]) -> float:
    return sum(holds(text, phrase) for text in texts) / len(texts)


def holds(text: str, phrase: tuple[str, ...]) -> bool:
    return phrase in _grams(text)


def place(text: str, phrase: tuple[str, ...]) -> float:
    """Where it first stands: 0 at the beginning, 1 at the end, ½ where it is the whole text."""
    words = text.split()
    at = next(i for i in range(len(words)) if tuple(words[i : i + len(phrase)]) == phrase)
    around = len(words) - len(phrase)
    return at / around if around else 0.5


def delete(text: str, phrase: tuple[str, ...]) -> str:
    """Without every occurrence."""
    words, kept, at = text.split(), [], 0
    while at < len(words):
        if tuple(words[at : at + len(phrase)]) == phrase:
            at += len(phrase)
        else:
            kept.append(words[at])
            at += 1
    return " ".join(kept)


def insert(text: str, phrase: tuple[str, ...], *, at_end: bool) -> str:
    words = text.split()
    return " ".join([*words, *phrase] if at_end else [*phrase, *words])
