"""What a detector can say: fired, clear, or cannot tell and why."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True)
class Evidence:
    """One number that carries a finding.

    Attributes:
        metric: key of the series, or a path in the record such as `lineage/reference`.
        value: what was seen, in the unit of the metric.
        threshold: what it was held against.
        step: where it was seen.
        rows: ids of rollouts that show it.
    """

    metric: str
    value: float
    threshold: float
    step: int
    rows: tuple[str, ...] = ()


@dataclass(frozen=True)
class Onset:
    """When it began: the likeliest step, and the steps between which it must lie."""

    step: int
    interval: tuple[int, int]


@dataclass(frozen=True)
class Fired:
    """The symptom is there.

    Attributes:
        summary: one sentence with the numbers, for a person.
        evidence: at least one number.
        onset: when it began.
        until: last step at which it was seen.
        confidence: probability that the symptom, not its cause, is real; uncalibrated until the lab has measured it.
        severity: where this case is graver or lighter than the detector's default.
    """

    summary: str
    evidence: tuple[Evidence, ...]
    onset: Onset
    until: int
    confidence: float
    severity: Severity | None = None


@dataclass(frozen=True)
class Clear:
    """The symptom was looked for and is not there; `summary` says how far away it is."""

    summary: str


@dataclass(frozen=True)
class CannotTell:
    """The record does not decide it.

    Attributes:
        reason: one sentence.
        missing: metric keys or files that would decide it; any one of them is enough unless the reason says otherwise.
    """

    reason: str
    missing: tuple[str, ...]


Outcome = Fired | Clear | CannotTell
