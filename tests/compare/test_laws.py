"""The two laws: fits of curves whose parameters are known, peaks by a search over a grid."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.compare.laws import LAWS, Law, fit_law


def curve(law: Law, alpha: float, beta: float, kl: np.ndarray, start: float = 0.5) -> np.ndarray:
    """Written out point by point from the paper's formulas."""
    values = []
    for nats in kl:
        d = float(nats) ** 0.5
        slope = alpha - beta * d if law == "best-of-n" else alpha - beta * (np.log(d) if d > 0 else 0.0)
        values.append(start + d * slope)
    return np.array(values)


@pytest.mark.parametrize("law", LAWS)
@settings(deadline=None, max_examples=20)
@given(alpha=st.floats(0.05, 1.0), beta=st.floats(0.05, 0.5))
def test_noiseless_points_give_back_their_parameters_and_the_peak(law: Law, alpha: float, beta: float) -> None:
    kl = np.linspace(0, 30, 25)
    fit = fit_law(law, kl, curve(law, alpha, beta, kl))
    assert fit is not None
    assert (fit.intercept, fit.alpha, fit.beta) == pytest.approx((0.5, alpha, beta), abs=1e-6)
    assert fit.r2 == pytest.approx(1.0)
    grid = np.linspace(0, 30, 300_001)
    best = grid[np.argmax(curve(law, alpha, beta, grid))]
    inside = fit.peak_kl is not None and fit.peak_kl < 30
    if inside:
        assert fit.peak_kl == pytest.approx(best, abs=2e-3) and fit.peak_seen
    else:
        assert best == grid[-1] and not fit.peak_seen
    assert np.allclose(fit.at(kl), curve(law, alpha, beta, kl))


def test_gold_that_only_rises_has_no_peak() -> None:
    kl = np.linspace(0, 9, 20)
    fit = fit_law("best-of-n", kl, 0.5 + 0.1 * np.sqrt(kl) + 0.01 * kl)
    assert fit is not None and fit.beta < 0
    assert fit.peak_kl is None and fit.peak_ci95 is None and not fit.peak_seen


def test_gold_that_only_falls_is_greatest_at_the_reference() -> None:
    kl = np.linspace(0, 9, 20)
    fit = fit_law("best-of-n", kl, curve("best-of-n", -0.1, 0.05, kl))
    assert fit is not None and fit.peak_kl == 0.0 and not fit.peak_seen


def test_the_interval_holds_the_truth_in_most_draws_and_shrinks_with_less_noise() -> None:
    kl = np.linspace(0, 12, 60)
    inside, widths = 0, {0.02: 0.0, 0.005: 0.0}
    for noise in widths:
        for draw in range(40):
            gold = curve("RL", 0.2, 0.1, kl) + np.random.default_rng(draw).normal(0, noise, len(kl))
            fit = fit_law("RL", kl, gold)
            assert fit is not None
            inside += fit.beta_ci95[0] <= 0.1 <= fit.beta_ci95[1]
            widths[noise] += fit.beta_ci95[1] - fit.beta_ci95[0]
    assert inside >= 68, "of 80"
    assert widths[0.005] < 0.4 * widths[0.02]


def test_too_few_points_or_one_distance_is_no_fit() -> None:
    assert fit_law("RL", np.arange(7.0), np.arange(7.0)) is None
    assert fit_law("RL", np.full(20, 3.0), np.arange(20.0)) is None
    assert fit_law("RL", np.arange(20.0), np.full(20, 0.5)) is None
    kl = np.linspace(0, 9, 20)
    kl[:13] = np.nan
    assert fit_law("RL", kl, np.arange(20.0)) is None
