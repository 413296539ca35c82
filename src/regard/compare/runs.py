"""What two or more records have in common, and where they part."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import NormalDist
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from regard.compare.laws import LAWS, fit_law
from regard.runlog.reader import RunLog, StageLog

SCHEMA = 1
KL = "kl/policy_ref_k1/seq_sum"
GOLD = "gold/judge/mean"
NOT_OF_THE_MODEL = ("time/", "throughput/", "memory/")
"""Beginnings of keys that differ between any two runs of the same thing."""
OUTSIDE_NOISE = 6.0
"""A metric has parted where the gap is this many times its own change from step to step, for `IN_A_ROW` steps."""
IN_A_ROW = 3
FIRST_PARTED = 6

Floats = NDArray[np.float64]


def compare_runs(runs: Sequence[RunLog]) -> dict[str, Any]:
    """The comparison as `regard compare --json` prints it; the first run is what the others are held against."""
    return {
        "schema": SCHEMA,
        "runs": [_identity(run) for run in runs],
        "config": config_differences([run.config for run in runs]),
        "outcome": _outcomes(runs),
        "parted": [parting(runs[0], other) for other in runs[1:]],
        "frontier": [frontier(run) for run in runs],
    }


def _identity(run: RunLog) -> dict[str, Any]:
    keys = ("id", "created", "regard", "git_revision", "seed")
    return {"path": str(run.path), **{key: run.run.get(key) for key in keys}}


def config_differences(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Dotted key to the value in each run, for keys that are not the same everywhere; None where a run lacks it."""
    flat = [_flatten(config) for config in configs]
    table = {key: [one.get(key) for one in flat] for key in sorted({key for one in flat for key in one})}
    return {key: values for key, values in table.items() if any(value != values[0] for value in values)}


def _flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flatten(cast(Mapping[str, Any], value), f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


OUTCOMES: dict[str, tuple[str, ...]] = {
    "gold, SFT": ("gold", "sft"),
    "gold, policy": ("gold", "policy"),
    "gold, difference": ("gold", "difference"),
    "score, difference": ("score", "difference"),
    "KL, nats per sequence": ("kl", "per_sequence"),
    "perplexity, × SFT's": ("perplexity", "ratio"),
    "length in tokens": ("length", "policy"),
    "distinct bigrams": ("distinct_2", "policy"),
    "reward model, held-out": ("reward_model", "accuracy"),
}


def _outcomes(runs: Sequence[RunLog]) -> dict[str, list[float | None]]:
    rows = {name: [_dig(run.summary, path) for run in runs] for name, path in OUTCOMES.items()}
    return {name: values for name, values in rows.items() if any(value is not None for value in values)}


def _dig(value: Any, path: Sequence[str]) -> float | None:
    for key in path:
        value = cast(Mapping[str, Any], value).get(key) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, int | float) else None


def parting(one: RunLog, other: RunLog) -> dict[str, Any]:
    """The first logged number that differs at all, and the first metrics that differ by more than their noise."""
    first: dict[str, Any] | None = None
    parted: list[dict[str, Any]] = []
    compared = 0
    for name in one.stages:
        if name not in other.stages:
            continue
        gaps = _gaps(one.stages[name], other.stages[name])
        compared += len(gaps)
        exact = [(int(steps[where[0]]), key) for key, (steps, a, b) in gaps.items() if len(where := _differ(a, b))]
        if first is None and exact:
            step, key = min(exact)
            first = {"stage": name, "step": step, "metrics": sorted(k for s, k in exact if s == step)[:FIRST_PARTED]}
        outside = [(step, key) for key, gap in gaps.items() if (step := _leaves_noise(*gap)) is not None]
        for step, key in sorted(outside)[: FIRST_PARTED - len(parted)]:
            steps, a, b = gaps[key]
            place = int(np.flatnonzero(steps == step)[0])
            parted.append({"stage": name, "step": step, "metric": key, "values": [float(a[place]), float(b[place])]})
    return {"run": str(other.path), "metrics_compared": compared, "first_difference": first, "beyond_noise": parted}


