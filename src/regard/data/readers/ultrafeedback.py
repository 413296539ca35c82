"""UltraFeedback, binarised: `prompt`, `chosen` and `rejected` conversations, `score_chosen`, `score_rejected`.

Equal scores are a tie, whichever response was put first. A score that is missing, or that contradicts the choice,
makes the label unreadable. `margin` is the difference of the scores.
"""

from regard.data.readers.rows import (
    Converted,
    Row,
    UnreadableLabel,
    messages_field,
    number,
    single_choice,
    split_shared,
)


def sniff(row: Row) -> bool:
    return {"chosen", "rejected", "score_chosen", "score_rejected"} <= row.keys()


def convert(row: Row, where: str) -> Converted:
    chosen, rejected = messages_field(row, "chosen", where), messages_field(row, "rejected", where)
    parts = split_shared(chosen, rejected, where)
    high, low = number(row.get("score_chosen")), number(row.get("score_rejected"))
    if high is None or low is None:
        raise UnreadableLabel(
            f"scores {row.get('score_chosen')!r} and {row.get('score_rejected')!r} are not two numbers"
        )
    if high < low:
        raise UnreadableLabel(f"chosen has the lower score, {high:g} against {low:g}")
    return Converted(single_choice(*parts, where, margin=high - low, tie=high == low))
