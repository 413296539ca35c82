"""HH-RLHF (Bai et al. 2022): `chosen` and `rejected` are whole transcripts of "\\n\\nHuman: …\\n\\nAssistant: …".

The prompt is what both begin with, up to and including the last "\\n\\nAssistant:" of it; a response keeps its
leading space.
"""

from regard.data.readers.rows import Converted, Row, common_beginning, single_choice, text_field
from regard.errors import DataError

_HUMAN, _ASSISTANT = "\n\nHuman:", "\n\nAssistant:"


def sniff(row: Row) -> bool:
    values = (row.get("chosen"), row.get("rejected"))
    return "prompt" not in row and all(isinstance(v, str) and v.startswith(_HUMAN) and _ASSISTANT in v for v in values)


def convert(row: Row, where: str) -> Converted:
    chosen, rejected = text_field(row, "chosen", where), text_field(row, "rejected", where)
    cut = common_beginning(chosen, rejected).rfind(_ASSISTANT) + len(_ASSISTANT)
    if cut < len(_ASSISTANT):
        raise DataError(f"{where}: the transcripts share no turn up to an Assistant:. Mend the line.")
    return Converted(single_choice(chosen[:cut], chosen[cut:], rejected[cut:], where))
