"""NUM005 update-outruns-its-rate: from one step to the next the weights change far more for the same learning rate.

## What it detects
The norm of the weights' change divided by the learning rate, against its own recent past.

## Why it matters
Adam's step is at most about the rate for each weight, and how far below that it stays changes slowly. Where it grows by
itself, either some weights have got a rate of their own, or their gradients have jumped, as those of a value whose
targets changed do.

## How it decides
In four steps in a row the norm of the update, over the learning rate and the number of updates, is at least three times
its median over the eight steps before: warning. A restart with fresh moments fades within two steps and does not count.

## When it cannot tell
The norm of the update or the learning rate is not logged.

## False alarms
An optimiser that is not Adam, whose step is proportional to the gradient; a signal that comes back after many batches
without one.

## What to do
Look at the groups of the optimiser and at the value's loss in that step.

## References
Kingma and Ba 2015 (arXiv 1412.6980), section 2.1: the effective step is bounded by the rate.
"""

from regard.review.facts import Facts
from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.review.signs import Answer
from regard.review.signs import policy as signs
from regard.runlog.reader import RunLog, StageLog


@detector("NUM005", "update-outruns-its-rate", "warning", POLICY_STAGES)
def update_outruns_its_rate(run: RunLog, stage: StageLog) -> Outcome:
    found = signs.outrun(Facts(run))
    if isinstance(found, Answer):
        return CannotTell(found.summary, found.missing) if found.holds is None else Clear(found.summary)
    last = int(stage.metrics[signs.UPDATE].steps[-1])
    evidence = Evidence(signs.UPDATE, found.norm, found.limit, found.onset.step)
    summary = signs.update_outruns_its_rate(Facts(run)).summary
    return Fired(summary, (evidence,), found.onset, last, 0.9)
