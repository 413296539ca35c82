"""From symptoms and signs to roots: which smallest set of causes explains what was seen and what was not.

    P(S | seen) ∝ P(S) · [ ∏_j P(x_j | S) ]^τ,      S = no cause, one cause, or two

x_j is whether symptom or sign j holds; one that the record does not decide is left out, so a missing datum flattens the
posterior instead of voting. P(x_j | {c}) is the cause's own table, P(x_j | ∅) how often healthy runs show j, and two
causes join as a noisy-or: 1 − (1 − q_a)(1 − q_b)/(1 − q_∅). The prior of a pair is small, which is what makes the
smallest explanation win and explains a symptom away once a root accounts for it. τ < 1 pays for symptoms that are not
independent of each other; the search of `regard lab fit` on the tuning workload found nothing much better.

Tables: the probabilities that the catalogue states, moved by counts from the lab (`likelihoods.json`), where
    q = (s·stated + fired) / (s + known).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import combinations
from typing import Any, cast

import numpy as np

from regard.review.causes import Cause, all_causes
from regard.review.registry import catalogue

LEAK = 0.03
"""How often a healthy run shows a sign or a symptom that is worth a note, before the lab has counted it."""
LEAK_OF = {"error": 0.004, "warning": 0.01}
"""The same of symptoms by severity: their limits are set so that a healthy run shows none."""
STRENGTH = 8.0
"""How many runs the stated probability is worth against counted ones."""
TEMPERATURE = 0.6
FLOOR = 0.003
"""No symptom is ever certain: a table entry stays within [FLOOR, 1 − FLOOR]."""
HEALTHY, ONE, TWO = 0.5, 0.45, 0.05
"""Prior of no cause, of one, of two."""
DIAGNOSED = 0.6
"""From this probability on a cause is called diagnosed, if something that sets it apart was seen."""

Observations = Mapping[str, bool | None]
"""Detector code or sign name to whether it holds; None where the record does not decide it."""


@dataclass(frozen=True)
class Posterior:
    """What the observations make of the causes.

    Attributes:
        healthy: probability that no cause is at work.
        causes: cause id to the probability that it is a root, likeliest first.
        best: the likeliest set of roots.
        seen: the observations.
    """

    healthy: float
    causes: dict[str, float]
    best: frozenset[str]
    seen: Observations


@cache
def counted() -> dict[str, dict[str, tuple[float, float]]]:
    """Counts of the lab: cause id, or "" for healthy runs, to symptom or sign to (runs in which it held, runs in which
    it was decided)."""
    file = files("regard.review").joinpath("likelihoods.json")
    if not file.is_file():
        return {}
    stored = cast(dict[str, Any], json.loads(file.read_text(encoding="utf-8")))
    return {
        cause: {name: (float(held), float(known)) for name, (held, known) in row.items()}
        for cause, row in cast(dict[str, dict[str, list[float]]], stored["counts"]).items()
    }


def probability(cause: Cause | None, name: str) -> float:
    """P(symptom or sign holds | this cause alone, or none)."""
    healthy = _moved(leak(name), "", name)
    of_cause = healthy if cause is None else _moved(max(healthy, cause.predicts.get(name, 0.0)), cause.id, name)
    return min(1 - FLOOR, max(FLOOR, of_cause))


@cache
def leak(name: str) -> float:
    """How often a healthy run shows it, as stated."""
    detector = catalogue().get(name)
    return LEAK_OF.get(detector.severity, LEAK) if detector else LEAK


def _moved(stated: float, row: str, name: str) -> float:
    held, known = counted().get(row, {}).get(name, (0.0, 0.0))
    return (STRENGTH * stated + held) / (STRENGTH + known)


def infer(seen: Observations, eligible: Mapping[str, Cause] | None = None) -> Posterior:
    """Weigh every set of at most two causes.

    Args:
        seen: what holds, what does not, and what is unknown.
        eligible: the causes that concern this run; all where None.
    """
    causes = all_causes() if eligible is None else eligible
    known = [(name, holds) for name, holds in seen.items() if holds is not None]
    names = [name for name, _ in known]
    holds = np.array([value for _, value in known], dtype=bool)
    none = np.array([probability(None, name) for name in names])
    rows = [[probability(cause, name) for name in names] for cause in causes.values()]
    single = np.array(rows).reshape(len(causes), len(names))
    order = list(causes)
    pairs = [
        (one, other)
        for (one, a), (other, b) in combinations(enumerate(causes.values()), 2)
        if a.id not in b.leads_to and b.id not in a.leads_to  # a consequence is no second root
    ]
    first, second = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    both = (1 - (1 - single[first]) * (1 - single[second]) / (1 - none)).clip(FLOOR, 1 - FLOOR)
    number = max(1, len(causes))
    prior = np.log(np.repeat(
        [HEALTHY, ONE / number, TWO / max(1, number * (number - 1) // 2)], [1, len(causes), len(pairs)]
    ))  # fmt: skip
    tables = np.concatenate([none[None], single, both])
    logs = prior + TEMPERATURE * np.log(np.where(holds, tables, 1 - tables)).sum(1)
    weights = np.exp(logs - logs.max())
    weights /= weights.sum()
    of_one, of_two = weights[1 : 1 + len(causes)], weights[1 + len(causes) :]
    marginal = of_one + np.bincount(first, of_two, len(causes)) + np.bincount(second, of_two, len(causes))
    roots = [(), *((one,) for one in range(len(causes))), *pairs]
    best = frozenset(order[one] for one in roots[int(np.argmax(weights))])
    likeliest: list[int] = np.argsort(-marginal.round(12), kind="stable").tolist()
    ranked = {order[at]: float(marginal[at]) for at in likeliest}
    return Posterior(float(weights[0]), ranked, best, seen)
