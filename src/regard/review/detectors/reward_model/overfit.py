"""RMD002 reward-model-overfit: the reward model gets better on its training pairs and worse on others.

## What it detects
Ranking loss on held-out pairs over the training of the reward model.

## Why it matters
An over-fitted reward model is sure of itself in the wrong places, and the policy goes where it is sure.

## How it decides
The loss on held-out pairs ends more than 10 % and more than 0.02 above its lowest value: warning. Needs three
evaluations.

## When it cannot tell
Fewer than three evaluations on held-out pairs are logged. One epoch with one evaluation at the end cannot show it.

## False alarms
The loss can rise while accuracy stays, when scores grow without bound; they are then badly calibrated all the same.

## What to do
Train one epoch; take the checkpoint of the lowest held-out loss; weight decay; soft labels.

## References
Ouyang et al. 2022 (arXiv 2203.02155): over-fits after one epoch; Stiennon et al. 2020 (arXiv 2009.01325).
"""

from regard.review.held_out import rise
from regard.review.outcome import CannotTell, Outcome
from regard.review.registry import detector
from regard.review.statistics import first_of
from regard.runlog.reader import RunLog, StageLog

NEEDS = ("rm/loss_val/mean",)
ABSOLUTE, LEAST = 0.02, 3


@detector("RMD002", "reward-model-overfit", "warning", frozenset({"rm"}))
def overfit(run: RunLog, stage: StageLog) -> Outcome:
    loss = first_of(stage, NEEDS, LEAST)
    if loss is None:
        return CannotTell(f"There are not {LEAST} evaluations of the loss on held-out pairs.", NEEDS)
    return rise(loss, ABSOLUTE)
