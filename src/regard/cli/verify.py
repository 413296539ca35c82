"""`regard verify`: the proof of a cause, by running again."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from regard.config import split_override
from regard.errors import ConfigError
from regard.report.overlay_html import render_verify_html
from regard.report.verify_text import render_verify_text
from regard.runlog.files import write_atomic
from regard.runlog.importers import read_any
from regard.runlog.reader import RunLog, read_run
from regard.verify.apply import keep_fixed
from regard.verify.elsewhere import judge_plan, read_plan, write_plan

UNITS = {"s": 1, "m": 60, "h": 3600}


def verify(
    path: Annotated[Path | None, typer.Argument(help="Directory of a finished run.")] = None,
    cause: Annotated[str | None, typer.Option("--cause", help="Try this cause of the review only, such as K1.")] = None,
    fix: Annotated[
        list[str] | None, typer.Option("--fix", help="Try this change, for example ppo.kl_coef=0.1. Repeatable.")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Paired seeds before anything is said.")] = 3,
    max_seeds: Annotated[int, typer.Option("--max-seeds", help="Most seeds, while the answer is open.")] = 6,
    budget: Annotated[str | None, typer.Option("--budget", help="Wall time, for example 10m or 2h.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Where the arms are kept; default RUN/verify.")] = None,
    apply: Annotated[bool, typer.Option("--apply", help="A proven fix: keep the corrected run as RUN-fixed.")] = False,
    plan: Annotated[
        Path | None,
        typer.Option("--plan", help="Run of another trainer: write the experiment to this directory."),
    ] = None,
    read: Annotated[Path | None, typer.Option("--read", help="Judge a plan whose logs have come back.")] = None,
    mapping: Annotated[
        Path | None, typer.Option("--map", help="YAML file: `keys: {key in the log: metric key of Regard}`.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> int:
    """Fork a run before its failure, run it again unchanged, with controls and with the fix, and judge on gold.

    Runs of other trainers are run again by hand: --plan writes what to run in their own keys, --read judges the logs.

    Exits with 0 if a fix is proven (or a plan is written), 1 if not, 2 if the run could not be verified. Type the same
    command again after a kill: no arm is repeated.

    Example: regard verify runs/tiny --cause K1 --budget 30m
    """
    change = dict(split_override(word, "--fix") for word in fix) if fix else None
    if read is not None:
        if path is not None or plan is not None or change is not None or cause is not None:
            raise ConfigError(f"--read takes what the plan says. Type: regard verify --read {read}")
        return _read(read, mapping, as_json)
    if path is None:
        raise ConfigError("Verify what? Type regard verify RUN, or regard verify --read PLAN.")
    if plan is not None:
        return _plan(path, plan, mapping, cause, change, seeds, as_json)
    from regard.verify.experiment import verify as verify_run

    result = verify_run(
        path,
        cause=cause,
        fix=change,
        seeds=seeds,
        max_seeds=max_seeds,
        budget=seconds_of(budget) if budget else None,
        out=out,
        argv=sys.argv,
        say=lambda line: print(line, file=sys.stderr if as_json else sys.stdout, flush=True),
    )
    if apply:
        result["applied"] = keep_fixed(path, result)
    return _show(result, out or path / "verify", read_run, as_json)


def _show(result: dict[str, Any], place: Path, read: Callable[[str], RunLog], as_json: bool) -> int:
    write_atomic(place / "verify.json", (json.dumps(result, indent=1) + "\n").encode())
    write_atomic(place / "verify.html", render_verify_html(result, read).encode())
    if as_json:
        print(json.dumps(result))
    else:
        print(render_verify_text(result) + f"\nPage: {place / 'verify.html'}")
    return 0 if result["outcome"] == "proven" else 1


def _plan(
    path: Path,
    root: Path,
    mapping: Path | None,
    cause: str | None,
    change: dict[str, Any] | None,
    seeds: int,
    as_json: bool,
) -> int:
    plan = write_plan(read_any(path, None, mapping), root, cause=cause, fix=change, seeds=seeds)
    if as_json:
        print((root / "plan.json").read_text(encoding="utf-8"), end="")
    else:
        print((root / "PLAN.md").read_text(encoding="utf-8"))
        print(f"{len(plan.arms)} arms × {len(plan.seeds)} seeds. The same in {root / 'PLAN.md'}")
    return 0


def _read(root: Path, mapping: Path | None, as_json: bool) -> int:
    result, logs = judge_plan(read_plan(root), mapping)
    return _show(result, root, logs.__getitem__, as_json)


def seconds_of(text: str) -> float:
    """A wall time as typed: 90s, 10m, 2h."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if not found:
        raise ConfigError(f"--budget takes a number with s, m or h, not {text!r}. Type for example --budget 10m.")
    return float(found[1]) * UNITS[found[2]]
