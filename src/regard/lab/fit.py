"""Count the lab's runs into the tables of the inference, and see which constants would serve them best.

Only the tuning workloads are counted. Constants are judged on runs of the workload that was not counted, or, of one
workload, whose seed was not: a table that has learnt single tasks or runs by heart does not look good there.
Nothing here changes a constant; a person does, in `regard.review.inference`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regard.errors import ConfigError
from regard.lab.score import Case
from regard.review import inference
from regard.review.causes import Cause, all_causes
from regard.review.inference import Hypotheses

Floats = NDArray[np.float64]
Counts = dict[str, dict[str, list[float]]]

TUNING = ("facts", "sorting", "orders", "menus")
LIKELIHOODS = Path(inference.__file__).with_name("likelihoods.json")
STRENGTHS = (1.0, 2.0, 4.0, 8.0, 16.0)
TEMPERATURES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
ABSENT = (0.2, 0.35, 0.5, 0.7, 1.0)
DIAGNOSED = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
FALSE_POSITIVES = 0.01
"""Largest share of controls that may get a diagnosed cause, for a threshold to be chosen."""
FOLDS = 5


def count(cases: Sequence[Case]) -> Counts:
    """Cause id, or "" for controls, to symptom or sign to [runs in which it held, runs in which it was decided].

    Runs with two faults are left out.
    """
    counts: Counts = {}
    for case in cases:
        if len(case.roots) > 1:
            continue
        line = counts.setdefault(case.roots[0] if case.roots else "", {})
        for name, holds in case.seen.items():
            if holds is not None:
                cell = line.setdefault(name, [0, 0])
                cell[0] += holds
                cell[1] += 1
    return {root: dict(sorted(line.items())) for root, line in sorted(counts.items())}


@dataclass(frozen=True)
class Seen:
    """What N runs show of J symptoms and signs.

    Attributes:
        names: [J].
        yes, no: [N, J] 1 where it holds, 1 where it does not; neither where it is unknown.
    """

    names: tuple[str, ...]
    yes: Floats
    no: Floats

    @classmethod
    def of(cls, cases: Sequence[Case], names: tuple[str, ...]) -> "Seen":
        answers = [[case.seen.get(name) for name in names] for case in cases]
        as_array = np.array([[np.nan if a is None else float(a) for a in line] for line in answers])
        as_array = as_array.reshape(len(cases), len(names))
        return cls(names, (as_array == 1).astype(float), (as_array == 0).astype(float))


def posteriors(
    seen: Seen,
    counts: Mapping[str, Mapping[str, Sequence[float]]],
    strength: float,
    temperature: float,
    absent: float,
) -> tuple[Floats, Floats]:
    """As `regard.review.inference.infer`, for all runs at once, any counts and any constants.

    Returns:
        [N] probability of no cause, [N, C] of each cause in the order of the catalogue.
    """
    hypotheses = Hypotheses(seen.names, all_causes(), counts, strength)
    weights = hypotheses.weigh(seen.yes, seen.no, temperature, absent)
    return weights[:, 0], hypotheses.marginal(weights)


@dataclass(frozen=True)
class Held:
    """Posteriors of runs by tables that never saw their like, with one setting of the constants."""

    strength: float
    temperature: float
    absent: float
    healthy: Floats
    marginal: Floats


def leave_out(cases: Sequence[Case], strength: float, temperature: float, absent: float) -> Held:
    """Tables from the other workloads; from the other seeds, in at most FOLDS groups of seeds, where there is one."""
    names = tuple(sorted({name for case in cases for name in case.seen}))
    several = len({case.workload for case in cases}) > 1
    kinds = sorted({case.workload if several else case.seed for case in cases}, key=str)
    fold = {kind: at % FOLDS for at, kind in enumerate(kinds)}
    folds = [fold[case.workload if several else case.seed] for case in cases]
    healthy = np.zeros(len(cases))
    marginal = np.zeros((len(cases), len(all_causes())))
    for out in sorted(set(folds)):
        rows = [at for at, one in enumerate(folds) if one == out]
        counts = count([case for case, one in zip(cases, folds, strict=True) if one != out])
        p0, p = posteriors(Seen.of([cases[at] for at in rows], names), counts, strength, temperature, absent)
        healthy[rows], marginal[rows] = p0, p
    return Held(strength, temperature, absent, healthy, marginal)


def without_counts(cases: Sequence[Case], strength: float, temperature: float, absent: float) -> Held:
    """By the probabilities that the catalogue states alone."""
    names = tuple(sorted({name for case in cases for name in case.seen}))
    seen = Seen.of(cases, names)
    return Held(strength, temperature, absent, *posteriors(seen, {}, strength, temperature, absent))


def judge(cases: Sequence[Case], held: Held) -> dict[str, Any]:
    """Brier score (as `score.brier`), top-1 over single faults, and the threshold that keeps controls clean.

    A threshold is the smallest of DIAGNOSED with at most FALSE_POSITIVES of the controls given a diagnosed cause;
    `diagnosed` is the share of single faults whose own cause then is diagnosed. None where no threshold is clean.
    """
    order = list(all_causes())
    truth = np.array([[cause in case.roots for cause in order] for case in cases], dtype=float)
    unlisted = np.array([sum(root not in order for root in case.roots) for case in cases])
    brier = float((((held.marginal - truth) ** 2).sum(axis=1) + unlisted).mean())
    decided = np.array([[_decided(cause, case) for cause in all_causes().values()] for case in cases])
    likelier = held.healthy <= 0.5
    listed = likelier | np.array([bool(case.findings) for case in cases])
    controls = np.array([not case.roots for case in cases])
    single = np.array([len(case.roots) == 1 for case in cases])
    first = np.array([order[at] for at in held.marginal.argmax(axis=1)])
    right = np.array([case.roots == (name,) for case, name in zip(cases, first, strict=True)]) & listed
    chosen = recall = None
    for threshold in DIAGNOSED:
        diagnosed = (held.marginal >= threshold) & decided & likelier[:, None]
        if not controls.any() or diagnosed[controls].any(axis=1).mean() <= FALSE_POSITIVES:
            chosen = threshold
            recall = float((diagnosed & (truth > 0))[single].any(axis=1).mean()) if single.any() else None
            break
    return {
        "strength": held.strength,
        "temperature": held.temperature,
        "absent": held.absent,
        "brier": brier,
        "top1": float(right[single].mean()) if single.any() else None,
        "threshold": chosen,
        "diagnosed": recall,
    }


def _decided(cause: Cause, case: Case) -> bool:
    return any(case.seen.get(name) for name in cause.decided_by)


def search(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Every setting of the constants, best Brier score first.

    Raises:
        ConfigError: all runs have one workload and one seed, so nothing can be left out.
    """
    if len({(case.workload, case.seed) for case in cases}) < 2:
        raise ConfigError("All runs have the same seed, so nothing can be left out. Type regard lab bench --seeds 2.")
    settings = product(STRENGTHS, TEMPERATURES, ABSENT)
    return sorted((judge(cases, leave_out(cases, *one)) for one in settings), key=lambda one: one["brier"])


def present() -> dict[str, float]:
    """The constants as they are."""
    return {
        "strength": inference.STRENGTH,
        "temperature": inference.TEMPERATURE,
        "absent": inference.ABSENT,
        "threshold": inference.DIAGNOSED,
    }


def likelihoods(cases: Sequence[Case], provenance: Mapping[str, Any]) -> str:
    """The content of `regard/review/likelihoods.json`."""
    rows = ",\n".join(f"  {json.dumps(root)}: {json.dumps(line)}" for root, line in count(cases).items())
    head = json.dumps(dict(provenance), indent=1, ensure_ascii=False).replace("\n", "\n ")
    return f'{{\n "provenance": {head},\n "counts": {{\n{rows}\n }}\n}}\n'
