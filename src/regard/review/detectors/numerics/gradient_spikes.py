# pyright: reportMissingTypeStubs=false
# (scipy has no type stubs)
"""NUM002 gradient-spikes: the gradient norm jumps far above its own level, again and again.

## What it detects
Gradient norm before clipping, against the median of its neighbourhood: 21 points around it.

## Why it matters
Clipping hides the size but not the direction of a bad gradient: a few spikes can undo many good updates.

## How it decides
A spike is more than 8 median absolute deviations and more than 10 times above the median around it, so that a norm
which falls as training settles has none. Fires at three or more spikes that make up less than a tenth of the updates;
more than that is a level, not a spike. Needs 20 points.

## When it cannot tell
No gradient norm, or fewer than 20 points.

## False alarms
The first updates after a warm-up are often large; hence the factor of 10 beside the deviations.

## What to do
Look at the rollouts of the spike's step for empty or endless responses; lower the learning rate; clip harder.

## References
Rule of the 8 deviations as in rldoctor 0.2.0; the factor is ours and not yet calibrated.
"""

import numpy as np
from scipy import ndimage

from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import ALL_STAGES, detector
from regard.review.statistics import Floats, first_of
from regard.runlog.reader import RunLog, StageLog

NEEDS = ("optim/grad_norm/last",)
LEAST, SPIKES = 20, 3
DEVIATIONS, FACTOR, SHARE = 8.0, 10.0, 0.1
AROUND = 21


@detector("NUM002", "gradient-spikes", "warning", ALL_STAGES)
def gradient_spikes(run: RunLog, stage: StageLog) -> Outcome:
    norm = first_of(stage, NEEDS, LEAST)
    if norm is None:
        return CannotTell(f"There are not {LEAST} values of the gradient norm.", NEEDS)
    around = _median_around(norm.values)
    deviation = _median_around(np.abs(norm.values - around))
    limits = np.maximum(around + DEVIATIONS * deviation, FACTOR * around)
    spikes = np.flatnonzero(norm.values > limits)
    worst = int(np.argmax(norm.values / np.maximum(limits, 1e-300)))
    limit, median = float(limits[worst]), float(around[worst])
    if len(spikes) < SPIKES or len(spikes) >= SHARE * len(norm.values):
        return Clear(
            f"{len(spikes)} value(s) far above their neighbours; the nearest to it is {norm.values[worst]:.3g}, "
            f"where the median is {median:.3g}."
        )
    steps = norm.steps[spikes]
    return Fired(
        summary=f"{len(spikes)} gradient norms above {limit:.3g}, up to {norm.values[worst]:.3g}, "
        f"where the median is {median:.3g}.",
        evidence=(Evidence(norm.key, float(norm.values[worst]), limit, int(norm.steps[worst])),),
        onset=Onset(int(steps[0]), (int(steps[0]), int(steps[0]))),
        until=int(steps[-1]),
        confidence=0.9,
    )


def _median_around(values: Floats) -> Floats:
    """[N] running median over AROUND points, the ends repeated."""
    return np.asarray(ndimage.median_filter(values, AROUND, mode="nearest"))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
