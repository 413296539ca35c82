"""HelpSteer3 preference (NVIDIA 2025): `context` messages, `response1`, `response2`, and each annotator's own score.

A score is a whole number from −3 (response 1 much better) to 3 (response 2 much better), 0 is a tie. The annotators'
scores in `individual_preference` are the judgements; `overall_preference` is used, as one judgement, only where a row
has no individual ones. The file names no annotators, so an id is good for its row only. `margin` is the size of the
mean score.
"""

from typing import Any

from regard.data.comparisons import Comparison
from regard.data.readers.rows import (
    Converted,
    Row,
    UnreadableLabel,
    group_of,
    messages_field,
    number,
    prompt_of,
    text_field,
)
from regard.errors import DataError


def sniff(row: Row) -> bool:
    return {"context", "response1", "response2"} <= row.keys()


def convert(row: Row, where: str) -> Converted:
    prompt = prompt_of(messages_field(row, "context", where))
    responses = text_field(row, "response1", where), text_field(row, "response2", where)
    individual = row.get("individual_preference") or []
    if not isinstance(individual, list):
        raise DataError(f"{where}: 'individual_preference' is {type(individual).__name__}, not a list. Mend the line.")
    raw: list[Any] = [entry.get("score") if isinstance(entry, dict) else None for entry in individual]
    votes = {f"{where}/{index}": _score(value) for index, value in enumerate(raw or [row.get("overall_preference")])}
    read = {rater: score for rater, score in votes.items() if score is not None}
    if not read:
        shown = raw or [row.get("overall_preference")]
        raise UnreadableLabel(f"no whole number from -3 to 3 among the scores {shown!r}")
    scores = list(read.values())
    num_ties = scores.count(0)
    p_second = (sum(score > 0 for score in scores) + num_ties / 2) / len(scores)
    chosen, rejected = responses if p_second <= 0.5 else responses[::-1]
    comparison = Comparison(
        prompt=prompt,
        chosen=chosen,
        rejected=rejected,
        p_chosen=max(p_second, 1 - p_second),
        num_raters=len(scores),
        num_ties=num_ties,
        rater_ids=tuple(read) if raw else (),
        margin=abs(sum(scores)) / len(scores),
        group=group_of(prompt),
        source=where,
    )
    return Converted(comparison, unreadable_votes=len(votes) - len(read))


def _score(value: object) -> int | None:
    score = number(value)
    return int(score) if score is not None and score == int(score) and -3 <= score <= 3 else None
