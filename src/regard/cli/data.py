"""`regard data fetch NAME`, `regard data check FILE`."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from regard.data.assets import ASSETS, MANIFEST
from regard.data.assets import fetch as fetch_asset
from regard.data.readers import FORMATS, summarise

app = typer.Typer(help="Fetch the pinned data sets; check your own files.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(ASSETS)}; or all.")],
    as_json: AsJson = False,
) -> None:
    """Download a pinned data set or model once, and verify it.

    Example: regard data fetch movie-ratings
    """
    result: dict[str, dict[str, object]] = {}
    for asset in ASSETS if name == "all" else [name]:
        path = fetch_asset(asset, progress=lambda line: print(line, file=sys.stderr))
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        result[asset] = {"path": str(path), **{key: manifest[key] for key in ("package", "licence", "source", "files")}}
    if as_json:
        print(json.dumps(result))
        return
    for asset, facts in result.items():
        print(f"{asset}: {facts['path']}\n  {facts['source']}\n  Licence: {facts['licence']}")


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="JSON Lines file of comparisons, prompts or texts.")],
    format: Annotated[
        str | None, typer.Option("--format", help=f"One of {', '.join(FORMATS)}; default: sniffed.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a file of comparisons, and count what is in it.

    Example: regard data check examples/data/trl.jsonl
    """
    summary = summarise(file, format)
    if as_json:
        print(json.dumps(asdict(summary)))
        return
    print(f"{summary.file}: {summary.rows} rows, format {summary.format}")
    print(
        f"  {summary.comparisons} comparisons in {summary.groups} groups, "
        f"{summary.prompts} prompts, {summary.texts} texts"
    )
    print(
        f"  {summary.judgements} judgements, {summary.tie_votes} of them ties; {summary.ties} comparisons evenly split"
    )
    print(f"  {summary.duplicates} duplicates, {summary.contradictions} contradictions")
    print(f"  {summary.unreadable} rows and {summary.unreadable_votes} single votes without a readable label, left out")
    for line in summary.first_unreadable:
        print(f"    {line}")
