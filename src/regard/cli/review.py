"""`regard review`: what is wrong with a run, ours or anyone's."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from regard.cli.watch import watch as watch_run
from regard.errors import ConfigError, RunLogError
from regard.report.review_html import render_review_html
from regard.report.review_text import render_review_text
from regard.review import Review, schema
from regard.review import review as review_run
from regard.runlog.files import write_atomic
from regard.runlog.importers import SOURCES, check_source, read_any, read_mapping

LEVELS: dict[str, tuple[str, ...]] = {"error": ("error",), "warning": ("error", "warning"), "never": ()}
STYLES = ("text", "json", "html")


def _print_schema(show: bool) -> None:
    if show:
        print(json.dumps(schema(), indent=1, ensure_ascii=False))
        raise typer.Exit


def review(
    paths: Annotated[list[Path], typer.Argument(help="Run directory, log file, or directory with a log. Repeatable.")],
    source: Annotated[
        str | None, typer.Option("--from", help=f"What wrote the log, if it is not recognised: {', '.join(SOURCES)}.")
    ] = None,
    mapping: Annotated[
        Path | None, typer.Option("--map", help="YAML file: `keys: {key in the log: metric key of Regard}`.")
    ] = None,
    style: Annotated[str, typer.Option("--format", help="text, json or html.")] = "text",
    out: Annotated[Path | None, typer.Option("--out", help="Write the review to this file.")] = None,
    fail_on: Annotated[str, typer.Option("--fail-on", help="error, warning or never: exit with 1 at one.")] = "error",
    watch: Annotated[bool, typer.Option("--watch", help="Follow a run that is going on; print what is new.")] = False,
    every: Annotated[float, typer.Option("--every", help="With --watch: seconds between two looks.")] = 5.0,
    on_error: Annotated[
        str | None,
        typer.Option("--on-error", help="With --watch: run this command at a finding, and go on, instead of exiting."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    show_schema: Annotated[
        bool,
        typer.Option("--schema", callback=_print_schema, is_eager=True, help="Print the JSON Schema of the result."),
    ] = False,
) -> int:
    """Read a run and say what is wrong with it, since when, and what could not be checked.

    Exits with 0 if nothing of the level of --fail-on was found, 1 if something was, 2 if the run could not be read.

    Example: regard review runs/tiny --format html --out review.html
    """
    del show_schema
    style = "json" if as_json else style
    _check_options(paths, style, fail_on, watch, every, on_error, out)
    if watch:
        check_source(source)  # what will never be right is not waited for
        if mapping is not None:
            read_mapping(mapping)
        return watch_run(
            paths[0],
            lambda: review_run(read_any(paths[0], source, mapping)),
            store,
            every=every,
            severities=LEVELS[fail_on],
            command=on_error,
            as_json=style == "json",
        )
    reviews = [review_run(read_any(path, source, mapping)) for path in paths]
    for one in reviews:
        store(one)
    text = _render(reviews, style)
    if out is None:
        print(text, end="")
    else:
        try:
            out.write_text(text, encoding="utf-8")
        except OSError as error:
            raise RunLogError(f"{out} cannot be written ({error.strerror}). Give another path to --out.") from error
    return int(any(finding.severity in LEVELS[fail_on] for one in reviews for finding in one.findings))


def _check_options(
    paths: list[Path], style: str, fail_on: str, watch: bool, every: float, on_error: str | None, out: Path | None
) -> None:
    if fail_on not in LEVELS:
        raise ConfigError(f"--fail-on takes error, warning or never, not {fail_on!r}. Type --fail-on error.")
    if style not in STYLES:
        raise ConfigError(f"--format takes text, json or html, not {style!r}. Type --format text.")
    if style == "html" and len(paths) > 1:
        raise ConfigError(f"One page shows one run, and {len(paths)} were given. Type --format html with one PATH.")
    if not watch:
        if on_error is not None:
            raise ConfigError("--on-error belongs to --watch. Type --watch as well.")
        return
    if len(paths) > 1:
        raise ConfigError(f"--watch follows one run, and {len(paths)} were given. Give one PATH.")
    if style == "html" or out is not None:
        raise ConfigError("--watch prints lines and writes no file. Leave out --format html and --out.")
    if not every > 0:
        raise ConfigError(f"--every takes seconds above 0, not {every:g}. Type --every 5.")


def _render(reviews: list[Review], style: str) -> str:
    if style == "html":
        return render_review_html(reviews[0])
    if style == "text":
        return "\n".join(render_review_text(one) for one in reviews)
    results: list[dict[str, Any]] = [one.to_json() for one in reviews]
    return json.dumps(results[0] if len(results) == 1 else results, indent=1, allow_nan=False) + "\n"


def store(review: Review) -> Path | None:
    """Keep the review of our own runs beside them, as JSON and as a page; a foreign directory is left as it is.

    Returns:
        The page, or None where nothing was written.
    """
    if not (review.run.path / "run.json").is_file():
        return None
    directory = review.run.path / "review"
    page = directory / "report.html"
    try:
        result = json.dumps(review.to_json(), indent=1, allow_nan=False) + "\n"
        write_atomic(directory / "report.json", result.encode())
        write_atomic(page, render_review_html(review).encode())
    except RunLogError:  # a read-only run can be reviewed too
        return None
    return page
