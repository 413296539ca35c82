"""NUM001 non-finite: a metric that was a number became NaN or infinite.

## What it detects
Infinity in any metric of the stage that is finite elsewhere; NaN after at least one finite value of the same metric.

## Why it matters
A loss or gradient that is not finite either stops the training without a word, when updates are skipped, or destroys
the weights, when they are not.

## How it decides
Fires if a metric has a value that is not finite after a finite one. An error if it is a loss, a gradient norm, a score
or a KL, a warning otherwise, since a dashboard's own arithmetic can fail too.

## When it cannot tell
The log has no metrics at all.

## False alarms
NaN often means "not logged here", for example explained variance without a value model. So a metric that was never
finite does not count, nor does NaN before the first finite value, nor NaN between finite values that stand at equal
distances: such a metric is measured every so many steps.

## What to do
1. Look one to three updates back for a gradient norm or a ratio far above its usual size. 2. Drop empty responses and
rows that are all padding. 3. Compute log-probabilities in float32; clamp the log-ratio to ±20.

## References
verl issues 747 and 751 (overflow in the backward pass of k3).
"""

import numpy as np
from numpy.typing import NDArray

from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import ALL_STAGES, detector
from regard.runlog.reader import RunLog, StageLog

GRAVE = ("loss/", "optim/grad_norm", "score/", "kl/", "preference/")


@detector("NUM001", "non-finite", "warning", ALL_STAGES)
def non_finite(run: RunLog, stage: StageLog) -> Outcome:
    if not stage.metrics:
        return CannotTell("The log has no metrics.", ("loss/total/mean", "optim/grad_norm/last"))
    found: list[tuple[Evidence, Onset, int]] = []
    for key, series in stage.metrics.items():
        finite = np.isfinite(series.values)
        if finite.all() or not finite.any():
            continue
        bad = np.flatnonzero(~finite)
        bad = bad[(bad > np.argmax(finite)) | np.isinf(series.values[bad])]
        if len(bad) and not _sampled(finite, series.values):
            first, step = int(bad[0]), int(series.steps[bad[0]])
            onset = Onset(step, (int(series.steps[max(0, first - 1)]), step))
            evidence = Evidence(key, float(series.values[first]), 0.0, step)
            found.append((evidence, onset, int(series.steps[bad[-1]])))
    if not found:
        return Clear(f"All {len(stage.metrics)} metrics stay finite.")
    found.sort(key=lambda item: (item[1].step, not item[0].metric.startswith(GRAVE)))
    evidence, onset, _ = found[0]
    grave = any(item[0].metric.startswith(GRAVE) for item in found)
    return Fired(
        summary=f"{evidence.metric} is {evidence.value} at step {onset.step}"
        + (f", and {len(found) - 1} more metric(s) later or with it." if len(found) > 1 else "."),
        evidence=tuple(item[0] for item in found),
        onset=onset,
        until=max(item[2] for item in found),
        confidence=0.99,
        severity="error" if grave else None,
    )


def _sampled(finite: NDArray[np.bool_], values: NDArray[np.float64]) -> bool:
    """Whether the finite values stand at equal distances of two or more with NaN between: measured every so often."""
    gaps = np.diff(np.flatnonzero(finite))
    return len(gaps) >= 3 and bool(np.all(gaps == gaps[0])) and gaps[0] >= 2 and bool(np.isnan(values[~finite]).all())
