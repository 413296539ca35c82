"""One metric over the steps of a stage, and how it is put together from a log that repeats or breaks off."""

import re
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

NAN = float("nan")
_WORDS = {"nan": NAN, "inf": float("inf"), "infinity": float("inf")}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?")


@dataclass(frozen=True)
class Series:
    """One metric over the steps of a stage.

    Attributes:
        steps: [N] int64, increasing, each step once.
        values: [N] float64; NaN and infinities as they were logged.
        times: [N] float64, seconds since 1970 at which the value was logged; NaN where the record has none.
    """

    steps: NDArray[np.int64]
    values: NDArray[np.float64]
    times: NDArray[np.float64]


def as_number(value: object) -> float | None:
    """A float; None where the value is not a number, which NaN is here and null is not."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:  # an integer beyond 1e308
        return None


def text_as_number(text: str) -> float | None:
    """A float from a cell of text, with the words for what is not finite; None for anything else, "" and "1_0" too."""
    word = text.strip().lower()
    if _NUMBER.fullmatch(word):
        return float(word)
    sign, bare = (-1.0, word[1:]) if word.startswith("-") else (1.0, word.removeprefix("+"))
    return sign * _WORDS[bare] if bare in _WORDS else None


@dataclass
class Points:
    """Collects the points of many metrics; of a step that comes twice the last counts, as after a resume."""

    by_key: dict[str, dict[int, tuple[float, float]]] = field(default_factory=dict[str, dict[int, tuple[float, float]]])
    repeated: set[int] = field(default_factory=set[int])

    def add(self, key: str, step: int, value: float, time: float = NAN) -> None:
        series = self.by_key.setdefault(key, {})
        if step in series:
            self.repeated.add(step)
        series[step] = (value, time)

    def notes(self, name: str) -> list[str]:
        if not self.repeated:
            return []
        return [f"{name}: {len(self.repeated)} step(s) from {min(self.repeated)} to {max(self.repeated)} were logged "
                "twice, as a resumed run does; the last was kept."]  # fmt: skip

    def series(self) -> dict[str, Series]:
        return {key: _series(points) for key, points in self.by_key.items()}


def _series(points: dict[int, tuple[float, float]]) -> Series:
    steps = sorted(points)
    return Series(
        steps=np.array(steps, dtype=np.int64),
        values=np.array([points[step][0] for step in steps], dtype=np.float64),
        times=np.array([points[step][1] for step in steps], dtype=np.float64),
    )
