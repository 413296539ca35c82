"""What the sampler said of the tokens it drew, beside what the trainer says of them.

With T, S and R the log-probabilities by trainer, sampler and reference of a token that the sampler drew:

    k3 = mean(e^d − 1 − d), d = T − S      0 if both are one distribution
    slope = sd(T) / sd(S)                  below 1 if the sampler is sharper (temperature, top-k), 1 under plain noise
    mass = mean(e^d)                       1 if the sampler's support is the trainer's; the kept mass if it is filtered
    system = corr(T − S, S)                near ±1 if S decides the difference, as at another temperature
    follows = corr(T − S, T − R)           far above 0 if the sampler lies between reference and policy: an older policy
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regard.review.facts import Facts
from regard.review.outcome import Onset
from regard.runlog.invariants import recorded_tolerance
from regard.runlog.sample import Floats, RolloutSample

NEEDS = ("logprobs", "generator_logprobs")
LEAST_TOKENS = 100
ENGINE_K3 = 2e-3
"""16-bit engines differ by 1e-4 to 1e-3 nats per token (k3)."""
EXACT, EXACT_GAP = 0.01, 0.01
"""Where the trainer's own tolerance is at most this, both compute in float32, and a mean |T − S| above that is no
rounding."""
ERRORS = 4.0
SLOPE, SYSTEM, MASS, FOLLOWS = 0.05, 0.6, 0.01, 0.3
RAISED = 0.1


@dataclass(frozen=True)
class Gap:
    """The comparison on some rows; see the head of this file."""

    tokens: int
    k3: float
    size: float
    """mean |T − S|"""
    slope: float
    slope_error: float
    system: float
    mass: float
    mass_error: float
    raised: float
    """Share of tokens to which the trainer gives more than the sampler; 0 where the sampler only left something out."""
    follows: float | None
    there: bool
    """Whether it is more than number formats explain."""

    @property
    def spread_differs(self) -> bool:
        return self.there and abs(self.slope - 1) > max(SLOPE, ERRORS * self.slope_error)

    @property
    def slope_off(self) -> bool:
        return self.spread_differs and abs(self.system) > SYSTEM

    @property
    def mass_missing(self) -> bool:
        return self.there and self.raised < RAISED and 1 - self.mass > max(MASS, ERRORS * self.mass_error)

    @property
    def behind(self) -> bool:
        return self.there and self.follows is not None and self.follows > FOLLOWS


def flat(sample: RolloutSample, name: str, rows: NDArray[np.bool_]) -> Floats | None:
    """The per-token column `name` of these rows, one after the other."""
    ragged = sample.per_token.get(name)
    return None if ragged is None else ragged.values[rows[ragged.rows]]


def gap_on(facts: Facts, rows: NDArray[np.bool_]) -> Gap | None:
    """None where the rollouts do not have both log-probabilities, or there are too few tokens."""
    sample = facts.rollouts
    if sample is None or not sample.has(*NEEDS):
        return None
    trainer, sampler = flat(sample, NEEDS[0], rows), flat(sample, NEEDS[1], rows)
    if trainer is None or sampler is None or len(trainer) != len(sampler):
        return None
    finite = np.isfinite(trainer) & np.isfinite(sampler)
    t, s = trainer[finite], sampler[finite]
    n = len(t)
    if n < LEAST_TOKENS:
        return None
    d = t - s
    with np.errstate(over="ignore"):
        ratio = np.exp(d)
    size, k3 = float(np.abs(d).mean()), float((ratio - 1 - d).mean())
    tolerance = recorded_tolerance(facts.policy) if facts.policy else None
    there = k3 > ENGINE_K3 or (tolerance is not None and tolerance <= EXACT and size > EXACT_GAP)
    deviation = float(s.std())
    alike = float(np.corrcoef(t, s)[0, 1]) if deviation > 0 and t.std() > 0 else 1.0
    return Gap(
        tokens=n,
        k3=k3,
        size=size,
        slope=float(t.std()) / deviation if deviation > 0 else 1.0,
        slope_error=float(np.sqrt(max(0.0, 1 - alike**2) / n)),
        system=float(np.corrcoef(d, s)[0, 1]) if deviation > 0 and d.std() > 0 else 0.0,
        mass=float(ratio.mean()),
        mass_error=float(ratio.std() / np.sqrt(n)),
        raised=float((d > 0.02).mean()),
        follows=_follows(sample, rows, finite, t, d),
        there=there,
    )


def _follows(
    sample: RolloutSample, rows: NDArray[np.bool_], finite: NDArray[np.bool_], t: Floats, d: Floats
) -> float | None:
    reference = flat(sample, "ref_logprobs", rows)
    if reference is None or len(reference) != len(finite):
        return None
    moved = t - reference[finite]
    if not np.isfinite(moved).all() or moved.std() < 1e-6 or d.std() < 1e-6:
        return None
    return float(np.corrcoef(d, moved)[0, 1])


def first_rows(sample: RolloutSample) -> NDArray[np.bool_]:
    """[N] rows of the first step in the record, more steps until there are 24."""
    return sample.early(share=0.0, least=24)


def gaps(facts: Facts) -> tuple[Gap, Gap] | None:
    """(at the start, at the end); None where the rollouts do not say."""
    sample = facts.rollouts
    if sample is None or not sample.has(*NEEDS):
        return None
    start, end = gap_on(facts, first_rows(sample)), gap_on(facts, sample.late())
    return None if start is None or end is None else (start, end)


def quarters(facts: Facts) -> list[Gap]:
    """The gap on each quarter of the steps that has enough tokens; empty where the rollouts do not say."""
    sample = facts.rollouts
    if sample is None or not sample.has(*NEEDS):
        return []
    parts = np.array_split(sample.distinct_steps, 4)
    found = [gap_on(facts, np.isin(sample.steps, part)) for part in parts if len(part)]
    return [gap for gap in found if gap is not None]


def gap_onset(facts: Facts) -> Onset:
    """The first step from which on all differ, by at least a quarter of the late difference."""
    sample = facts.rollouts
    assert sample is not None
    trainer, sampler = (sample.per_token[name] for name in NEEDS)
    size = np.abs(trainer.values - sampler.values)
    rows = np.bincount(trainer.rows, weights=size, minlength=len(sample)) / np.maximum(trainer.lengths, 1)
    steps, means = sample.by_step(rows)
    high = means > 0.25 * float(np.median(means[-3:]))
    low = np.flatnonzero(~high)
    first = min(int(low[-1]) + 1, len(steps) - 1) if len(low) else 0
    return Onset(int(steps[first]), (int(steps[max(0, first - 1)]), int(steps[first])))
