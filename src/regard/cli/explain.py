"""`regard explain`: what a metric, a configuration key or a detector of the review means."""

import difflib
import json
from typing import Annotated, Any

import typer

from regard.config import RecipeConfig
from regard.errors import ConfigError
from regard.review import catalogue
from regard.review.causes import all_causes
from regard.review.causes_doc import cause_doc, cause_facts
from regard.review.signs import all_signs
from regard.runlog.metrics import METRICS


def config_fields(section: Any = RecipeConfig, prefix: str = "") -> dict[str, dict[str, Any]]:
    """Every configuration key with its default and description, sections flattened with dots."""
    fields: dict[str, dict[str, Any]] = {}
    for name, field in section.model_fields.items():
        key = prefix + name
        if hasattr(field.annotation, "model_fields"):
            fields |= config_fields(field.annotation, key + ".")
        else:
            default = field.get_default(call_default_factory=True)
            fields[key] = {
                "default": default,
                "type": _type_name(field.annotation),
                "description": field.description or "",
            }
    return fields


def _type_name(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")


def explain(
    name: Annotated[
        str,
        typer.Argument(help="A metric, a configuration key, or the code or name of a detector, a sign or a cause."),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what a metric, a configuration key, a detector, a sign or a cause means.

    Example: regard explain K1
    """
    fields = config_fields()
    detectors = {key: one for one in catalogue().values() for key in (one.code, one.code.lower(), one.name)}
    if name in detectors:
        doc = detectors[name].doc
        print(json.dumps({"code": detectors[name].code, "name": detectors[name].name, "doc": doc}) if as_json else doc)
        return
    causes = {key: one for one in all_causes().values() for key in (one.id, one.id.lower(), one.name)}
    if name in causes:
        cause = causes[name]
        print(json.dumps(cause_facts(cause)) if as_json else cause_doc(cause))
        return
    if name in all_signs():
        doc = all_signs()[name].doc
        print(json.dumps({"name": name, "doc": doc}) if as_json else f"{name}: {doc}")
        return
    if name in METRICS:
        spec = METRICS[name]
        facts = {key: getattr(spec, key) for key in spec.__dataclass_fields__}
    elif name in fields:
        facts = {"key": name, **fields[name]}
    else:
        near = difflib.get_close_matches(name, [*METRICS, *fields, *detectors, *causes, *all_signs()], n=3, cutoff=0.4)
        hint = f"Did you mean {' or '.join(near)}?" if near else "Type `regard explain seed` for an example."
        raise ConfigError(f"Nothing is known by the name {name!r}. {hint}")
    if as_json:
        print(json.dumps(facts, default=str))
        return
    for key, value in facts.items():
        if value not in (None, "", ()):
            print(f"{key:>12}  {' → '.join(value) if isinstance(value, tuple) else value}")
