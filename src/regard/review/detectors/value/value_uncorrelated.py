"""VAL001 value-uncorrelated: the value predicts returns no better than a constant.

## What it detects
Explained variance 1 − Var(return − value) / Var(return) over the valid tokens of each step.

## Why it matters
Advantages are returns less the value. A value at or below 0 adds noise, or worse, a bias that the policy follows.

## How it decides
The median over the last half of the run is below −0.1: warning; below −1: error. Needs 20 points.

## When it cannot tell
Explained variance is not logged, as in TRL's PPO, or the run is shorter than 20 steps.

## False alarms
Around 0 at the start of every run, when the head is new. A value near 0 to the end is no fault where scores are given
at the end of short responses; it is then only of no use. Hence the limit below 0.

## What to do
Give the value head a higher learning rate or a warm-up; scale the rewards; check that the value reads the token before
the action, and that value loss is not clipped at once.

## References
Schulman et al. 2016 (arXiv 1506.02438); verl issue 498 (−72 at step 1).
"""

import numpy as np

from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Outcome
from regard.review.registry import detector
from regard.review.statistics import first_of, lasting
from regard.runlog.reader import RunLog, StageLog

NEEDS = ("value/explained_variance/value",)
WARNING, ERROR = -0.1, -1.0
LEAST = 20


@detector("VAL001", "value-uncorrelated", "warning", frozenset({"ppo", "a2c"}))
def value_uncorrelated(run: RunLog, stage: StageLog) -> Outcome:
    explained = first_of(stage, NEEDS, LEAST)
    if explained is None:
        return CannotTell(f"There are not {LEAST} values of the explained variance.", NEEDS)
    late = float(np.median(explained.values[len(explained.values) // 2 :]))
    spell = lasting(explained, lambda values: values < WARNING)
    if late >= WARNING or spell is None:
        return Clear(f"Explained variance is {late:.2g} in the last half of the run.")
    return Fired(
        summary=f"Explained variance is {late:.3g} in the last half of the run: worse than a constant.",
        evidence=(Evidence(explained.key, late, WARNING, int(explained.steps[-1])),),
        onset=spell.onset,
        until=int(explained.steps[-1]),
        confidence=0.9,
        severity="error" if late < ERROR else None,
    )
