"""VAL003 value-overshoots: for a while the value is driven far past the returns that it chases.

## What it detects
Value loss against ½·Var(return), which predicting the mean return would cost, together with the mean value moving from
step to step by more than the returns spread.

## Why it matters
While it lasts, advantages are the value's own swings. The policy follows them, also where the value calms down later.

## How it decides
In three steps or more the loss is above ten times ½·Var(return), and ten times what it was of that on the first
responses, before any update, where their values are recorded; and the mean value has moved, in that step or the one
before, by more than the standard deviation of the returns: warning. A spread below a tenth of its largest value counts
as that tenth. Needs 10 points.

## When it cannot tell
The value loss, the mean value or the spread of the returns is not logged.

## False alarms
A new head that starts far from the returns costs most at the start, and swings as it comes nearer; hence the limit from
the first step. A value that is wrong and stands still is VAL002.

## What to do
A lower learning rate for the value; a clip on its loss; a smaller weight of its loss where it shares the policy's body.

## References
TRL, how to train (value loss before instabilities); Zheng et al. 2023 (arXiv 2307.04964).
"""

import numpy as np

from regard.review.facts import Facts
from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import detector
from regard.review.signs.critic import LOSS, PREDICTION, SPREAD, first_errors, together
from regard.runlog.reader import RunLog, StageLog

FACTOR = 10.0
STEPS = 3


@detector("VAL003", "value-overshoots", "warning", frozenset({"ppo", "a2c"}))
def value_overshoots(run: RunLog, stage: StageLog) -> Outcome:
    found = together(stage, LOSS, PREDICTION, SPREAD)
    if found is None:
        return CannotTell(
            "Value loss, mean value and spread of the returns are not logged.", (LOSS, PREDICTION, SPREAD)
        )
    steps, (loss, value, spread) = found
    spread = np.maximum(spread, 0.1 * spread.max())
    if not spread.max() > 0:
        return CannotTell("The returns do not vary, so a constant is perfect.", (SPREAD,))
    factor = loss / (0.5 * spread**2)
    moved = np.concatenate([[0.0], np.abs(np.diff(value))]) > spread
    facts = Facts(run)
    first_error = first_errors(facts) if facts.policy is stage else None
    limit = FACTOR * max(1.0, first_error[0] if first_error else 1.0)
    far = np.flatnonzero((factor > limit) & (moved | np.concatenate([[False], moved[:-1]])))
    if len(far) < STEPS:
        return Clear(f"The value loss is at most {factor.max():.2g} times that of a constant while the value moves.")
    first, last = int(far[0]), int(far[-1])
    return Fired(
        summary=f"In {len(far)} steps the value loss is up to {factor[far].max():.3g} times what predicting the mean "
        "return would cost, and the mean value jumps by more than the returns spread.",
        evidence=(Evidence(LOSS, float(loss[far].max()), float(limit * 0.5 * spread[first] ** 2), int(steps[first])),),
        onset=Onset(int(steps[first]), (int(steps[max(0, first - 2)]), int(steps[first]))),
        until=int(steps[last]),
        confidence=0.9,
    )
