"""`regard verify`: the proof of a cause, by running again."""

import json
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from regard.config import split_override
from regard.errors import ConfigError
from regard.report.overlay_html import render_verify_html
from regard.report.verify_text import render_verify_text
from regard.runlog.files import write_atomic

UNITS = {"s": 1, "m": 60, "h": 3600}


def verify(
    path: Annotated[Path, typer.Argument(help="Directory of a finished run.")],
    cause: Annotated[str | None, typer.Option("--cause", help="Try this cause of the review only, such as K1.")] = None,
    fix: Annotated[
        list[str] | None, typer.Option("--fix", help="Try this change, for example ppo.kl_coef=0.1. Repeatable.")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Paired seeds before anything is said.")] = 3,
    max_seeds: Annotated[int, typer.Option("--max-seeds", help="Most seeds, while the answer is open.")] = 6,
    budget: Annotated[str | None, typer.Option("--budget", help="Wall time, for example 10m or 2h.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Where the arms are kept; default RUN/verify.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> int:
    """Fork a run before its failure, run it again unchanged, with controls and with the fix, and judge on gold.

    Exits with 0 if a fix is proven, 1 if not, 2 if the run could not be verified. Type the same command again after a
    kill: no arm is repeated.

    Example: regard verify runs/tiny --cause K1 --budget 30m
    """
    from regard.verify.experiment import verify as verify_run

    result = verify_run(
        path,
        cause=cause,
        fix=dict(split_override(word, "--fix") for word in fix) if fix else None,
        seeds=seeds,
        max_seeds=max_seeds,
        budget=_seconds(budget) if budget else None,
        out=out,
        argv=sys.argv,
        say=lambda line: print(line, file=sys.stderr if as_json else sys.stdout, flush=True),
    )
    place = out or path / "verify"
    write_atomic(place / "verify.json", (json.dumps(result, indent=1) + "\n").encode())
    write_atomic(place / "verify.html", render_verify_html(result).encode())
    if as_json:
        print(json.dumps(result))
    else:
        print(render_verify_text(result) + f"\nPage: {place / 'verify.html'}")
    return 0 if result["outcome"] == "proven" else 1


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if not found:
        raise ConfigError(f"--budget takes a number with s, m or h, not {text!r}. Type for example --budget 10m.")
    return float(found[1]) * UNITS[found[2]]
