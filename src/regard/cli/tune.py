"""`regard tune`: a small sweep for more gold within bounds."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from regard.cli.verify import seconds_of
from regard.report.tune_text import render_tune_text
from regard.runlog.files import write_atomic


def tune(
    path: Annotated[Path, typer.Argument(help="Directory of a finished run.")],
    goal: Annotated[str, typer.Option("--goal", help="Judge whose mean is to rise: gold, raters or vader.")] = "gold",
    keep: Annotated[
        str, typer.Option("--keep", help="Bounds on kl, length, perplexity, distinct; x: times the SFT model's.")
    ] = "perplexity<=1.5x",
    trials: Annotated[int, typer.Option("--trials", min=1, help="Settings to try besides the present one.")] = 12,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Seeds for the comparison of the best.")] = 3,
    budget: Annotated[str | None, typer.Option("--budget", help="Wall time of the trials, for example 1h.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Where trials are kept; default RUN/tune.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> int:
    """Try other leashes, rates, clips and epochs of stage 4, and recommend the setting with the most gold in bounds.

    Exits with 0 if a setting is surely better than the present one, 1 if none is, 2 if the run cannot be tuned. Type
    the same command again after a kill: no trial is repeated.

    Example: regard tune runs/tiny --goal gold --keep "kl<=6, length<=1.2x" --budget 30m
    """
    from regard.verify.tuning import tune as tune_run

    result = tune_run(
        path,
        goal=goal,
        keep=keep,
        trials=trials,
        seeds=seeds,
        budget=seconds_of(budget) if budget else None,
        out=out,
        argv=sys.argv,
        say=lambda line: print(line, file=sys.stderr if as_json else sys.stdout, flush=True),
    )
    place = (out or path / "tune") / "tune.json"
    write_atomic(place, (json.dumps(result, indent=1) + "\n").encode())
    print(json.dumps(result) if as_json else render_tune_text(result))
    return 0 if result["outcome"] == "better" else 1
