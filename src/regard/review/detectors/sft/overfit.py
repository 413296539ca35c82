"""SFT001 sft-overfit: SFT ends with a held-out loss far above its lowest.

## What it detects
Negative log-likelihood of held-out answers over the training of the initial policy.

## Why it matters
A policy that knows its examples by heart is sure of itself, so that all its samples are alike and reinforcement
learning has nothing to choose from.

## How it decides
The loss ends more than 10 % and 0.05 nats above its lowest value: warning. Needs three evaluations.

## When it cannot tell
Fewer than three evaluations are logged.

## False alarms
A little of it can be meant: it was found to help the reward later.

## What to do
Stop at the lowest held-out loss; more examples; a lower learning rate.

## References
Ouyang et al. 2022 (arXiv 2203.02155): over-fits after one epoch, on purpose.
"""

import numpy as np

from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import detector
from regard.review.statistics import first_of
from regard.runlog.reader import RunLog, StageLog

NEEDS = ("loss/sft_eval/mean",)
RELATIVE, ABSOLUTE, LEAST = 0.1, 0.05, 3


@detector("SFT001", "sft-overfit", "warning", frozenset({"sft"}))
def sft_overfit(run: RunLog, stage: StageLog) -> Outcome:
    loss = first_of(stage, NEEDS, LEAST)
    if loss is None:
        return CannotTell(f"There are not {LEAST} evaluations of the loss on held-out answers.", NEEDS)
    best = int(np.argmin(loss.values))
    lowest, last = float(loss.values[best]), float(loss.values[-1])
    limit = lowest + max(ABSOLUTE, RELATIVE * abs(lowest))
    if last <= limit:
        return Clear(f"The held-out loss ends at {last:.3f}; its lowest is {lowest:.3f}.")
    after = min(best + 1, len(loss.steps) - 1)
    return Fired(
        summary=f"The held-out loss rose from {lowest:.3f} at step {loss.steps[best]} to {last:.3f}.",
        evidence=(Evidence(loss.key, last, limit, int(loss.steps[-1])),),
        onset=Onset(int(loss.steps[after]), (int(loss.steps[best]), int(loss.steps[after]))),
        until=int(loss.steps[-1]),
        confidence=0.85,
    )
