"""OpenAI's preference fine-tuning rows: `input.messages`, `preferred_output`, `non_preferred_output`."""

from regard.data.readers.rows import Converted, Row, messages_field, prompt_of, response_of, single_choice
from regard.errors import DataError


def sniff(row: Row) -> bool:
    return {"input", "preferred_output", "non_preferred_output"} <= row.keys()


def convert(row: Row, where: str) -> Converted:
    given = row.get("input")
    if not isinstance(given, dict):
        raise DataError(f"{where}: 'input' is {type(given).__name__}. Give {{\"messages\": […]}}.")
    prompt = prompt_of(messages_field(given, "messages", where))
    chosen = response_of(messages_field(row, "preferred_output", where), where)
    rejected = response_of(messages_field(row, "non_preferred_output", where), where)
    return Converted(single_choice(prompt, chosen, rejected, where))
