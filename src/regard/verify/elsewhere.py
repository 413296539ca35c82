"""Experiments on runs of other trainers: written as patches in their own keys, run by hand, judged when they come back.

A plan is a directory: `plan.json` for us, `PLAN.md` for the person who runs it, `ARM/patch.yaml` with what the arm
sets, and `ARM/seed-N/`, where the log of that run is put.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import yaml

from regard.errors import ConfigError, RunLogError
from regard.review import review as review_run
from regard.review.diagnosis import Diagnosis
from regard.review.registry import POLICY_STAGES
from regard.runlog.files import write_atomic
from regard.runlog.importers import read_any
from regard.runlog.importers.vocabularies import VOCABULARIES
from regard.runlog.importers.vocabulary import setting
from regard.runlog.reader import RunLog, StageLog
from regard.verify.arms import CONTROLS, FIX, GENERIC, PLACEBO, UNCHANGED, WHY, plain_changes
from regard.verify.judge import GOLD, ArmRun, Judgement, Target, curves, judge, lost_variety, trial_json

SCHEMA = 1
LENGTH = "length/response_tokens/mean"
KL_TO_REFERENCE = "kl/policy_ref_"


@dataclass(frozen=True)
class Plan:
    """An experiment that somebody else runs.

    Attributes:
        path: its directory.
        run: path, id and source of the run that failed.
        cause: id of the cause that it is about; None for a change of the user's own.
        failure: codes of findings that are to go away.
        arms: name to what it sets, in the trainer's own keys, and what that was: (from, to).
        seeds: one run of every arm with each.
    """

    path: Path
    run: Mapping[str, Any]
    cause: str | None
    failure: tuple[str, ...]
    arms: Mapping[str, Mapping[str, tuple[Any, Any]]]
    seeds: tuple[int, ...]

    def place(self, arm: str, seed: int) -> Path:
        return self.path / arm / f"seed-{seed}"


def write_plan(
    run: RunLog, root: Path, *, cause: str | None = None, fix: Mapping[str, Any] | None = None, seeds: int = 3
) -> Plan:
    """Plan the arms for a run of another trainer and write them down.

    Args:
        cause: id of the cause to try; default the likeliest whose fix is a value.
        fix: the trainer's own keys to values, tried instead of what the review proposes.
        seeds: paired seeds; the run's own is the first, where the configuration says it.
    Raises:
        ConfigError: nothing that a setting could change, or a directory that holds another plan.
    """
    review = review_run(run)
    names = _config_keys(run.run.get("source"))
    diagnosis, patch = _fix(review.causes, cause, fix)
    found = {one.detector.code for one in review.findings if one.severity != "info"}
    failure = found & set(diagnosis.explains) if diagnosis else found
    if not failure and diagnosis is None:
        raise ConfigError(f"The review finds nothing wrong with {run.path}, so nothing could be seen to go away.")
    arms: dict[str, Mapping[str, Any]] = {UNCHANGED: {}}
    arms |= {name: one for name, one in ((PLACEBO, _placebo(run, names)), (GENERIC, _generic(run, names))) if one}
    arms[FIX] = patch
    own = setting(run.config, "seed")
    first = own if isinstance(own, int) else 1
    plan = Plan(
        root,
        {"path": str(run.path), "id": run.run.get("id"), "source": run.run.get("source")},
        diagnosis.cause.id if diagnosis else None,
        tuple(sorted(failure)),
        {name: {key: (setting(run.config, key), to) for key, to in one.items()} for name, one in arms.items()},
        tuple(range(first, first + seeds)),
    )
    text = json.dumps(_to_json(plan), indent=1) + "\n"
    place = root / "plan.json"
    if place.is_file() and place.read_text(encoding="utf-8") != text:
        raise ConfigError(f"{root} holds another plan. Give a new directory.")
    for name, one in plan.arms.items():
        for seed in plan.seeds:
            plan.place(name, seed).mkdir(parents=True, exist_ok=True)
        write_atomic(root / name / "patch.yaml", yaml.safe_dump({key: to for key, (_, to) in one.items()}).encode())
    write_atomic(root / "PLAN.md", plan_markdown(plan, diagnosis).encode())
    write_atomic(place, text.encode())
    return plan


def _fix(
    causes: Sequence[Diagnosis], cause: str | None, fix: Mapping[str, Any] | None
) -> tuple[Diagnosis | None, Mapping[str, Any]]:
    chosen = [one for one in causes if cause is None or one.cause.id == cause]
    if cause is not None and not chosen:
        listed = ", ".join(one.cause.id for one in causes) or "none"
        raise ConfigError(f"The review does not list {cause}. It lists: {listed}.")
    if fix is not None:
        return (chosen[0] if cause is not None else None), fix
    for one in chosen:
        for change in one.changes:
            if change["foreign"] and not isinstance(change["to"], str) and change["to"] != change["from"]:
                return one, {change["foreign"]: change["to"]}
    raise ConfigError("No cause has a fix that is a value of a known key. Give one with --fix KEY=VALUE.")


def _config_keys(source: str | None) -> Mapping[str, str]:
    """Our settings to the trainer's, as far as its vocabulary says."""
    return VOCABULARIES[source].config_keys if source in VOCABULARIES else {}


