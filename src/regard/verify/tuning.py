"""`tune`: a small sweep of stage 4 around a finished run, for the most gold that stays within bounds.

Optuna proposes (TPE, with the bounds as constraints), trials that lag are stopped early, and what looks best is run
again with other seeds beside the present setting: the best of many trials is partly luck.
"""

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from regard.config import RecipeConfig, changed_config
from regard.errors import ConfigError
from regard.runlog.files import write_atomic
from regard.runlog.importers import read_any
from regard.verify.experiment import Budget, Say, own_config, stage_4_seconds
from regard.verify.judge import paired_difference

SCHEMA = 1
GOALS = ("gold", "raters", "vader")
"""Judges that training never saw. The score that is optimised is no goal: it always rises."""
MEASURES = {
    "kl": ("kl", "per_sequence"),
    "length": ("length", "policy"),
    "perplexity": ("perplexity", "policy"),
    "distinct": ("distinct_2", "policy"),
}
LEAST_TRIALS = 4
"""Trials before any is stopped early."""
WARMUP = 3
"""No trial is stopped in the first of so many parts of its steps."""

_BOUND = re.compile(r"\s*(\w+)\s*(<=|>=)\s*(\d+(?:\.\d+)?)(x?)\s*")


@dataclass(frozen=True)
class Bound:
    """One thing that must stay as it is: `kl<=6`, or as a multiple of the SFT model's, `length<=1.2x`."""

    name: str
    at_most: bool
    limit: float
    relative: bool

    def value(self, summary: Mapping[str, Any]) -> float:
        part, key = MEASURES[self.name]
        value = float(summary[part][key])
        return value / float(summary[part]["sft"]) if self.relative else value

    def excess(self, summary: Mapping[str, Any]) -> float:
        """By how much it is broken, as a share of the limit; at most 0 where it is kept."""
        over = self.value(summary) - self.limit if self.at_most else self.limit - self.value(summary)
        return over / max(self.limit, 1e-9)

    def __str__(self) -> str:
        return f"{self.name}{'<=' if self.at_most else '>='}{self.limit:g}{'x' if self.relative else ''}"


def parse_bounds(text: str) -> tuple[Bound, ...]:
    """`kl<=6, length<=1.2x` as bounds.

    Raises:
        ConfigError: not of this form, or a name that is not measured.
    """
    bounds: list[Bound] = []
    for part in filter(str.strip, text.split(",")):
        found = _BOUND.fullmatch(part)
        if not found or found[1] not in MEASURES:
            raise ConfigError(
                f"--keep: {part.strip()!r} is no bound. Use {', '.join(MEASURES)} with <= or >=, for example "
                '--keep "kl<=6, length<=1.2x" (x: times the SFT model\'s).'
            )
        if found[1] == "kl" and found[4]:
            raise ConfigError("--keep: the SFT model's KL is 0, so kl has no multiple of it. Type for example kl<=6.")
        bounds.append(Bound(found[1], found[2] == "<=", float(found[3]), bool(found[4])))
    return tuple(bounds)


def search_space(config: RecipeConfig) -> dict[str, BaseDistribution]:
    """Ten times up and down for the leash, four times for the rate; clip and epochs over what is usual."""
    ppo = config.ppo
    leash = (ppo.kl_coef / 10, ppo.kl_coef * 10) if ppo.kl_coef > 0 else (0.003, 1.0)
    space: dict[str, BaseDistribution] = {
        "ppo.kl_coef": FloatDistribution(*leash, log=True),
        "ppo.learning_rate": FloatDistribution(ppo.learning_rate / 4, ppo.learning_rate * 4, log=True),
        "ppo.epochs": IntDistribution(1, max(6, ppo.epochs)),
    }
    if ppo.clip_range is not None:
        space["ppo.clip_range"] = FloatDistribution(min(0.1, ppo.clip_range), max(0.4, ppo.clip_range))
    return space


@dataclass
class Tried:
    """One trial as `tune.json` has it."""

    number: int
    params: dict[str, Any]
    path: Path
    state: str = "running"
    """running, done or stopped."""
    summary: Mapping[str, Any] | None = None

    def measures(self, goal: str, bounds: Sequence[Bound]) -> dict[str, Any]:
        if self.summary is None:
            return {}
        kept = {str(bound): bound.value(self.summary) for bound in bounds}
        return {
            "goal": self.summary[goal]["policy"],
            "kl": self.summary["kl"]["per_sequence"],
            "bounds": kept,
            "kept": all(bound.excess(self.summary) <= 0 for bound in bounds),
        }


