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

from regard.review.held_out import rise
from regard.review.outcome import CannotTell, Outcome
from regard.review.registry import detector
from regard.review.statistics import first_of
from regard.runlog.reader import RunLog, StageLog

NEEDS = ("loss/sft_eval/mean",)
ABSOLUTE, LEAST = 0.05, 3


@detector("SFT001", "sft-overfit", "warning", frozenset({"sft"}))
def sft_overfit(run: RunLog, stage: StageLog) -> Outcome:
    loss = first_of(stage, NEEDS, LEAST)
    if loss is None:
        return CannotTell(f"There are not {LEAST} evaluations of the loss on held-out answers.", NEEDS)
    return rise(loss, ABSOLUTE)
