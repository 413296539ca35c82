"""`regard run`, `regard train STAGE`, `regard report`."""

import json
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from regard.cli.review import store
from regard.config import RecipeConfig, load_recipe
from regard.data.assets import ASSETS, fetch
from regard.review import review as review_run
from regard.runlog.reader import read_run
from regard.train.planner import imported_gb, memory_gb, refuse_what_does_not_fit

Recipe = Annotated[str, typer.Argument(help="Name of a recipe, or path of a YAML file.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Override, for example ppo.kl_coef=0.1. Repeatable.")
]
Out = Annotated[Path | None, typer.Option("--out", help="Run directory; default runs/RECIPE-DATE.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")]
StartFrom = Annotated[
    Path | None, typer.Option("--from", help="Take over this run's finished stages where the configurations agree.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]

train_app = typer.Typer(help="Run one stage of a recipe.", no_args_is_help=True)


def run(
    recipe: Recipe = "movie-sentiment",
    overrides: Overrides = None,
    out: Out = None,
    resume: Resume = False,
    start_from: StartFrom = None,
    sink: Annotated[
        list[str] | None, typer.Option("--sink", help="Also send metrics to tensorboard, wandb or trackio. Repeatable.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run all stages of a recipe and write the report.

    Example: regard run tiny --set seed=2 --out runs/tiny-2
    """
    _train(load_recipe(recipe, overrides), out, resume, as_json, None, start_from, tuple(sink or ()))


def _train(
    config: RecipeConfig,
    out: Path | None,
    resume: bool,
    as_json: bool,
    only: str | None,
    start_from: Path | None = None,
    sinks: tuple[str, ...] = (),
) -> None:
    from regard.train.pipeline import adoptable, run_recipe

    if not resume:  # a run that was begun goes on as it was configured
        stages = {only} if only else set(config.stages) - set(adoptable(start_from, config) if start_from else ())
        if config.model.source in ASSETS and stages & {"sft", "rm"}:
            fetch(config.model.source)
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        refuse_what_does_not_fit(config, stages, memory_gb() / processes, processes, imported_gb())
    path = out or Path("runs") / f"{config.recipe}-{datetime.now():%Y%m%d-%H%M%S}"
    summary = run_recipe(
        config, path, argv=sys.argv, resume=resume, only=only, start_from=start_from, sinks=sinks, quiet=as_json
    )
    if os.environ.get("RANK", "0") != "0":
        return
    report_path = _write_report(path)
    result = review_run(read_run(path))
    page = store(result)
    if as_json:
        verdicts = {"summary": summary, "review": result.verdict}
        print(json.dumps({"run": str(path), "report": str(report_path), **verdicts}))
        return
    if "verdict" in summary:
        print(summary["verdict"])
        _print_table(summary)
    for finding in result.findings:
        print(f"{finding.severity.upper()} {finding.detector.code} {finding.detector.name}: {finding.fired.summary}")
    print(f"Review: {result.verdict}. More: {page or f'regard review {path}'}")
    print(f"Report: {report_path}")


def _write_report(path: Path) -> Path:
    from regard.report import write_report

    return write_report(path)


def _print_table(summary: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", "SFT", "policy", "difference", "95 % interval")
    for name in ("gold", "raters", "vader", "score"):
        if name in summary:
            row = summary[name]
            interval = f"{row['ci95'][0]:+.3f} … {row['ci95'][1]:+.3f}"
            table.add_row(name, f"{row['sft']:.3f}", f"{row['policy']:.3f}", f"{row['difference']:+.3f}", interval)
    kl, perplexity = summary["kl"], summary["perplexity"]
    table.add_row("KL to the reference", "0", f"{kl['per_sequence']:.2f}", "nats per sequence", "")
    table.add_row(
        "perplexity", f"{perplexity['sft']:.1f}", f"{perplexity['policy']:.1f}", f"× {perplexity['ratio']:.2f}", ""
    )
    Console().print(table)
    accuracy = summary["reward_model"]
    ceiling = accuracy.get("human_ceiling")
    beside = f", two people agree on {ceiling:.3f}" if ceiling is not None else ""
    print(f"Reward model: right on {accuracy['accuracy']:.3f} of held-out pairs{beside}.")


def report(
    path: Annotated[Path, typer.Argument(help="Run directory.")],
    as_json: AsJson = False,
) -> None:
    """Write report.html of a run again.

    Example: regard report runs/tiny
    """
    written = _write_report(path)
    print(json.dumps({"report": str(written)}) if as_json else f"Report: {written}")


def _stage_command(
    name: str, stage: str, text: str, overrides_of_stage: tuple[str, ...] = (), example: str = ""
) -> None:
    def command(
        config: Annotated[str, typer.Argument(help="Recipe name or YAML file.")],
        out: Annotated[Path, typer.Option("--out", help="Run directory; earlier stages are read from it.")],
        overrides: Overrides = None,
        start_from: StartFrom = None,
        as_json: AsJson = False,
    ) -> None:
        recipe = load_recipe(config, [*overrides_of_stage, *(overrides or [])])
        _train(recipe, out, (out / "run.json").is_file(), as_json, stage, start_from)

    command.__doc__ = f"{text}\n\nExample: regard train {name} tiny --out runs/mine{example}"
    train_app.command(name)(command)


OF_ANOTHER = " --from runs/tiny"
"""Another algorithm is another configuration, so it gets a directory of its own."""

_stage_command("pretrain", "pretrain", "Pre-train the initial model from nothing.")
_stage_command("sft", "sft", "Stage 1: supervised fine-tuning.")
_stage_command("rm", "rm", "Stage 3: the reward model.")
_stage_command("ppo", "ppo", "Stage 4: the policy, by PPO.")
_stage_command("a2c", "ppo", "Stage 4: the policy, by A2C.", ("ppo.algorithm=a2c", "ppo.epochs=1"), OF_ANOTHER)
_stage_command("grpo", "ppo", "Stage 4: the policy, by GRPO.", ("ppo.algorithm=grpo", "ppo.group_size=8"), OF_ANOTHER)
_stage_command("rloo", "ppo", "Stage 4: the policy, by RLOO.", ("ppo.algorithm=rloo", "ppo.group_size=8"), OF_ANOTHER)
_stage_command("eval", "eval", "Before and after on held-out prompts.")
