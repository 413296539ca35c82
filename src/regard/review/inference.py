"""From symptoms and signs to roots: which smallest set of causes explains what was seen and what was not.

    P(S | seen) ∝ P(S) · ∏_j [ P(x_j | S) / P(x_j | ∅) ]^w_j,      S = ∅ (no cause), one cause, or two

x_j is whether symptom or sign j holds; one that the record does not decide is left out, so a missing datum flattens the
posterior instead of voting. P(x_j | {c}) is the cause's own table, P(x_j | ∅) how often healthy runs show j, and two
causes join as a noisy-or: 1 − (1 − q_a)(1 − q_b)/(1 − q_∅). The prior of a pair is small, which is what makes the
smallest explanation win and explains a symptom away once a root accounts for it.

The weights pay for symptoms that are not independent of each other. The one that speaks most for S counts whole, and
what else holds weighs τ, since most of it follows from the same. One that does not hold weighs ω·τ: whether a loose
leash is abused hangs on what there is to abuse, and where it is not, a dozen symptoms are absent for one reason. Those
that set a cause apart count whole as long as none of them holds: without any, it is not there. So do, in any case,
those without which it cannot be.

Tables: the probabilities that the catalogue states, moved by counts from the lab (`likelihoods.json`), where
    q = (s·stated + fired) / (s + known).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import combinations
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from regard.review.causes import MUST, Cause, all_causes
from regard.review.registry import catalogue

Floats = NDArray[np.float64]

LEAK = 0.03
"""How often a healthy run shows a sign or a symptom that is worth a note, before the lab has counted it."""
LEAK_OF = {"error": 0.004, "warning": 0.01}
"""The same of symptoms by severity: their limits are set so that a healthy run shows none."""
STRENGTH = 8.0
"""How many runs the stated probability is worth against counted ones."""
TEMPERATURE, ABSENT = 0.5, 0.5
"""τ and ω above."""
FLOOR = 0.003
"""No symptom is ever certain: a table entry stays within [FLOOR, 1 − FLOOR]."""
HEALTHY, ONE, TWO = 0.5, 0.45, 0.05
"""Prior of no cause, of one, of two."""
DIAGNOSED = 0.6
"""From this probability on a cause is called diagnosed, if something that sets it apart was seen."""
RIVAL = 0.15
"""… and if no other is as likely in its place of which the record does not hold what would set it apart."""
UPSTREAM = 0.002
"""… nor, from this probability on, one that leaves the same evidence, such as what the cause follows from."""
SMALL = 1e-4
"""Sets of roots less likely than this are not kept."""

Observations = Mapping[str, bool | None]
"""Detector code or sign name to whether it holds; None where the record does not decide it."""


@dataclass(frozen=True)
class Posterior:
    """What the observations make of the causes.

    Attributes:
        healthy: probability that no cause is at work.
        causes: cause id to the probability that it is a root, likeliest first.
        best: the likeliest set of roots.
        sets: every set of roots to its probability, those below SMALL left out.
        seen: the observations.
    """

    healthy: float
    causes: dict[str, float]
    best: frozenset[str]
    sets: dict[frozenset[str], float]
    seen: Observations

    def instead(self, cause: str, other: str) -> float:
        """Probability that `other` is a root and `cause` is none."""
        return sum(p for roots, p in self.sets.items() if other in roots and cause not in roots)


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


Counts = Mapping[str, Mapping[str, Sequence[float]]]
"""As `counted` returns them."""


def probability(cause: Cause | None, name: str, counts: Counts | None = None, strength: float | None = None) -> float:
    """P(symptom or sign holds | this cause alone, or none); by the lab's counts and STRENGTH if no others are given."""
    counts, strength = counted() if counts is None else counts, STRENGTH if strength is None else strength

    def moved(stated: float, row: str) -> float:
        held, known = counts.get(row, {}).get(name, (0.0, 0.0))
        return (strength * stated + held) / (strength + known)

    healthy = moved(leak(name), "")
    of_cause = healthy if cause is None else moved(max(healthy, cause.predicts.get(name, 0.0)), cause.id)
    return min(1 - FLOOR, max(FLOOR, of_cause))


@cache
def leak(name: str) -> float:
    """How often a healthy run shows it, as stated."""
    detector = catalogue().get(name)
    return LEAK_OF.get(detector.severity, LEAK) if detector else LEAK


