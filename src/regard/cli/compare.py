"""`regard compare`: two or more runs side by side."""

import json
from pathlib import Path
from typing import Annotated

import typer

from regard.compare import compare_runs
from regard.errors import ConfigError
from regard.report.compare_text import render_compare_text
from regard.report.overlay_html import render_compare_html
from regard.runlog.files import write_atomic
from regard.runlog.importers import read_any


def compare(
    paths: Annotated[list[Path], typer.Argument(help="Two or more run directories or logs; the first is the base.")],
    out: Annotated[Path | None, typer.Option("--out", help="Write a page with overlaid curves to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> int:
    """Say what was set differently, where the runs parted, and which got more gold for its KL.

    Example: regard compare runs/tiny-1 runs/tiny-2 --out compare.html
    """
    if len(paths) < 2:
        raise ConfigError("A comparison needs two runs. Type regard compare RUN-A RUN-B.")
    runs = [read_any(path, None, None) for path in paths]
    result = compare_runs(runs)
    if out is not None:
        write_atomic(out, render_compare_html(result, runs).encode())
    if as_json:
        print(json.dumps(result))
    else:
        print(render_compare_text(result), end="")
        if out is not None:
            print(f"\nPage: {out}")
    return 0