def _gaps(one: StageLog, other: StageLog) -> dict[str, tuple[NDArray[np.int64], Floats, Floats]]:
    found: dict[str, tuple[NDArray[np.int64], Floats, Floats]] = {}
    for key in sorted(set(one.metrics) & set(other.metrics)):
        if key.startswith(NOT_OF_THE_MODEL):
            continue
        a, b = one.metrics[key], other.metrics[key]
        steps, at_a, at_b = np.intersect1d(a.steps, b.steps, return_indices=True)
        if len(steps):
            found[key] = (steps, a.values[at_a], b.values[at_b])
    return found


def _differ(a: Floats, b: Floats) -> NDArray[np.int64]:
    return np.flatnonzero(~((a == b) | (np.isnan(a) & np.isnan(b))))


def _leaves_noise(steps: NDArray[np.int64], a: Floats, b: Floats) -> int | None:
    """The step from which the gap stays beyond the noise; None where it does not, or the noise cannot be told."""
    if len(steps) < 2 * IN_A_ROW or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return None
    noise = float(np.median(np.abs(np.concatenate([np.diff(a), np.diff(b)]))))
    if noise == 0:
        return None
    outside = np.abs(a - b) > OUTSIDE_NOISE * noise
    runs = np.convolve(outside, np.ones(IN_A_ROW), mode="valid") == IN_A_ROW
    return int(steps[int(np.argmax(runs))]) if runs.any() else None


def frontier(run: RunLog) -> dict[str, Any]:
    """Gold against KL over the steps of stage 4, both laws, and the checkpoint to take."""
    stage = run.stages.get("ppo")
    if stage is None or KL not in stage.metrics or GOLD not in stage.metrics:
        missing = [key for key in (KL, GOLD) if stage is None or key not in stage.metrics]
        return {"run": str(run.path), "missing": missing}
    kl, gold = stage.metrics[KL], stage.metrics[GOLD]
    steps, at_kl, at_gold = np.intersect1d(kl.steps, gold.steps, return_indices=True)
    finite = np.isfinite(kl.values[at_kl]) & np.isfinite(gold.values[at_gold])
    steps, distance, quality = steps[finite], kl.values[at_kl][finite], gold.values[at_gold][finite]
    fits = [fit for law in LAWS if (fit := fit_law(law, distance, quality)) is not None]
    return {
        "run": str(run.path),
        "steps": steps.tolist(),
        "kl": distance.tolist(),
        "gold": quality.tolist(),
        "laws": [asdict(fit) | {"fitted": fit.at(distance).tolist()} for fit in fits],
        "checkpoint": best_checkpoint(steps, quality, run.path),
    }


def best_checkpoint(steps: NDArray[np.int64], gold: Floats, path: Path) -> dict[str, Any] | None:
    """The step with the best smoothed gold: the mean of a tenth of the run, at least three steps, around it.

    The last step is taken unless an earlier one is surely better: by more than the best of so many stretches reaches by
    chance (normal, 5 % shared among them after Bonferroni), with the scatter of gold around its smoothed course.
    """
    width = max(3, len(gold) // 10)
    if len(gold) < 2 * width:
        return None
    smooth = np.convolve(gold, np.ones(width) / width, mode="valid")
    middle = steps[width // 2 : width // 2 + len(smooth)]
    scatter = float(np.std(gold[width // 2 : width // 2 + len(smooth)] - smooth)) / (1 - 1 / width) ** 0.5
    error = scatter * float(np.sqrt(2 / width))
    limit = NormalDist().inv_cdf(1 - 0.05 * width / len(gold))
    best = int(np.argmax(smooth))
    earlier = bool(smooth[best] - smooth[-1] > limit * error)
    step = int(middle[best]) if earlier else int(steps[-1])
    kept = sorted(int(p.name.removeprefix("step-")) for p in path.glob("stages/ppo/checkpoints/step-*"))
    return {
        "step": step,
        "gold": float(smooth[best] if earlier else smooth[-1]),
        "gold_at_the_end": float(smooth[-1]),
        "standard_error": error,
        "nearest_kept": min(kept, key=lambda one: abs(one - step)) if kept else None,
    }
