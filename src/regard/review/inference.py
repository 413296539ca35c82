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
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import combinations
from typing import Any, cast

from regard.review.causes import Cause, all_causes
from regard.review.registry import catalogue

LEAK = 0.03
"""How often a healthy run shows a sign or a symptom that is worth a note, before the lab has counted it."""
LEAK_OF = {"error": 0.004, "warning": 0.01}
"""The same of symptoms by severity: their limits are set so that a healthy run shows none."""
STRENGTH = 4.0
"""How many runs the stated probability is worth against counted ones."""
TEMPERATURE = 0.6
FLOOR = 0.003
"""No symptom is ever certain: a table entry stays within [FLOOR, 1 − FLOOR]."""
HEALTHY, ONE, TWO = 0.5, 0.45, 0.05
"""Prior of no cause, of one, of two."""
DIAGNOSED = 0.55
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
    holds = [value for _, value in known]
    none = [probability(None, name) for name in names]
    single = {cause.id: [probability(cause, name) for name in names] for cause in causes.values()}
    count = max(1, len(causes))
    logs: dict[frozenset[str], float] = {frozenset(): math.log(HEALTHY) + TEMPERATURE * _loglik(none, holds)}
    for one, table in single.items():
        logs[frozenset({one})] = math.log(ONE / count) + TEMPERATURE * _loglik(table, holds)
    pairs = max(1, count * (count - 1) // 2)
    for one, other in combinations(single, 2):
        if one in causes[other].leads_to or other in causes[one].leads_to:
            continue  # a consequence is no second root
        both = [
            min(1 - FLOOR, max(FLOOR, 1 - (1 - a) * (1 - b) / (1 - q)))
            for a, b, q in zip(single[one], single[other], none, strict=True)
        ]
        logs[frozenset({one, other})] = math.log(TWO / pairs) + TEMPERATURE * _loglik(both, holds)
    top = max(logs.values())
    weights = {roots: math.exp(value - top) for roots, value in logs.items()}
    total = sum(weights.values())
    marginal = dict.fromkeys(single, 0.0)
    for roots, weight in weights.items():
        for root in roots:
            marginal[root] += weight / total
    ranked = dict(sorted(marginal.items(), key=lambda item: -item[1]))
    return Posterior(weights[frozenset()] / total, ranked, max(logs, key=lambda roots: logs[roots]), seen)


def _loglik(table: list[float], holds: list[bool]) -> float:
    return sum(math.log(q if yes else 1 - q) for q, yes in zip(table, holds, strict=True))