def tune(
    path: Path,
    *,
    goal: str = "gold",
    keep: str = "",
    trials: int = 12,
    seeds: int = 3,
    budget: float | None = None,
    out: Path | None = None,
    argv: list[str],
    say: Say = lambda _: None,
) -> dict[str, Any]:
    """Search the setting of stage 4 with the most of `goal` among those that keep the bounds, and confirm it.

    Args:
        path: a finished run of ours; its SFT and reward model serve all trials.
        trials: settings that are tried, besides the present one.
        seeds: seeds of stage 4 for the comparison of the best with the present setting; the first is the run's own.
        budget: wall seconds for the trials; the comparison comes on top.
        out: where trials are kept; default RUN/tune. A second call goes on there.
    Returns:
        The result as `tune.json` has it.
    Raises:
        RunLogError, ConfigError: as `verify`; an unknown goal or bound.
    """
    if goal not in GOALS:
        raise ConfigError(f"--goal takes {', '.join(GOALS)}, not {goal!r}: a judge that training never saw.")
    bounds = parse_bounds(keep)
    run = read_any(path)
    config = own_config(run)
    if goal not in run.summary:
        raise ConfigError(f"{path} has no {goal}. Use --goal {' or '.join(g for g in GOALS if g in run.summary)}.")
    root = out or path / "tune"
    space = search_space(config)
    plain = config.model_dump(mode="json")
    present = {key: plain["ppo"][key.removeprefix("ppo.")] for key in space}
    tried = _read_tried(root, present, path, run.summary)
    study = _study(config, space, tried, goal, bounds)
    purse = Budget(budget, stage_4_seconds(run))
    if tried[-1].state == "running":
        tried.pop()
    while len(tried) <= trials and purse.allows(1):
        trial = study.ask(space)
        one = Tried(len(tried), dict(trial.params), root / f"trial-{len(tried):03d}")
        tried.append(one)
        _write_tried(root, tried)
        seconds = _run_trial(run.path, config, one, trial, argv)
        purse.add(seconds)
        values = one.measures(goal, bounds)
        if one.summary is None:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            for bound in bounds:
                trial.set_constraint(str(bound), bound.excess(one.summary))
            study.tell(trial, values["goal"])
        _write_tried(root, tried)
        say(_trial_line(one, goal, values, seconds))
    best = _best(tried, goal, bounds)
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "run": {"path": str(path), "id": run.run.get("id")},
        "goal": goal,
        "keep": [str(bound) for bound in bounds],
        "trials": [
            {"number": one.number, "params": one.params, "state": one.state, **one.measures(goal, bounds)}
            for one in tried
        ],
        "seconds": round(purse.spent, 1),
    }
    return result | _recommend(run.path, config, best, goal, bounds, seeds, root, argv, say)


def _study(
    config: RecipeConfig,
    space: Mapping[str, BaseDistribution],
    tried: Sequence[Tried],
    goal: str,
    bounds: Sequence[Bound],
) -> optuna.Study:
    """A study that knows what was tried; a trial that was cut off comes first again."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=config.seed * 1000 + len(tried), n_startup_trials=LEAST_TRIALS),
        pruner=optuna.pruners.MedianPruner(LEAST_TRIALS, n_warmup_steps=config.ppo.steps // WARMUP),
    )
    for one in tried:
        if one.state == "running":
            study.enqueue_trial(one.params)
            continue
        if one.params["ppo.kl_coef"] == 0:  # the run itself without a leash: no place in a space of logarithms
            continue
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE if one.summary else TrialState.PRUNED,
                params=one.params,
                distributions=dict(space),
                value=float(one.summary[goal]["policy"]) if one.summary else None,
                constraints={str(bound): bound.excess(one.summary) for bound in bounds} if one.summary else None,
            )
        )
    return study


def _run_trial(source: Path, config: RecipeConfig, one: Tried, trial: optuna.Trial, argv: list[str]) -> float:
    """Run it, or stop it where its gold lags behind the median of the others; seconds."""
    started = time.monotonic()

    def watch(stage: str, step: int, metrics: Mapping[str, float]) -> None:
        if stage == "ppo" and "gold/judge/mean" in metrics:
            trial.report(metrics["gold/judge/mean"], step)
            if trial.should_prune():
                raise optuna.TrialPruned

    try:
        one.summary = run_stage_4(changed_config(config, one.params), one.path, source, argv, watch)
        one.state = "done"
    except optuna.TrialPruned:
        one.state = "stopped"
    return time.monotonic() - started


def run_stage_4(
    config: RecipeConfig,
    place: Path,
    source: Path,
    argv: list[str],
    watch: Callable[[str, int, Mapping[str, float]], None] | None = None,
) -> Mapping[str, Any]:
    """Stage 4 and the evaluation from another run's SFT and reward model; a finished one is read."""
    done = place / "summary.json"
    if done.is_file():
        return _read(done)
    from regard.train.pipeline import run_recipe  # torch, which a command that cannot run anything does without

    return run_recipe(config, place, argv=argv, resume=True, start_from=source, quiet=True, watch=watch)


