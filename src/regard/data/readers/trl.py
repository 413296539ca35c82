"""TRL's dataset types that hold preferences, prompts or texts, in the standard and the conversational form.

| type | columns |
|---|---|
| preference | `prompt`, `chosen`, `rejected`: three texts, or three lists of messages |
| preference, implicit prompt | `chosen`, `rejected`: whole texts or conversations that begin alike |
| prompt only | `prompt` |
| language modelling | `text`, or `messages` |

An optional `margin` column is kept. Of two texts with an implicit prompt, the prompt is their longest common
beginning that ends at a space, so that no word is cut.
"""

from regard.data.readers.rows import (
    Converted,
    Row,
    UnreadableLabel,
    common_beginning,
    is_messages,
    messages_field,
    number,
    prompt_of,
    render,
    response_of,
    single_choice,
    split_shared,
    text_field,
)
from regard.errors import DataError


def sniff(row: Row) -> bool:
    keys = row.keys()
    return {"chosen", "rejected"} <= keys or bool({"prompt", "text", "messages"} & keys)


def convert(row: Row, where: str) -> Converted:
    if "chosen" in row or "rejected" in row:
        return _preference(row, where)
    if "prompt" in row:
        prompt = row["prompt"]
        return Converted(prompt=_prompt(row, where) if is_messages(prompt) else text_field(row, "prompt", where))
    if "messages" in row:
        return Converted(text=render(messages_field(row, "messages", where)))
    if "text" in row:
        return Converted(text=text_field(row, "text", where))
    raise DataError(f"{where}: no chosen and rejected, prompt, text or messages. Mend the line.")


def _prompt(row: Row, where: str) -> str:
    return prompt_of(messages_field(row, "prompt", where))


def _preference(row: Row, where: str) -> Converted:
    if is_messages(row.get("chosen")):
        chosen, rejected = messages_field(row, "chosen", where), messages_field(row, "rejected", where)
        if "prompt" in row:
            parts = (_prompt(row, where), response_of(chosen, where), response_of(rejected, where))
        else:
            parts = split_shared(chosen, rejected, where)
    else:
        one, other = text_field(row, "chosen", where), text_field(row, "rejected", where)
        if "prompt" in row:
            parts = (text_field(row, "prompt", where), one, other)
        else:
            cut = common_beginning(one, other).rfind(" ") + 1
            parts = (one[:cut], one[cut:], other[cut:])
    margin = None
    if row.get("margin") is not None:
        margin = number(row["margin"])
        if margin is None or margin < 0:
            raise UnreadableLabel(f"margin {row['margin']!r} is no number from 0 up")
    return Converted(single_choice(*parts, where, margin=margin))
