"""How gold rises and falls with the distance from the reference: the two laws of over-optimisation.

With d = √KL(π‖π_ref), KL in nats per sequence:

    best-of-n      R(d) = c + d·(α − β·d)        peak at d* = α / 2β
    RL             R(d) = c + d·(α − β·ln d)     peak at d* = exp(α/β − 1)

Source: Gao, Schulman & Hilton (2022), arXiv 2210.10760, section 3.1; the peaks follow by differentiation.
Differs from source: the paper sets R(0) = 0; c is estimated here, since a run measures gold at its start with noise.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Law = Literal["best-of-n", "RL"]
LAWS: tuple[Law, ...] = ("best-of-n", "RL")
MIN_POINTS = 8
RESAMPLES = 1000

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LawFit:
    """One law fitted to one run.

    Attributes:
        law: which of the two.
        intercept: c, gold at the reference.
        alpha: gold per √nat at the start.
        beta: how fast that falls; at most 0 where gold does not turn down.
        alpha_ci95: 95 % interval; a bootstrap over points, which neighbouring steps make a little too narrow.
        beta_ci95: likewise.
        r2: share of gold's variance that the law explains.
        peak_kl: KL at which gold is greatest, nats per sequence; None where β ≤ 0.
        peak_ci95: its interval; None where β ≤ 0 in more than one resample of forty.
        peak_seen: whether the peak lies inside the range of KL that the run went through.
    """

    law: Law
    intercept: float
    alpha: float
    beta: float
    alpha_ci95: tuple[float, float]
    beta_ci95: tuple[float, float]
    r2: float
    peak_kl: float | None
    peak_ci95: tuple[float, float] | None
    peak_seen: bool

    def at(self, kl: Floats) -> Floats:
        """Gold that the law expects at these distances in nats per sequence."""
        return _design(self.law, np.sqrt(np.maximum(kl, 0.0))) @ np.array([self.intercept, self.alpha, self.beta])


def fit_law(law: Law, kl: Floats, gold: Floats) -> LawFit | None:
    """Least squares over the points with finite values.

    Args:
        kl: [N] nats per sequence; an estimate below 0 counts as 0.
        gold: [N] by the independent judge.
    Returns:
        None for fewer than eight points, or points that all lie at one distance or have the same gold.
    """
    finite = np.isfinite(kl) & np.isfinite(gold)
    distance, gold = np.sqrt(np.maximum(kl[finite], 0.0)), gold[finite]
    if len(gold) < MIN_POINTS or np.ptp(distance) == 0 or np.ptp(gold) == 0:
        return None
    design = _design(law, distance)
    fitted = _solve(design, gold)
    total = float(((gold - gold.mean()) ** 2).sum())
    rest = float(((gold - design @ fitted) ** 2).sum())
    draws = np.random.default_rng(0).integers(0, len(gold), (RESAMPLES, len(gold)))
    many = np.array([_solve(design[rows], gold[rows]) for rows in draws])
    alpha_ci, beta_ci = (_interval(many[:, column]) for column in (1, 2))
    peak = _peak(law, fitted[1], fitted[2])
    peaks = [found for row in many if (found := _peak(law, row[1], row[2])) is not None]
    sure = peak is not None and len(peaks) >= 0.975 * RESAMPLES
    return LawFit(
        law,
        float(fitted[0]),
        float(fitted[1]),
        float(fitted[2]),
        alpha_ci,
        beta_ci,
        1 - rest / total,
        peak,
        _interval(np.array(peaks)) if sure else None,
        peak is not None and float(distance.min() ** 2) < peak < float(distance.max() ** 2),
    )


def _design(law: Law, distance: Floats) -> Floats:
    if law == "best-of-n":
        falling = distance**2
    else:
        falling = np.where(distance > 0, distance * np.log(np.where(distance > 0, distance, 1.0)), 0.0)
    return np.stack([np.ones_like(distance), distance, -falling], axis=1)


def _solve(design: Floats, gold: Floats) -> Floats:
    return np.asarray(np.linalg.lstsq(design, gold, rcond=None)[0], dtype=np.float64)


def _peak(law: Law, alpha: float, beta: float) -> float | None:
    if beta <= 0:
        return None
    if law == "best-of-n":
        return max(float(alpha / (2 * beta)), 0.0) ** 2  # gold that falls from the start is greatest at the reference
    return float(np.exp(2 * min(alpha / beta - 1, 300.0)))  # beyond e^600 nats it does not matter where


def _interval(values: Floats) -> tuple[float, float]:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
