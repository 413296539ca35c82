"""Scales, ticks and numbers against hand-made expectations."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard.report.numbers import show, show_percent, show_seconds
from regard.report.svg import MAX_POINTS, Plot, Scale, log_ticks, nice_ticks, thin, tick_labels, y_domain


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.25, 0.5, 0.75, 1]),
        (0, 40, [0, 10, 20, 30, 40]),
        (-0.3, 0.9, [0, 0.5]),
        (3.1, 3.9, [3.2, 3.4, 3.6, 3.8]),
    ],
)
def test_nice_ticks(low: float, high: float, ticks: list[float]) -> None:
    assert nice_ticks(low, high) == pytest.approx(ticks)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_lie_inside_and_are_evenly_spaced(low: float, span: float) -> None:
    ticks = nice_ticks(low, low + span)
    assert all(low - 1e-6 * span <= t <= low + span * (1 + 1e-6) for t in ticks)
    assert len(ticks) <= 6
    gaps = [b - a for a, b in pairwise(ticks)]
    assert all(gap == pytest.approx(gaps[0], rel=1e-3) for gap in gaps)


def test_log_ticks() -> None:
    assert log_ticks(0.5, 2000) == [1, 10, 100, 1000]
    assert log_ticks(1.5, 9) == [2, 5]


def test_scales_map_ends_and_middles() -> None:
    assert [Scale(0, 10, 50, 150)(v) for v in (0, 5, 10)] == [50, 100, 150]
    assert [Scale(1, 100, 0, 200, "log")(v) for v in (1, 10, 100)] == [0, 100, 200]
    assert [Scale(0, 16, 0, 100, "sqrt")(v) for v in (-1, 0, 4, 16)] == [0, 0, 50, 100]


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), max_size=20))
def test_any_values_can_be_plotted(values: list[float]) -> None:
    low, high = y_domain(values)
    assert math.isfinite(low) and math.isfinite(high) and low < high
    plot = Plot.over((0.0, 20.0), (low, high), alt="a < b", x_label="step")
    plot.line(range(len(values)), values, "c0")
    plot.band(range(len(values)), values, values, "c0")
    plot.not_finite(range(len(values)), values, "c0")
    svg = plot.render()
    assert "nan" not in svg and "inf" not in svg and "a &lt; b" in svg


def test_thinning_keeps_spikes_and_gaps() -> None:
    values = [0.0] * 10_000
    values[4321], values[7000] = 99.0, math.nan
    xs, ys = thin(list(range(10_000)), values)
    assert len(xs) <= MAX_POINTS + 10 and 4321 in xs and 7000 in xs and max(y for y in ys if y == y) == 99


def test_tick_labels_share_their_decimals() -> None:
    assert tick_labels([-0.5, 0.0, 0.5]) == ["−0.5", "0.0", "0.5"]
    assert tick_labels([0.0, 0.25, 0.5]) == ["0.00", "0.25", "0.50"]
    assert len(set(tick_labels([100000.2, 100000.4, 100000.6]))) == 3
    assert tick_labels([0, 10, 20]) == ["0", "10", "20"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.4214, "0.421"), (-1.714, "−1.71"), (24.13, "24.1"), (1657.0, "1\u202f657"), (9.5e-7, "9.50·10⁻⁷"),
     (math.nan, "NaN"), (math.inf, "∞"), (-math.inf, "−∞"), (None, "–"), (0.9996, "1.000"), (99.96, "100.0")],
)  # fmt: skip
def test_show(value: float | None, text: str) -> None:
    assert show(value) == text


def test_show_percent_and_seconds() -> None:
    assert show_percent(0.7314) == "73.1\u00a0%"
    assert [show_seconds(s) for s in (0.44, 12.2, 185.0, 7810.0)] == ["0.4 s", "12 s", "3 min 05 s", "2 h 10 min"]
