"""Write docs/reference/, each page from the code that defines what it tells."""

from pathlib import Path
from typing import Any

import typer

from regard.cli.explain import config_fields
from regard.cli.main import app
from regard.review import catalogue
from regard.review.causes import all_causes
from regard.review.causes_doc import cause_doc
from regard.review.schema import schema_markdown
from regard.review.signs import all_signs
from regard.runlog.docs import metrics_markdown

REFERENCE = Path(__file__).parent / "reference"


def config_markdown() -> str:
    lines = ["# Configuration", "", "Keys of a recipe, as in `--set key=value`. Generated; do not edit.", ""]
    lines += ["| key | default | type | meaning |", "|---|---|---|---|"]
    for key, facts in config_fields().items():
        cells = (f"`{key}`", f"`{facts['default']}`", f"`{facts['type']}`", facts["description"])
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def cli_markdown() -> str:
    lines = ["# Command line", "", "Every command takes `--help`. Generated; do not edit.", ""]
    for path, command in sorted(_commands(typer.main.get_command(app), ("regard",))):
        lines += [f"## {' '.join(path)}", "", *((command.help or "").strip().splitlines()), ""]
        for parameter in command.params:
            names = ", ".join(f"`{name}`" for name in (parameter.opts or [parameter.name]))
            lines.append(f"- {names}: {getattr(parameter, 'help', None) or ''}".rstrip(": "))
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _commands(command: Any, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], Any]]:
    if not hasattr(command, "commands"):
        return [(path, command)]
    return [found for name, sub in command.commands.items() for found in _commands(sub, (*path, name))]


def detectors_markdown() -> str:
    lines = ["# Detectors", "", "The symptoms that `regard review` looks for. Generated; do not edit.", ""]
    lines += ["| code | name | severity | stages |", "|---|---|---|---|"]
    for one in catalogue().values():
        lines.append(f"| {one.code} | {one.name} | {one.severity} | {', '.join(sorted(one.stages))} |")
    for one in catalogue().values():
        body = one.doc.partition("\n")[2].strip().replace("\n## ", "\n### ").removeprefix("## ")
        lines += ["", f"## {one.code} {one.name}", "", f"{one.title[:1].upper()}{one.title[1:]}.", "", f"### {body}"]
    return "\n".join(lines) + "\n"


def causes_markdown() -> str:
    lines = ["# Causes", "", "The roots that `regard review` knows. Generated; do not edit.", ""]
    lines += ["| id | name | stage |", "|---|---|---|"]
    lines += [f"| {one.id} | {one.name} | {one.stage} |" for one in all_causes().values()]
    for one in all_causes().values():
        title, _, body = cause_doc(one).partition("\n")
        body = body.strip().replace("\n## ", "\n### ")
        lines += ["", f"## {title}", "", body]
    lines += ["", "# Signs", "", "Questions to the record that tell causes apart. A sign is no finding by itself.", ""]
    lines += ["| sign | what it asks |", "|---|---|"]
    lines += [f"| `{one.name}` | {' '.join(one.doc.split())} |" for one in all_signs().values()]
    return "\n".join(lines) + "\n"


PAGES = {
    "metrics.md": metrics_markdown,
    "config.md": config_markdown,
    "cli.md": cli_markdown,
    "detectors.md": detectors_markdown,
    "causes.md": causes_markdown,
    "review-result.md": schema_markdown,
}

if __name__ == "__main__":
    for name, generate in PAGES.items():
        (REFERENCE / name).write_text(generate(), encoding="utf-8")
