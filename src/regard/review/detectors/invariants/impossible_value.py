"""INV003 impossible-value: a metric has a value that its definition rules out.

## What it detects
Entropy, k2 or k3 below 0; a share outside 0 to 1; explained variance above 1; a ratio below 0.

## Why it matters
Such a value is a fault of the measurement, not of the training: padding counted as tokens, a sign, another unit. What
is concluded from the series is void, and so is what a dashboard says about it.

## How it decides
Fires if at least one finite value is outside the range of its metric by more than 1e-4.

## When it cannot tell
The log has none of the metrics that have a range.

## False alarms
Rounding in 16 bits makes a k3 of −1e-5; hence the margin. TRL's `objective/entropy` is known to fall below 0 and is not
imported as an entropy at all.

## What to do
Look at how the metric is masked and averaged. Check the version of the trainer: several faults of this kind are fixed.

## References
trl issues 2496, 2022 and 6809; verl issue 1652.
"""

import numpy as np

from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import ALL_STAGES, detector
from regard.runlog.metrics import METRICS, MetricSpec
from regard.runlog.reader import RunLog, StageLog

MARGIN = 1e-4


@detector("INV003", "impossible-value", "warning", ALL_STAGES)
def impossible_value(run: RunLog, stage: StageLog) -> Outcome:
    bounded = {key: bounds for key in stage.metrics if key in METRICS and (bounds := _range(METRICS[key]))}
    if not bounded:
        return CannotTell("No metric of this log has a range.", ("entropy/policy/token_mean", "clip/policy/frac"))
    evidence: list[Evidence] = []
    steps: list[int] = []
    for key, (low, high) in bounded.items():
        series = stage.metrics[key]
        outside = np.isfinite(series.values) & ((series.values < low - MARGIN) | (series.values > high + MARGIN))
        if outside.any():
            first = int(np.argmax(outside))
            value = float(series.values[first])
            evidence.append(Evidence(key, value, low if value < low else high, int(series.steps[first])))
            steps += [int(step) for step in series.steps[outside]]
    if not evidence:
        return Clear(f"{len(bounded)} metrics stay in their ranges.")
    first = evidence[0]
    more = f", and {len(evidence) - 1} more metric(s)" if len(evidence) > 1 else ""
    return Fired(
        summary=f"{first.metric} is {first.value:.4g} at step {first.step}, but cannot be beyond "
        f"{first.threshold:g}{more}.",
        evidence=tuple(evidence),
        onset=Onset(min(steps), (min(steps), min(steps))),
        until=max(steps),
        confidence=0.99,
    )


def _range(spec: MetricSpec) -> tuple[float, float] | None:
    if spec.unit == "fraction":
        return 0.0, 1.0
    if spec.unit == "fraction of variance":
        return -np.inf, 1.0
    estimator = spec.estimator.split(" ")[0]
    never_negative = estimator in ("k2", "k3") or spec.key.startswith(("entropy/policy/", "ratio/old_new/"))
    return (0.0, np.inf) if never_negative else None
