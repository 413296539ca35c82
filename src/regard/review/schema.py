"""The published JSON Schema of the review result (`report.json`), and the reference page made of it."""

import json
from importlib.resources import files
from typing import Any, cast

Json = dict[str, Any]


def schema() -> Json:
    """JSON Schema, draft 2020-12, of what `Review.to_json` returns."""
    return cast(Json, json.loads(files("regard.review").joinpath("schema.json").read_text(encoding="utf-8")))


def schema_markdown() -> str:
    """One table of keys for the result and for each of its parts."""
    whole = schema()
    lines = ["# Review result", "", "The file `RUN/review/report.json`, and what `regard review --json` prints. "
             "Generated; do not edit.", "", f"{whole['description']} The schema itself: `regard review --schema`.",
             ""]  # fmt: skip
    lines += _table(whole)
    for name, part in cast(dict[str, Json], whole["$defs"]).items():
        lines += ["", f"## {name}", "", str(part["description"]), ""]
        lines += _table(part) if "properties" in part else [f"Type: {_type(part)}."]
    return "\n".join(lines) + "\n"


def _table(part: Json, prefix: str = "") -> list[str]:
    head = ["| key | type | meaning |", "|---|---|---|"] if not prefix else []
    required = cast(list[str], part.get("required", []))
    for key, value in cast(dict[str, Json], part["properties"]).items():
        inner = cast(Json, value.get("items", value))
        optional = "" if key in required else " May be absent."
        meaning = str(value.get("description", "")) + optional
        head.append(f"| `{prefix}{key}` | {_type(value)} | {meaning.strip()} |")
        if "properties" in inner:
            head += _table(inner, f"{prefix}{key}{'[]' if inner is not value else ''}.")
    return head


def _type(value: Json) -> str:
    if "$ref" in value:
        name = str(value["$ref"]).rpartition("/")[2]
        return f"[{name}](#{name})"
    if "anyOf" in value:
        return " or ".join(_type(cast(Json, one)) for one in value["anyOf"])
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return " or ".join(f"`{one}`" for one in value["enum"])
    if value.get("type") == "array":
        inner = cast(Json, value["items"])
        return f"array of {'object' if 'properties' in inner else _type(inner)}"
    kind = value.get("type")
    words = " or ".join(cast(list[str], kind)) if isinstance(kind, list) else str(kind)
    if "pattern" in value:
        words += f" `{value['pattern']}`"
    if value.get("minimum") == 0 and value.get("maximum") == 1:
        words += ", 0 to 1"
    return words
