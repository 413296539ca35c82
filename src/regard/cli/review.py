"""`regard review`: what is wrong with a run, ours or anyone's."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from regard.errors import ConfigError, RunLogError
from regard.report.review_text import render_review_text
from regard.review import Review
from regard.review import review as review_run
from regard.runlog.importers import SOURCES, read_any

LEVELS: dict[str, tuple[str, ...]] = {"error": ("error",), "warning": ("error", "warning")}


def review(
    paths: Annotated[list[Path], typer.Argument(help="Run directory, log file, or directory with a log. Repeatable.")],
    source: Annotated[
        str | None, typer.Option("--from", help=f"What wrote the log, if it is not recognised: {', '.join(SOURCES)}.")
    ] = None,
    mapping: Annotated[
        Path | None, typer.Option("--map", help="YAML file: `keys: {key in the log: metric key of Regard}`.")
    ] = None,
    style: Annotated[str, typer.Option("--format", help="text or json.")] = "text",
    out: Annotated[Path | None, typer.Option("--out", help="Write the review to this file.")] = None,
    fail_on: Annotated[str, typer.Option("--fail-on", help="error or warning: exit with 1 at one.")] = "error",
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> int:
    """Read a run and say what is wrong with it, since when, and what could not be checked.

    Exits with 0 if nothing of the level of --fail-on was found, 1 if something was, 2 if the run could not be read.

    Example: regard review runs/tiny
    """
    if fail_on not in LEVELS:
        raise ConfigError(f"--fail-on takes error or warning, not {fail_on!r}. Type --fail-on error.")
    if style not in ("text", "json"):
        raise ConfigError(f"--format takes text or json, not {style!r}. Type --format text.")
    reviews = [review_run(read_any(path, source, mapping)) for path in paths]
    for one in reviews:
        store(one)
    text = _render(reviews, "json" if as_json or style == "json" else "text")
    if out is None:
        print(text, end="")
    else:
        try:
            out.write_text(text, encoding="utf-8")
        except OSError as error:
            raise RunLogError(f"{out} cannot be written ({error.strerror}). Give another path to --out.") from error
    return int(any(finding.severity in LEVELS[fail_on] for one in reviews for finding in one.findings))


def _render(reviews: list[Review], style: Literal["text", "json"]) -> str:
    if style == "text":
        return "\n".join(render_review_text(one) for one in reviews)
    results: list[dict[str, Any]] = [one.to_json() for one in reviews]
    return json.dumps(results[0] if len(results) == 1 else results, indent=1, allow_nan=False) + "\n"


def store(review: Review) -> None:
    """Keep the review of our own runs beside them; a foreign directory is left as it is."""
    if not (review.run.path / "run.json").is_file():
        return
    directory = review.run.path / "review"
    try:
        directory.mkdir(exist_ok=True)
        (directory / "report.json").write_text(
            json.dumps(review.to_json(), indent=1, allow_nan=False) + "\n", encoding="utf-8"
        )
    except OSError:  # a read-only run can be reviewed too
        return
