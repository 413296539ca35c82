"""NUM003 weights-stand-still: most trained weights are the same number after a step, although the gradient is not zero.

## What it detects
Share of the trained weights that a step changed, bit by bit.

## Why it matters
In a short number format an update that is smaller than half the distance to the next number is lost. With a learning
rate of 1e-6 and weights in bfloat16 that is nearly every update: the loss and the gradient look normal and nothing is
learned, or only where weights are close to zero.

## How it decides
The median over the run is below one half while the median gradient norm and the learning rate are above 0: warning;
below a twentieth: error. Needs five points.

## When it cannot tell
The share is not logged.

## False alarms
Weights without a gradient, such as embeddings of tokens that never occur when they are not tied to the output, stand
still in a healthy run; hence one half.

## What to do
Keep the weights that are trained, or a master copy of them, and the optimiser's state in float32; round stochastically.

## References
Micikevicius et al. 2018 (arXiv 1710.03740), section 3.1, master weights; arXiv 2510.26788.
"""

import numpy as np

from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.review.statistics import first_of
from regard.runlog.reader import RunLog, StageLog

CHANGED, GRADIENT, RATE = "optim/weights_changed/frac", "optim/grad_norm/last", "optim/learning_rate/last"
WARNING, ERROR, LEAST = 0.5, 0.05, 5


@detector("NUM003", "weights-stand-still", "warning", POLICY_STAGES)
def weights_stand_still(run: RunLog, stage: StageLog) -> Outcome:
    changed, norm, rate = (first_of(stage, (key,), LEAST) for key in (CHANGED, GRADIENT, RATE))
    if changed is None:
        return CannotTell("The share of weights that a step changes is not logged.", (CHANGED,))
    share = float(np.median(changed.values))
    idle = any(one is not None and not np.median(one.values) > 0 for one in (norm, rate))
    if share >= WARNING or idle:
        return Clear(f"A step changes {share:.0%} of the weights.")
    first, last = int(changed.steps[0]), int(changed.steps[-1])
    return Fired(
        summary=f"A step changes {share:.1%} of the trained weights; the rest are the same number after it.",
        evidence=(Evidence(CHANGED, share, WARNING, last),),
        onset=Onset(first, (min(0, first), first)),
        until=last,
        confidence=0.95,
        severity="error" if share < ERROR else None,
    )
