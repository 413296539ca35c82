"""What all readers share: checked access to a row, and messages as one text."""

import hashlib
from typing import Any, NamedTuple

from regard.data.comparisons import Comparison
from regard.errors import DataError

Row = dict[str, Any]


class UnreadableLabel(Exception):
    """The row is well formed but does not say which response is better. Counted, never guessed."""


class Converted(NamedTuple):
    """What one row holds; only one of the first three is set."""

    comparison: Comparison | None = None
    prompt: str | None = None
    text: str | None = None
    unreadable_votes: int = 0
    """Single judgements left out of a comparison that others support."""


def text_field(row: Row, key: str, where: str) -> str:
    """`row[key]`, which must be text that can be written to a file again."""
    return _checked_text(row.get(key), f"{where}: {key!r}")


def messages_field(row: Row, key: str, where: str) -> list[tuple[str, str]]:
    """`row[key]` as (role, content) pairs."""
    value = row.get(key)
    if not isinstance(value, list) or not value:
        raise DataError(f'{where}: {key!r} is no list of messages. Give [{{"role": …, "content": …}}, …].')
    pairs: list[tuple[str, str]] = []
    for index, message in enumerate(value):
        if not isinstance(message, dict):
            raise DataError(f'{where}: {key!r}[{index}] is no message. Give {{"role": …, "content": …}}.')
        role = _checked_text(message.get("role"), f"{where}: {key!r}[{index}].role")
        pairs.append((role, _checked_text(message.get("content"), f"{where}: {key!r}[{index}].content")))
    return pairs


def _checked_text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{what} is {type(value).__name__}, not text. Mend the line.")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(f"{what} has half a surrogate pair, which is no character. Mend the line.") from None
    return value


def is_messages(value: object) -> bool:
    """Does this column hold a conversation? Decided by its first entry, as TRL does."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and "role" in value[0]


def render(messages: list[tuple[str, str]]) -> str:
    """A conversation as text, one paragraph a turn: "User: Hello\\n\\nAssistant: Hi"."""
    return "\n\n".join(f"{role.capitalize()}: {content}" for role, content in messages)


def prompt_of(messages: list[tuple[str, str]]) -> str:
    """The conversation so far, up to where the assistant's answer begins."""
    return f"{render(messages)}\n\nAssistant: " if messages else ""


def response_of(messages: list[tuple[str, str]], where: str) -> str:
    """What follows a prompt: the assistant's turn, and any turns after it."""
    if not messages or messages[0][0] != "assistant":
        raise DataError(
            f"{where}: a response does not start with an assistant message. Put the shared turns into the prompt."
        )
    return "\n\n".join([messages[0][1], *([render(messages[1:])] if messages[1:] else [])])


def split_shared(chosen: list[tuple[str, str]], rejected: list[tuple[str, str]], where: str) -> tuple[str, str, str]:
    """(prompt, chosen, rejected) of two conversations: the prompt is the turns they begin with alike.

    The shared turns end before an assistant turn, so two conversations that are equal throughout differ in nothing
    and are reported as such by the caller.
    """
    shared = 0
    while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
        shared += 1
    while shared and (shared >= min(len(chosen), len(rejected)) or chosen[shared][0] != "assistant"):
        shared -= 1
    return prompt_of(chosen[:shared]), response_of(chosen[shared:], where), response_of(rejected[shared:], where)


def common_beginning(one: str, other: str) -> str:
    """The longest text that both begin with."""
    length = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:length]


def number(value: object) -> float | None:
    """A finite number, or None for anything else; True is not a number here."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or abs(value) > 1e300:
        return None
    return float(value)


def single_choice(
    prompt: str, chosen: str, rejected: str, where: str, *, margin: float | None = None, tie: bool = False
) -> Comparison:
    """A comparison of which only one, unnamed judge is known."""
    return Comparison(
        prompt=prompt,
        chosen=chosen,
        rejected=rejected,
        p_chosen=0.5 if tie else 1.0,
        num_raters=1,
        num_ties=int(tie),
        rater_ids=(),
        margin=margin,
        group=group_of(prompt or chosen),
        source=where,
    )


def group_of(prompt: str) -> str:
    """Name of the group of all comparisons with this prompt: the same wherever the file lies."""
    return "prompt-" + hashlib.sha256(prompt.encode("utf-8")).hexdigest()[:16]
