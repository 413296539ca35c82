"""VAL002 value-loss-above-constant: the value's error is several times that of a constant prediction.

## What it detects
Value loss ½·mean(value − return)² against ½·Var(return), which predicting the mean return would cost.

## Why it matters
Advantages are returns less the value. If the value errs more than the returns vary, the advantages are mostly the
value's own error, and whitening scales that error up to the size of a signal.

## How it decides
The loss is more than three times ½·Var(return) in the median of the last half of the run, and to its end: warning;
more than 30 times: error. Where the spread of the returns is not
logged, the spread of the scores takes its place, with ten times instead of three. A spread below a tenth of its largest
value counts as that tenth. Needs 20 points.

## When it cannot tell
The value loss, or any spread to hold it against, is not logged.

## False alarms
The first steps of every run, when the head is new: hence the last half. Scores that have become all the same make any
error look large: hence the floor.

## What to do
Train the value before the policy; give its head a higher learning rate; widen or drop the clip of its loss; let it move
its own body; start its head at zero.

## References
Yuan et al. 2025, VC-PPO (arXiv 2503.01491); Huang et al. 2024 (arXiv 2403.17031), value head starting at zero.
"""

import numpy as np

from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Outcome
from regard.review.registry import detector
from regard.review.signs.critic import together
from regard.review.statistics import Reading, lasting
from regard.runlog.reader import RunLog, StageLog

LOSS, RETURNS, SCORES = "loss/value/mean", "value/returns/std", "score/reward_model/std"
WARNING, OF_SCORES, ERROR = 3.0, 10.0, 30.0
LEAST = 20


@detector("VAL002", "value-loss-above-constant", "warning", frozenset({"ppo", "a2c"}))
def value_loss_above_constant(run: RunLog, stage: StageLog) -> Outcome:
    limit, found = WARNING, together(stage, LOSS, RETURNS)
    if found is None:
        limit, found = OF_SCORES, together(stage, LOSS, SCORES)
    if found is None or len(found[0]) < LEAST:
        return CannotTell(f"There are not {LEAST} steps with a value loss and the spread of returns.", (LOSS, RETURNS))
    steps, (loss, spread) = found
    constant = 0.5 * np.maximum(spread, 0.1 * spread.max()) ** 2
    if not constant.max() > 0:
        return CannotTell("The returns do not vary, so a constant is perfect.", (RETURNS,))
    factor = loss / constant
    late = float(np.median(factor[len(factor) // 2 :]))
    spell = lasting(Reading(LOSS, steps, factor), lambda values: values > limit)
    if late <= limit or spell is None:
        return Clear(f"The value loss is {late:.2g} times that of a constant in the last half of the run.")
    return Fired(
        summary=f"The value loss is {late:.3g} times what predicting the mean return would cost, in the last half of "
        "the run.",
        evidence=(Evidence(LOSS, float(loss[-1]), float(limit * constant[-1]), int(steps[-1])),),
        onset=spell.onset,
        until=int(steps[-1]),
        confidence=0.9,
        severity="error" if late > ERROR else None,
    )
