"""`verify`: fork a run of ours before the root's onset, run every arm on paired seeds, and judge.

A run's directory is its only input, and every arm is a run record of its own, so a killed experiment goes on where it
was: a finished arm is read, an unfinished one resumed.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from regard.config import RecipeConfig, changed_config, parse_config
from regard.errors import ConfigError
from regard.review import review as review_run
from regard.review.diagnosis import Diagnosis
from regard.runlog.importers import read_any
from regard.runlog.reader import RunLog, read_run
from regard.stages import STAGE_READS
from regard.verify.arms import FIX, UNCHANGED, Arm, executable, plan_arms
from regard.verify.judge import ArmRun, Judgement, Target, judge, read_arm, trial_json

SCHEMA = 1
SHAPES_STAGE = ("ppo.steps", "ppo.warmup_steps", "ppo.batch_size", "ppo.lora_layers", "ppo.value_model")
"""Keys of stage 4 that a checkpoint from its middle would not go with."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Trial:
    """One change to be tried."""

    cause: Diagnosis | None
    changes: Mapping[str, Any]

    @property
    def title(self) -> str:
        words = ", ".join(f"{key}={value}" for key, value in self.changes.items())
        return f"{self.cause.cause.id} {self.cause.cause.name}: {words}" if self.cause else words


@dataclass
class Budget:
    """Wall seconds that may be spent, and what one arm has cost so far."""

    seconds: float | None
    estimate: float
    spent: float = 0.0
    runs: int = 0

    def allows(self, runs: int) -> bool:
        return self.seconds is None or self.spent + runs * self.estimate <= self.seconds

    def add(self, seconds: float) -> None:
        self.estimate = (self.estimate * self.runs + seconds) / (self.runs + 1)
        self.spent, self.runs = self.spent + seconds, self.runs + 1


def verify(
    path: Path,
    *,
    cause: str | None = None,
    fix: Mapping[str, Any] | None = None,
    seeds: int = 3,
    max_seeds: int = 6,
    budget: float | None = None,
    out: Path | None = None,
    argv: list[str],
    say: Say = lambda _: None,
) -> dict[str, Any]:
    """Try the fixes that a review proposes, likeliest cause first, until one is proven.

    Args:
        path: a finished run of ours.
        cause: id of the only cause to try.
        fix: configuration keys to values, tried instead of what the review proposes.
        seeds: paired seeds before anything is said; the first is the run's own.
        max_seeds: while the answer is open, seeds are added up to so many.
        budget: wall seconds; what they do not suffice for is reported as undecided.
        out: where the arms are kept; default RUN/verify.
    Returns:
        The result as `verify.json` has it.
    Raises:
        RunLogError: no run record, or one that has not finished.
        ConfigError: a run made elsewhere, or nothing that a re-run could change.
    """
    run = read_any(path)
    config = own_config(run)
    review = review_run(run)
    trials = plan_trials(config, review.causes, cause, fix)
    found = {one.detector.code for one in review.findings if one.severity != "info"}
    step = fork_step(path, trials)
    root = (out or path / "verify") / f"step-{step:08d}"
    purse = Budget(budget, stage_4_seconds(run))
    results: list[dict[str, Any]] = []
    for trial in trials:
        explained = found & set(trial.cause.explains) if trial.cause else found
        target = Target(frozenset(explained), trial.cause.cause.id if trial.cause else None)
        say(f"{trial.title}, from step {step}")
        results.append(_try(run, config, trial, target, root, step, seeds, max(seeds, max_seeds), purse, argv, say))
        if results[-1]["outcome"] == "proven":
            break
    outcomes = [one["outcome"] for one in results]
    order = ("proven", "cannot be decided", "not proven", "made worse")
    return {
        "schema": SCHEMA,
        "run": {"path": str(path), "id": run.run.get("id"), "seed": config.ppo_seed},
        "fork": {"step": step},
        "outcome": min(outcomes, key=order.index),
        "trials": results,
        "seconds": round(purse.spent, 1),
    }


def stage_4_seconds(run: RunLog) -> float:
    """What stage 4 and the evaluation took."""
    stages = run.run.get("stages", {})
    return sum(float(stages.get(name, {}).get("seconds") or 0.0) for name in ("ppo", "eval"))


def own_config(run: RunLog) -> RecipeConfig:
    """The configuration of a finished run of ours.

    Raises:
        ConfigError: the run was made elsewhere, or has not finished.
    """
    if "ppo" not in run.config or "recipe" not in run.config:
        raise ConfigError(
            f"{run.path} was not trained by regard, so it cannot be run again here. "
            f"Type regard verify {run.path} --plan DIR for an experiment in the keys of its own trainer."
        )
    if not run.summary:
        raise ConfigError(f"{run.path} has not finished. Type regard run with --resume first.")
    return parse_config(run.config, str(run.path / "config.yaml"))


