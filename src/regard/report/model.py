"""What a report says, as plain data: the renderers add words and marks, never facts.

A missing fact is None or an empty tuple and stands in `ReportData.not_recorded`; NaN means that NaN was recorded.
"""

from dataclasses import dataclass
from typing import Any, Literal

Light = Literal["good", "caution", "bad", "unknown"]
"""good: the independent judge says better and nothing is broken; bad: worse, or a check failed; caution: neither;
unknown: the run has no outcome yet."""


@dataclass(frozen=True)
class Verdict:
    light: Light
    text: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Fact:
    label: str
    value: str


@dataclass(frozen=True)
class KeyFigure:
    """One number a person asks for first.

    Attributes:
        key: place in summary.json.
        value: the number itself, or the policy's where there is a before and after.
        before: the SFT model's, or None.
        difference: policy − SFT, with `ci95` its 95 % interval.
        beside: another number that gives this one its scale, such as the human ceiling.
    """

    key: str
    label: str
    unit: str
    explanation: str
    value: float | None
    before: float | None = None
    difference: float | None = None
    ci95: tuple[float, float] | None = None
    n: int | None = None
    beside: tuple[str, float] | None = None


@dataclass(frozen=True)
class Curve:
    """One metric over the steps of a stage; `values` may hold NaN and infinities."""

    key: str
    label: str
    steps: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Panel:
    """One small plot: curves in one unit, with an optional band between two further metrics."""

    title: str
    unit: str
    explanation: str
    curves: tuple[Curve, ...]
    band: tuple[str, tuple[float, ...], tuple[float, ...]] | None = None
    """(what the band is, lower, upper) at the steps of the first curve."""
    levels: tuple[tuple[str, float], ...] = ()
    """Horizontal lines: (label, value)."""
    log: bool = False


@dataclass(frozen=True)
class Frontier:
    """A quality measure against KL(policy || reference), one point per step."""

    label: str
    unit: str
    steps: tuple[int, ...]
    kl: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class MarginBin:
    low: float
    high: float
    pairs: int | None
    accuracy: float | None
    human_agreement: float | None


@dataclass(frozen=True)
class ReliabilityBin:
    predicted: float
    observed: float
    pairs: int


@dataclass(frozen=True)
class RewardModelReport:
    pairs: int | None
    accuracy: float | None
    ci95: tuple[float, float] | None
    human_ceiling: float | None
    kept_rater_accuracy: float | None
    ece: float | None
    score_length_spearman: float | None
    bins: tuple[MarginBin, ...]
    reliability: tuple[ReliabilityBin, ...]


@dataclass(frozen=True)
class Sample:
    """One held-out prompt with both answers; `marks` are (measure, SFT, policy)."""

    prompt: str
    sft: str
    policy: str
    marks: tuple[tuple[str, float | None, float | None], ...]


@dataclass(frozen=True)
class SampleGroup:
    title: str
    explanation: str
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class StageCost:
    stage: str
    status: str
    seconds: float | None
    peak_memory_gb: float | None


@dataclass(frozen=True)
class PhaseCost:
    """One phase of the steps of stage 4.

    Attributes:
        seconds: over all steps.
        share: of the seconds of all steps.
        tokens_per_s: response tokens of all steps over its seconds.
        of_limit: median share of what the machine can compute; None where it was not recorded.
    """

    phase: str
    seconds: float
    share: float
    tokens_per_s: float | None = None
    of_limit: float | None = None


@dataclass(frozen=True)
class Invariant:
    """A fact that must hold before the first update; `passed` is None where no limit is recorded."""

    key: str
    label: str
    value: float
    unit: str
    limit: str
    passed: bool | None


@dataclass(frozen=True)
class Artifact:
    """Weights before and after stage 4; `as_expected` is None where a hash is missing."""

    name: str
    path: str
    sha256_before: str | None
    sha256_after: str | None
    frozen: bool
    as_expected: bool | None


@dataclass(frozen=True)
class Missing:
    what: str
    consequence: str


@dataclass(frozen=True)
class ReportData:
    title: str
    verdict: Verdict
    identity: tuple[Fact, ...]
    figures: tuple[KeyFigure, ...]
    policy_panels: tuple[Panel, ...]
    frontiers: tuple[Frontier, ...]
    model_panels: tuple[Panel, ...]
    reward_model: RewardModelReport | None
    sample_groups: tuple[SampleGroup, ...]
    num_samples: int
    stages: tuple[StageCost, ...]
    phases: tuple[PhaseCost, ...]
    tokens_per_s: float | None
    invariants: tuple[Invariant, ...]
    artifacts: tuple[Artifact, ...]
    inputs: tuple[tuple[str, str], ...]
    config: dict[str, Any]
    not_recorded: tuple[Missing, ...]
    notes: tuple[str, ...]
