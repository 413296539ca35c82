"""A small plot: axes with round ticks, lines, bands, points, levels, as inline SVG that takes its colours from CSS.

Coordinates are in CSS pixels of a `WIDTH` × `HEIGHT` box. Values that are not finite are never drawn; a line breaks
there.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np
from markupsafe import Markup, escape

from regard.report.numbers import show

Kind = Literal["linear", "log", "sqrt"]

WIDTH, HEIGHT = 380, 208
LEFT, RIGHT, TOP, BOTTOM = 50, 12, 12, 40
MAX_POINTS = 600
"""Points per line; a longer one is drawn by the lowest and highest of each stretch, so that no spike is lost."""


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Multiples of 1, 2, 2.5 or 5 times a power of ten inside [low, high], about `count` of them."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return [low]
    raw = span / max(1, count - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if raw <= m * power * 1.0001)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    digits = 2 - math.floor(math.log10(step))
    return [round(index * step, digits) for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten inside [low, high]; with 2 and 5 between them where there are fewer than three."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    inside = [t for e in exponents if low * 0.999 <= (t := 10.0**e) <= high * 1.001]
    if len(inside) >= 3:
        return inside[:: math.ceil(len(inside) / 6)]
    return [t for e in exponents for m in (1, 2, 5) if low * 0.999 <= (t := m * 10.0**e) <= high * 1.001] or [low]


def _floor_to_one_digit(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return float(f"{math.floor(value / power + 1e-9) * power:.6g}")


@dataclass(frozen=True)
class Scale:
    """Maps [low, high] onto pixels [start, end]."""

    low: float
    high: float
    start: float
    end: float
    kind: Kind = "linear"

    def _warp(self, value: float) -> float:
        if self.kind == "log":
            return math.log10(value)
        return math.sqrt(max(value, 0.0)) if self.kind == "sqrt" else value

    def __call__(self, value: float) -> float:
        low, high = self._warp(self.low), self._warp(self.high)
        share = (self._warp(value) - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        if self.kind == "log":
            return log_ticks(self.low, self.high)
        if self.kind == "sqrt":  # evenly spaced where they are drawn, at round values
            squares = [self.high * share * share for share in (0.33, 0.55, 0.78, 1.0)]
            return sorted({0.0, *(_floor_to_one_digit(square) for square in squares)})
        return nice_ticks(self.low, self.high)


def y_domain(values: Sequence[float], kind: Kind = "linear") -> tuple[float, float]:
    """Range of the finite values with room at both ends; a flat line gets a range around it."""
    finite = [v for v in values if math.isfinite(v) and (kind != "log" or v > 0)]
    if not finite:
        return (0.1, 1.0) if kind == "log" else (0.0, 1.0)
    low, high = min(finite), max(finite)
    if kind == "log":
        return (low / 1.3, high * 1.3)
    if high == low:
        room = abs(high) * 0.1 or 1.0
        return (max(0.0, low - room) if low >= 0 else low - room, high + room)
    room = 0.06 * (high - low)
    return (0.0 if 0 <= low < 0.25 * (high - low) else low - room, high + room)


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """The same number of decimals on every tick of an axis."""
    step = min((abs(b - a) for a, b in pairwise(ticks)), default=0.0)
    largest = max((abs(t) for t in ticks), default=0.0)
    if not ticks or step == 0 or step < 1e-3 or largest >= 1e5:
        labels: list[str] = []
        for digits in range(2, 12):
            labels = [show(t, digits) for t in ticks]
            if len(set(labels)) == len(ticks):
                break
        return labels
    decimals = next(d for d in range(5) if abs(round(step, d) - step) < 1e-6)
    return [f"{t:.{decimals}f}".replace("-", "−") for t in ticks]


@dataclass
class Plot:
    """Marks are drawn in the order they are added, under the axes' labels."""

    x: Scale
    y: Scale
    alt: str
    x_label: str
    marks: list[Markup] = field(default_factory=list)
    names: list[Markup] = field(default_factory=list)
    """Labels of levels: drawn last, so that no line crosses them."""

    @classmethod
    def over(
        cls,
        x: tuple[float, float],
        y: tuple[float, float],
        *,
        alt: str,
        x_label: str,
        x_kind: Kind = "linear",
        y_kind: Kind = "linear",
    ) -> "Plot":
        return cls(Scale(*x, LEFT, WIDTH - RIGHT, x_kind), Scale(*y, HEIGHT - BOTTOM, TOP, y_kind), alt, x_label)

    def _visible(self, x: float, y: float) -> bool:
        return math.isfinite(x) and math.isfinite(y) and (self.y.kind != "log" or y > 0)

    def line(self, xs: Sequence[float], ys: Sequence[float], style: str) -> None:
        """A polyline; a lone point between gaps becomes a dot."""
        for run in self._runs(*thin(xs, ys)):
            if len(run) == 1:
                self.points([run[0][0]], [run[0][1]], style)
                continue
            path = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in run)
            self.marks.append(Markup('<polyline class="line {}" points="{}"/>').format(style, path))

    def _runs(self, xs: Sequence[float], ys: Sequence[float]) -> list[list[tuple[float, float]]]:
        runs: list[list[tuple[float, float]]] = [[]]
        for x, y in zip(xs, ys, strict=True):
            if self._visible(x, y):
                runs[-1].append((x, y))
            elif runs[-1]:
                runs.append([])
        return [run for run in runs if run]

    def band(self, xs: Sequence[float], lows: Sequence[float], highs: Sequence[float], style: str) -> None:
        stride = math.ceil(len(xs) / MAX_POINTS) if xs else 1
        rows: list[tuple[float, float, float]] = []
        for row in [*list(zip(xs, lows, highs, strict=True))[::stride], (math.nan,) * 3]:
            if self._visible(row[0], row[1]) and self._visible(row[0], row[2]):
                rows.append(row)
                continue
            if len(rows) > 1:  # a gap ends this piece
                upper = [f"{self.x(x):.1f},{self.y(high):.1f}" for x, _, high in rows]
                lower = [f"{self.x(x):.1f},{self.y(low):.1f}" for x, low, _ in reversed(rows)]
                path = " ".join(upper + lower)
                self.marks.append(Markup('<polygon class="band {}" points="{}"/>').format(style, path))
            rows = []

    def points(
        self,
        xs: Sequence[float],
        ys: Sequence[float],
        style: str,
        *,
        radius: float | Sequence[float] = 2.4,
        titles: Sequence[str] = (),
        opacities: Sequence[float] = (),
    ) -> None:
        for i, (x, y) in enumerate(zip(xs, ys, strict=True)):
            if not self._visible(x, y):
                continue
            size = radius if isinstance(radius, int | float) else radius[i]
            title = Markup("<title>{}</title>").format(titles[i]) if titles else ""
            opacity = Markup(' fill-opacity="{}"').format(f"{opacities[i]:.2f}") if opacities else ""
            self.marks.append(
                Markup('<circle class="dot {}" cx="{}" cy="{}" r="{}"{}>{}</circle>').format(
                    style, f"{self.x(x):.1f}", f"{self.y(y):.1f}", f"{size:.1f}", opacity, title
                )
            )

    def level(self, value: float, label: str) -> None:
        """A dashed horizontal line with its name at the right end; left out where it is off the scale."""
        if not (math.isfinite(value) and self.y.low <= value <= self.y.high):
            return
        at = self.y(value)
        text_at = at - 4 if at > TOP + 12 else at + 12
        self.marks.append(
            Markup('<line class="level" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                LEFT, WIDTH - RIGHT, f"{at:.1f}", f"{at:.1f}"
            )
        )
        self.names.append(
            Markup('<text class="level-label" x="{}" y="{}" text-anchor="end">{}</text>').format(
                WIDTH - RIGHT - 2, f"{text_at:.1f}", label
            )
        )

    def interval(self, low: float, high: float, title: str) -> None:
        """A shaded stretch of the horizontal axis, at least two pixels wide, over the whole height."""
        low, high = max(low, self.x.low), min(high, self.x.high)
        if not low <= high:
            return
        start, end = self.x(low), self.x(high)
        if end - start < 2:
            start, end = (start + end) / 2 - 1, (start + end) / 2 + 1
        self.marks.append(
            Markup('<rect class="interval" x="{}" width="{}" y="{}" height="{}"><title>{}</title></rect>').format(
                f"{start:.1f}", f"{end - start:.1f}", TOP, HEIGHT - TOP - BOTTOM, title
            )
        )

    def upright(self, value: float, style: str) -> None:
        """A vertical line at this place of the horizontal axis."""
        if math.isfinite(value) and self.x.low <= value <= self.x.high:
            at = f"{self.x(value):.1f}"
            self.marks.append(
                Markup('<line class="upright {}" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                    style, at, at, TOP, HEIGHT - BOTTOM
                )
            )

    def diagonal(self) -> None:
        low, high = max(self.x.low, self.y.low), min(self.x.high, self.y.high)
        ends = (self.x(low), self.x(high), self.y(low), self.y(high))
        self.marks.append(
            Markup('<line class="level" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(*(f"{end:.1f}" for end in ends))
        )

    def not_finite(self, xs: Sequence[float], ys: Sequence[float], style: str) -> None:
        """A cross on the horizontal axis where the value is NaN or infinite (or below a log axis)."""
        base = HEIGHT - BOTTOM
        for x, y in zip(*thin(xs, ys), strict=True):
            if not self._visible(x, y) and math.isfinite(x):
                at = self.x(x)
                path = f"M{at - 3:.1f} {base - 7}l6 6m0 -6l-6 6"
                self.marks.append(
                    Markup('<path class="cross {}" d="{}"><title>{} at {}</title></path>').format(
                        style, path, show(y), show(x)
                    )
                )

    def render(self, x_ticks: Sequence[tuple[float, str]] | None = None) -> Markup:
        """The SVG element; `x_ticks` names places on the horizontal axis that are no numbers."""
        base, grid, labels = HEIGHT - BOTTOM, [], []
        y_ticks = self.y.ticks()
        for tick, label in zip(y_ticks, tick_labels(y_ticks), strict=True):
            at = self.y(tick)
            grid.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
            labels.append(f'<text x="{LEFT - 7}" y="{at + 3.6:.1f}" text-anchor="end">{escape(label)}</text>')
        if x_ticks is None:
            ticks = self.x.ticks()
            names = [f"{t:g}" for t in ticks] if self.x.kind == "sqrt" else tick_labels(ticks)
            x_ticks = list(zip(ticks, names, strict=True))
        for tick, label in x_ticks:
            at = self.x(tick)
            labels.append(f'<line class="axis" x1="{at:.1f}" x2="{at:.1f}" y1="{base}" y2="{base + 4}"/>')
            labels.append(f'<text x="{at:.1f}" y="{base + 16}" text-anchor="middle">{escape(label)}</text>')
        middle = (LEFT + WIDTH - RIGHT) / 2
        labels.append(
            f'<text class="axis-name" x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(self.x_label)}</text>'
        )
        return Markup(  # every part is a number or was escaped above
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(self.alt)}">'
            + "".join(grid)
            + f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>'
            + "".join(self.marks + self.names)
            + "".join(labels)
            + "</svg>"
        )


def thin(xs: Sequence[float], ys: Sequence[float]) -> tuple[list[float], list[float]]:
    """At most about `MAX_POINTS` points: of each stretch the lowest, the highest and one that is not finite."""
    count = len(xs)
    if count <= MAX_POINTS:
        return list(xs), list(ys)
    width = math.ceil(2 * count / MAX_POINTS)
    stretches = math.ceil(count / width)
    values = np.full(stretches * width, np.nan)
    values[:count] = ys
    values = values.reshape(stretches, width)
    finite = np.isfinite(values)
    starts = np.arange(stretches) * width
    some = finite.any(axis=1)
    lowest = starts + np.where(finite, values, np.inf).argmin(axis=1)
    highest = starts + np.where(finite, values, -np.inf).argmax(axis=1)
    broken = starts + (~finite).argmax(axis=1)
    kept = {0, count - 1, *lowest[some].tolist(), *highest[some].tolist(), *broken[(~finite).any(axis=1)].tolist()}
    order = sorted(place for place in kept if place < count)
    return [xs[i] for i in order], [ys[i] for i in order]
