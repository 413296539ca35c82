"""What several detectors ask of a series. Values that are not finite count as absent here; NUM001 looks at them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regard.review.outcome import Onset
from regard.runlog.reader import StageLog
from regard.runlog.series import Series

Floats = NDArray[np.float64]

GOLD = ("gold/judge/mean", "gold/raters/mean")
"""Quality as somebody says whom the run did not optimise."""

START_SHARE = 0.1
"""The first tenth of a run, at least three points, is what the rest is compared with."""


@dataclass(frozen=True)
class Reading:
    """The finite points of the first of several metrics that a stage has."""

    key: str
    steps: NDArray[np.int64]
    values: Floats

    @property
    def start(self) -> float:
        """Median of the first tenth."""
        return float(np.median(self.values[: start_length(len(self.values))]))

    @property
    def end(self) -> float:
        """Median of the last tenth."""
        return float(np.median(self.values[-start_length(len(self.values)) :]))


def start_length(points: int) -> int:
    return min(points, max(3, int(points * START_SHARE)))


def first_of(stage: StageLog, keys: tuple[str, ...], least: int = 1) -> Reading | None:
    """The first of these metrics with at least `least` finite points."""
    for key in keys:
        series = stage.metrics.get(key)
        if series is not None:
            reading = _finite(key, series)
            if len(reading.values) >= least:
                return reading
    return None


def _finite(key: str, series: Series) -> Reading:
    finite = np.isfinite(series.values)
    return Reading(key, series.steps[finite], series.values[finite])


def smooth(values: Floats) -> Floats:
    """[N] median of each point and its neighbours, of which an end has only one. A single outlier does not pass."""
    if len(values) < 3:
        return np.full(len(values), np.median(values)) if len(values) else values
    inner = np.median(np.lib.stride_tricks.sliding_window_view(values, 3), axis=1)
    return np.concatenate([[values[:2].mean()], inner, [values[-2:].mean()]])


def windows_before(values: Floats, width: int) -> Floats:
    """[N, width] the values before each point, NaN where the series had not begun."""
    padded = np.concatenate([np.full(width, np.nan), values])
    return np.lib.stride_tricks.sliding_window_view(padded, width)[:-1]


def growth_in_a_step(values: Floats, before: int, after: int) -> tuple[Floats, Floats]:
    """Two arrays [N]: the largest of up to `before` values before a point, and the smallest of the `after` values from
    it on. NaN for both at fewer than `after` points from either end."""
    largest, smallest = np.full(len(values), np.nan), np.full(len(values), np.nan)
    if len(values) >= 2 * after:
        inner = slice(after, len(values) - after + 1)
        largest[inner] = np.nanmax(windows_before(values, before)[inner], axis=1)
        smallest[inner] = np.lib.stride_tricks.sliding_window_view(values, after)[after:].min(axis=1)
    return largest, smallest


@dataclass(frozen=True)
class Spell:
    """A stretch of a series for which something holds to the end."""

    first: int
    onset: Onset


def lasting(reading: Reading, holds: Callable[[Floats], NDArray[np.bool_]]) -> Spell | None:
    """The stretch up to the last point for which `holds` is true of the smoothed values; None where it is not true at
    the end. The onset lies between the last point before it and its first, widened by one point for the smoothing."""
    true = holds(smooth(reading.values))
    if len(true) == 0 or not true[-1]:
        return None
    false = np.flatnonzero(~true)
    first = int(false[-1]) + 1 if len(false) else 0
    steps = reading.steps
    low, high = steps[max(0, first - 2)], steps[min(len(steps) - 1, first + 1)]
    return Spell(first, Onset(int(steps[first]), (int(low), int(high))))


def best_part(reading: Reading, number: int) -> tuple[int, list[float], float, Onset]:
    """(index of the best of so many equal parts, the means of all, standard error of a difference of two, when the last
    of the best part is over). The error is taken from the differences of neighbouring points, so that a trend within a
    part is no noise."""
    parts = np.array_split(reading.values, number)
    means = [float(part.mean()) for part in parts]
    best = int(np.argmax(means))
    noise = float(np.std(np.diff(reading.values), ddof=1) / np.sqrt(2))
    error = noise * float(np.sqrt(1 / len(parts[best]) + 1 / len(parts[-1])))
    ends = np.cumsum([len(part) for part in parts])
    steps = reading.steps
    turn = int(steps[min(int(ends[best]), len(steps) - 1)])
    first, last = (
        int(steps[ends[best] - len(parts[best])]),
        int(steps[min(int(ends[min(best + 1, number - 1)]), len(steps) - 1)]),
    )
    return best, means, error, Onset(turn, (first, last))


def rose(reading: Reading) -> bool:
    """The last fifth averages more than the first by four standard errors of a difference."""
    _, means, error, _ = best_part(reading, 5)
    return means[-1] - means[0] > 4 * error