def _placebo(run: RunLog, names: Mapping[str, str]) -> dict[str, Any]:
    """Half as many rows in one pass, the same number in one update."""
    micro = names.get("ppo.micro_batch_size")
    rows = setting(run.config, micro) if micro else None
    if micro and isinstance(rows, int) and rows >= 2:
        return {micro: rows // 2}
    rows, passes = (setting(run.config, key) for key in ("per_device_train_batch_size", "gradient_accumulation_steps"))
    if isinstance(rows, int) and isinstance(passes, int) and rows % 2 == 0:
        return {"per_device_train_batch_size": rows // 2, "gradient_accumulation_steps": 2 * passes}
    return {}


def _generic(run: RunLog, names: Mapping[str, str]) -> dict[str, Any]:
    """Half the learning rate and twice the leash, as far as the configuration says what they are."""
    patch: dict[str, Any] = {}
    for key, factor in (("ppo.learning_rate", 0.5), ("ppo.kl_coef", 2.0)):
        value = setting(run.config, names[key]) if key in names else None
        if isinstance(value, int | float) and value > 0:
            patch[names[key]] = value * factor
    return patch


def plan_markdown(plan: Plan, diagnosis: Diagnosis | None) -> str:
    """The plan for the person who carries it out."""
    what = f"{diagnosis.cause.id} {diagnosis.cause.name}: {diagnosis.cause.title}" if diagnosis else "A change to try"
    lines = [f"# {what}", "", f"Run: {plan.run['path']} ({plan.run['source'] or 'of an unknown trainer'}).", ""]
    lines += ["Run every arm with every seed, from the same start as the run that failed, on the same data, changing "
              "nothing but what the table says.", "", "| arm | set | what for |", "|---|---|---|"]  # fmt: skip
    for name, one in plan.arms.items():
        words = ", ".join(f"`{key}`: {old} → {new}" for key, (old, new) in one.items()) or "nothing"
        lines.append(f"| {name} | {words} | {WHY[name]} |")
    for name in CONTROLS:
        if name not in plan.arms:
            lines.append(f"| {name} | none could be made from this configuration | {WHY[name]} |")
    seeds = ", ".join(map(str, plan.seeds))
    lines += ["", f"Seeds: {seeds}. Put the log of each run into `ARM/seed-N/` of this directory, for example "
              f"`{plan.place(FIX, plan.seeds[0])}`, the configuration beside it.", ""]  # fmt: skip
    lines += [
        "## What to log",
        "",
        f"- What the run logged. The failure is {', '.join(plan.failure) or (plan.cause or 'the cause')}.",
        f"- Gold, at least in the last quarter of the steps: a judge that training never saw. Our key is `{GOLD}`; say "
        "with `--map FILE` what yours is called (`keys: {your/key: " + GOLD + "}`).",
        "- Length and KL to the reference, as the run did.",
        "",
        "## What proves it",
        "",
        "- Unchanged, the failure comes again in at least half of the seeds; with the fix in none.",
        "- Gold is better with the fix than in every other arm, the 95 % interval of the paired difference above 0.",
        "- No new error, and KL is not on its way to the same place: a smaller step may only arrive there later. A fix",
        "  that only sets the speed must have more gold than the unchanged run at equal KL; log both while training.",
        "",
        "## What overturns it",
        "",
        f"- {diagnosis.cause.would_overturn}" if diagnosis else "- The failure stays with the change.",
        "- Gold is worse with the fix than unchanged.",
        "",
        f"Then type: `regard verify --read {plan.path}`",
    ]
    return "\n".join(lines) + "\n"


def _to_json(plan: Plan) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "run": dict(plan.run),
        "cause": plan.cause,
        "failure": list(plan.failure),
        "arms": {name: plain_changes(one) for name, one in plan.arms.items()},
        "seeds": list(plan.seeds),
    }


def read_plan(root: Path) -> Plan:
    """A plan that was written before.

    Raises:
        RunLogError: no plan there, or one that cannot be read.
    """
    place = root / "plan.json"
    if not place.is_file():
        raise RunLogError(f"{root} holds no plan.json. Type: regard verify RUN --plan {root}")
    try:
        plain = json.loads(place.read_text(encoding="utf-8"))
        arms = {
            name: {change["key"]: (change["from"], change["to"]) for change in changes}
            for name, changes in plain["arms"].items()
        }
        missing = {UNCHANGED, FIX} - set(arms)
        if missing:
            raise KeyError(*missing)
        return Plan(root, plain["run"], plain["cause"], tuple(plain["failure"]), arms, tuple(plain["seeds"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunLogError(f"{place} is damaged ({error!r}). Write the plan again into a new directory.") from error


def judge_plan(plan: Plan, mapping: Path | None = None) -> tuple[dict[str, Any], dict[str, RunLog]]:
    """Judge what came back, over the seeds that every arm has; the result is as `verify` returns it.

    Returns:
        The result, and the logs by path.
    Raises:
        RunLogError: a log that is there but cannot be read.
    """
    target = Target(frozenset(plan.failure), plan.cause)
    back = [seed for seed in plan.seeds if all(any(plan.place(arm, seed).glob("*")) for arm in plan.arms)]
    logs: dict[str, RunLog] = {}
    arms: dict[str, list[ArmRun]] = {arm: [] for arm in plan.arms}
    for arm in plan.arms:
        for seed in back:
            place = plan.place(arm, seed)
            logs[str(place)] = log = read_any(place, None, mapping)
            arms[arm].append(_arm_run(log, place, arm, seed, target))
    judgement = _judge(plan, arms, back)
    trial = trial_json(plan.cause, plan.arms, target, arms, judgement)
    return {
        "schema": SCHEMA,
        "run": {**plan.run, "seed": plan.seeds[0]},
        "fork": {"step": 0},
        "outcome": judgement.outcome,
        "trials": [trial],
        "seconds": None,
    }, logs


def _judge(plan: Plan, arms: Mapping[str, Sequence[ArmRun]], back: Sequence[int]) -> Judgement:
    places = [plan.place(arm, seed) for arm in plan.arms for seed in plan.seeds]
    missing = [place for place in places if not any(place.glob("*"))]
    still = [f"{len(missing)} logs are missing, the first is {missing[0]}."] if missing else []
    if len(back) < 2:
        few = f"Every arm has come back with {len(back)} of {len(plan.seeds)} seeds; without two there is no interval."
        return Judgement("cannot be decided", (few, *still), {}, open=True)
    blind = sorted({str(one.path) for runs in arms.values() for one in runs if not np.isfinite(one.gold).all()})
    if blind:
        left = sum(one.failed for one in arms[FIX])
        again = sum(one.failed for one in arms[UNCHANGED])
        return Judgement(
            "cannot be decided",
            (
                f"{len(blind)} of the logs have no {GOLD}, the first is {blind[0]}: say with --map what it is called.",
                f"The failure is there in {again} of {len(back)} runs unchanged and in {left} with the change.",
                *still,
            ),
            {},
            open=True,
        )
    names = {theirs: ours for ours, theirs in _config_keys(plan.run["source"]).items()}
    judgement = judge(arms, [names.get(key, key) for key in plan.arms[FIX]])
    return replace(judgement, reasons=(*judgement.reasons, *still))


def _arm_run(log: RunLog, place: Path, arm: str, seed: int, target: Target) -> ArmRun:
    stage = next((one for name, one in log.stages.items() if name in POLICY_STAGES), None)
    if stage is None:
        stage = next(iter(log.stages.values()))
    review = review_run(log)
    kl = next((key for key in sorted(stage.metrics) if key.startswith(KL_TO_REFERENCE)), None)
    kl_curve, gold_curve = curves(stage, kl) if kl else (np.array([]), np.array([]))
    return ArmRun(
        arm=arm,
        seed=seed,
        path=place,
        gold=np.array([_at_the_end(stage, GOLD)]),
        failed=target.seen(review),
        errors=frozenset(one.detector.code for one in review.findings if one.severity == "error"),
        collapsed=lost_variety(review),
        perplexity_ratio=float("nan"),
        distinct_ratio=float("nan"),
        length=_at_the_end(stage, LENGTH),
        kl=_at_the_end(stage, kl) if kl else float("nan"),
        kl_curve=kl_curve,
        gold_curve=gold_curve,
    )


def _at_the_end(stage: StageLog, key: str) -> float:
    """Mean of the last quarter of the steps; NaN where nothing was logged there."""
    if key not in stage.metrics:
        return float("nan")
    series = stage.metrics[key]
    last = max(int(one.steps.max()) for one in stage.metrics.values() if len(one.steps))
    late = series.values[(series.steps > 0.75 * last) & np.isfinite(series.values)]
    return float(cast(Any, late.mean())) if len(late) else float("nan")