class Hypotheses:
    """Every set of at most two causes beside none, and what each says of J symptoms and signs.

    Attributes:
        roots: H sets as indices of causes; the first is empty, then each cause, then the pairs.
    """

    def __init__(
        self,
        names: Sequence[str],
        causes: Mapping[str, Cause],
        counts: Counts | None = None,
        strength: float | None = None,
    ) -> None:
        number = len(causes)
        none = np.array([probability(None, name, counts, strength) for name in names])
        rows = [[probability(cause, name, counts, strength) for name in names] for cause in causes.values()]
        single = np.array(rows).reshape(number, len(names))
        decides = np.array([[name in cause.decided_by for name in names] for cause in causes.values()])
        must = np.array([[cause.predicts.get(name, 0.0) >= MUST for name in names] for cause in causes.values()])
        self._must = must.reshape(number, len(names)).astype(np.float64)
        self._decides = decides.reshape(number, len(names)) * (1 - self._must)
        pairs = [
            (one, other)
            for (one, a), (other, b) in combinations(enumerate(causes.values()), 2)
            if not a.explains(b.id) and not b.explains(a.id)  # what another accounts for is no second root
        ]
        self.roots: list[tuple[int, ...]] = [(), *((one,) for one in range(number)), *pairs]
        self._first, self._second = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        both = 1 - (1 - single[self._first]) * (1 - single[self._second]) / (1 - none)
        tables = np.concatenate([none[None], single, both.clip(FLOOR, 1 - FLOOR)])
        self._held, self._not = np.log(tables / none), np.log((1 - tables) / (1 - none))
        self._prior = np.log(np.repeat(
            [HEALTHY, ONE / max(1, number), TWO / max(1, number * (number - 1) // 2)], [1, number, len(pairs)]
        ))  # fmt: skip

    def weigh(self, yes: Floats, no: Floats, temperature: float = TEMPERATURE, absent: float = ABSENT) -> Floats:
        """[N, H] P(S | seen) of N runs, from [N, J] of 1 where a symptom holds, and where it does not."""
        logs = yes @ self._held.T + absent * (no @ self._not.T)
        number = len(self._must)
        first, second = self._first, self._second
        undecided = (yes @ (self._decides + self._must).T == 0).astype(np.float64)

        def whole(of: Floats, tables: slice) -> Floats:
            return (1 / temperature - absent) * (no @ (of * self._not[tables]).T)

        one, two = slice(1, 1 + number), slice(1 + number, None)
        logs[:, one] += whole(self._must, one) + undecided * whole(self._decides, one)
        logs[:, two] += whole(np.maximum(self._must[first], self._must[second]), two)
        logs[:, two] += undecided[:, first] * whole(self._decides[first], two)
        logs[:, two] += undecided[:, second] * whole(self._decides[second] * (1 - self._decides[first]), two)
        logs = self._prior + temperature * logs + (1 - temperature) * self._strongest(yes)
        weights = np.exp(logs - logs.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)

    def _strongest(self, yes: Floats) -> Floats:
        """[N, H] what the symptom that speaks most for each set says, 0 where none speaks for it."""
        return np.array([
            self._held[:, there].max(axis=1, initial=0.0) for there in (yes > 0)
        ]).reshape(len(yes), len(self._held))  # fmt: skip

    def marginal(self, weights: Floats) -> Floats:
        """[N, C] probability that each cause is a root."""
        number = len(self._must)
        of = weights[:, 1 : 1 + number].copy()
        for side in (self._first, self._second):
            np.add.at(of.T, side, weights[:, 1 + number :].T)
        return of


def infer(seen: Observations, eligible: Mapping[str, Cause] | None = None) -> Posterior:
    """Weigh every set of at most two causes.

    Args:
        seen: what holds, what does not, and what is unknown.
        eligible: the causes that concern this run; all where None.
    """
    causes = all_causes() if eligible is None else eligible
    known = {name: holds for name, holds in seen.items() if holds is not None}
    holds = np.array([list(known.values())], dtype=np.float64).reshape(1, len(known))
    hypotheses = Hypotheses(list(known), causes)
    weights = hypotheses.weigh(holds, 1 - holds)
    (marginal,), order = hypotheses.marginal(weights), list(causes)
    roots = [frozenset(order[one] for one in roots) for roots in hypotheses.roots]
    sets = {roots[at]: float(weights[0, at]) for at in np.flatnonzero(weights[0] >= SMALL).tolist()}
    likeliest: list[int] = np.argsort(-marginal.round(12), kind="stable").tolist()
    ranked = {order[at]: float(marginal[at]) for at in likeliest}
    return Posterior(float(weights[0, 0]), ranked, roots[int(np.argmax(weights[0]))], sets, seen)