def _best(tried: Sequence[Tried], goal: str, bounds: Sequence[Bound]) -> Tried | None:
    """The most of the goal among settings that keep every bound; None where none does."""
    kept = [one for one in tried if one.summary and all(bound.excess(one.summary) <= 0 for bound in bounds)]
    return max(kept, key=lambda one: float(cast(Any, one.summary)[goal]["policy"]), default=None)


def _recommend(
    source: Path,
    config: RecipeConfig,
    best: Tried | None,
    goal: str,
    bounds: Sequence[Bound],
    seeds: int,
    root: Path,
    argv: list[str],
    say: Say,
) -> dict[str, Any]:
    if best is None:
        return {"outcome": "no setting keeps the bounds", "recommended": None}
    if best.number == 0:
        return {"outcome": "the present setting is best", "recommended": best.params}
    say(f"confirming trial {best.number} with {seeds} seeds")
    seeds_run = range(config.ppo_seed, config.ppo_seed + seeds)
    new, old = [best.path], [source]
    for seed in seeds_run[1:]:
        for name, params, places in (("best", best.params, new), ("now", {}, old)):
            places.append(root / f"confirm-{best.number:03d}" / name / f"seed-{seed}")
            run_stage_4(changed_config(config, params | {"ppo.seed": seed}), places[-1], source, argv)
    return judge_best(new, old, goal, bounds) | {"recommended": best.params, "seeds": list(seeds_run)}


def judge_best(new: Sequence[Path], old: Sequence[Path], goal: str, bounds: Sequence[Bound]) -> dict[str, Any]:
    """Whether the best setting is surely better over all seeds, what it costs, and whether it keeps the bounds in each.

    Args:
        new: finished runs of the best setting.
        old: of the present one, with the same seeds.
    """
    golds = ([_read(one / "stages/eval/judged.json")[goal]["policy"] for one in runs] for runs in (new, old))
    gap = paired_difference(*golds)
    best, now = ([_read(one / "summary.json") for one in runs] for runs in (new, old))
    broken = {str(bound): sum(bound.excess(one) > 0 for one in best) for bound in bounds}
    outcome = "better" if gap.low > 0 else "worse" if gap.high < 0 else "not surely better"
    return {
        "outcome": outcome if not any(broken.values()) else f"{outcome}, but not always within the bounds",
        "difference": gap.mean,
        "ci95": [gap.low, gap.high],
        "bounds_broken": broken,
        "costs": {
            name: {who: sum(float(one[part][key]) for one in runs) / len(runs)
                   for who, runs in (("now", now), ("best", best))}
            for name, (part, key) in MEASURES.items()
        },
    }  # fmt: skip


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _trial_line(one: Tried, goal: str, values: Mapping[str, Any], seconds: float) -> str:
    words = ", ".join(f"{key.removeprefix('ppo.')} {value:.3g}" for key, value in one.params.items())
    if not values:
        return f"  trial {one.number}: {words}: stopped, its gold lagged, {seconds:.0f} s"
    kept = "" if values["kept"] else ", beyond the bounds"
    return f"  trial {one.number}: {words}: {goal} {values['goal']:.3f}, KL {values['kl']:.2f}{kept}, {seconds:.0f} s"


def _write_tried(root: Path, tried: Sequence[Tried]) -> None:
    rows = [{"number": one.number, "params": one.params, "state": one.state} for one in tried[1:]]
    root.mkdir(parents=True, exist_ok=True)
    write_atomic(root / "trials.json", (json.dumps(rows, indent=1) + "\n").encode())


def _read_tried(root: Path, present: Mapping[str, Any], path: Path, summary: Mapping[str, Any]) -> list[Tried]:
    """The run itself as trial 0, and what an earlier call tried; its last trial may have been cut off."""
    tried = [Tried(0, dict(present), path, "done", summary)]
    place = root / "trials.json"
    rows = _read(place) if place.is_file() else []
    for row in rows:
        one = Tried(row["number"], row["params"], root / f"trial-{row['number']:03d}", row["state"])
        one.summary = _read(one.path / "summary.json") if one.state == "done" else None
        tried.append(one)
    return tried