def plan_trials(
    config: RecipeConfig, causes: Sequence[Diagnosis], cause: str | None, fix: Mapping[str, Any] | None
) -> list[Trial]:
    """Each change that a configuration can make, likeliest cause first; or the given one alone.

    Raises:
        ConfigError: no such cause in the review, or nothing that a re-run could change.
    """
    chosen = [one for one in causes if cause is None or one.cause.id == cause]
    if fix is not None and cause is None:
        return [Trial(None, fix)]
    if not chosen:
        listed = ", ".join(one.cause.id for one in causes)
        what = f"the review lists {listed}" if listed else "the review finds no cause"
        raise ConfigError(f"Nothing to verify: {what}. Give a change of your own with --fix alone.")
    if fix is not None:
        return [Trial(chosen[0], fix)]
    trials = [
        Trial(one, {change["key"]: change["to"]})
        for one in chosen
        for change in one.changes
        if executable(config, change)
    ]
    if not trials:
        words = "; ".join(f"{change['key']}: {change['to']}" for change in chosen[0].changes)
        raise ConfigError(
            f"No fix of {', '.join(one.cause.id for one in chosen)} is a change of configuration ({words}). "
            f"Make it, train again and type regard compare; or give --fix KEY=VALUE."
        )
    return trials


def fork_step(path: Path, trials: Sequence[Trial]) -> int:
    """The last checkpoint before the earliest root; 0 where a change already matters before that."""
    early = {*SHAPES_STAGE, *(key for keys in STAGE_READS.values() for key in keys)}
    changed = [key for trial in trials for key in trial.changes]
    if any(key == one or key.startswith(f"{one}.") for key in changed for one in early):
        return 0
    onsets = [trial.cause.root_onset.interval[0] for trial in trials if trial.cause]
    before = min(onsets, default=0)
    return max(step for step in forks(path) if step == 0 or step < before)


def forks(path: Path) -> list[int]:
    """Finished iterations of stage 4 at which a run can be forked: the start, and every checkpoint it kept."""
    kept = path.glob("stages/ppo/checkpoints/step-*/state.json")
    return sorted({0, *(int(state.parent.name.removeprefix("step-")) for state in kept)})


def _try(
    run: RunLog,
    config: RecipeConfig,
    trial: Trial,
    target: Target,
    root: Path,
    step: int,
    seeds: int,
    max_seeds: int,
    purse: Budget,
    argv: list[str],
    say: Say,
) -> dict[str, Any]:
    arms = plan_arms(config, trial.changes)
    done: dict[str, list[ArmRun]] = {arm.name: [] for arm in arms}
    judgement: Judgement | None = None
    bit_exact: bool | None = None
    stopped = ""
    for number in range(max_seeds):
        seed = config.ppo_seed + number
        missing = [arm for arm in arms if not (_place(root, arm, seed) / "summary.json").is_file()]
        if not purse.allows(len(missing)):
            stopped = (
                f"The budget ended after {number} seed(s); one more takes about {len(missing) * purse.estimate:.0f} s."
            )
            break
        for arm in arms:
            one = _run_arm(run, arm, seed, _place(root, arm, seed), step, target, purse, argv, say)
            done[arm.name].append(one)
        if number == 0:
            bit_exact = _policy_hash(read_run(done[UNCHANGED][0].path)) == _policy_hash(run)
            if not bit_exact:
                say("the unchanged arm is not bit-identical to the run: another machine, or another number of threads")
        if number + 1 >= seeds:
            judgement = judge(done, list(trial.changes))
            if not judgement.open:
                break
    if judgement is None:
        judgement = Judgement("cannot be decided", (), {}, open=True)
    if stopped:
        judgement = replace(judgement, reasons=(*judgement.reasons, stopped))
    cause = trial.cause.cause.id if trial.cause else None
    return trial_json(cause, {arm.name: arm.changes for arm in arms}, target, done, judgement, bit_exact)


def _place(root: Path, arm: Arm, seed: int) -> Path:
    words = "+".join(f"{key}={new}" for key, (_, new) in sorted(arm.changes.items()))
    name = f"{arm.name} {words}" if arm.name == FIX else arm.name
    return root / name.replace("/", "_") / f"seed-{seed}"


def _run_arm(
    run: RunLog,
    arm: Arm,
    seed: int,
    place: Path,
    step: int,
    target: Target,
    purse: Budget,
    argv: list[str],
    say: Say,
) -> ArmRun:
    started = time.monotonic()
    if not (place / "summary.json").is_file():
        from regard.train.pipeline import run_recipe  # torch, which a command that cannot run anything does without

        config = changed_config(arm.config, {"ppo.seed": seed}) if seed != arm.config.ppo_seed else arm.config
        run_recipe(config, place, argv=argv, resume=True, start_from=run.path, from_step=step, quiet=True)
        purse.add(time.monotonic() - started)
    one = read_arm(place, arm.name, seed, target)
    say(
        f"  {arm.name:<9} seed {seed}: failure {'there' if one.failed else 'gone'}, gold {one.gold.mean():.3f}, "
        f"KL {one.kl:.2f} nats/sequence, {time.monotonic() - started:.0f} s"
    )
    return one


def _policy_hash(run: RunLog) -> str | None:
    return run.lineage.get("artifacts", {}).get("policy", {}).get("sha256_after")
