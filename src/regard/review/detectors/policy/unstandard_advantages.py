"""POL005 unstandard-advantages: advantages that should have mean 0 and deviation 1 do not.

## What it detects
Mean and deviation of the advantages as the loss sees them, over the response's tokens; and responses whose advantages
average 0 one by one.

## Why it matters
Whitening makes the step independent of the score's scale. Over padding it depends on the batch's shape; over one
response by itself no response is better than another, and the score no longer counts.

## How it decides
The configuration says that advantages are whitened over the batch. In most steps, or from some step to the end, their
mean lies beyond 0.05 or their deviation beyond 0.9 to 1.1: error. Or in most responses they average 0: error.

## When it cannot tell
The configuration does not say that advantages are whitened, or they are not recorded.

## False alarms
Trainers that centre by group or by minibatch are not meant; they do not claim to whiten the batch.

## What to do
Take mean and deviation over the response tokens of the whole batch, by the mask.

## References
Huang et al. 2024 (arXiv 2403.17031); lm-human-preferences, train_policy.py.
"""

from regard.review.facts import Facts
from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.review.signs.policy import (
    NORMALISED,
    advantages_centred_by_response,
    advantages_not_centred,
    advantages_not_scaled,
)
from regard.runlog.reader import RunLog, StageLog


@detector("POL005", "unstandard-advantages", "error", POLICY_STAGES)
def unstandard_advantages(run: RunLog, stage: StageLog) -> Outcome:
    facts = Facts(run)
    centred, scaled, alone = (
        ask(facts) for ask in (advantages_not_centred, advantages_not_scaled, advantages_centred_by_response)
    )
    if centred.holds is None:
        return CannotTell(centred.summary, centred.missing)
    found = next((one for one in (centred, scaled, alone) if one.holds), None)
    if found is None:
        return Clear(f"{centred.summary} {scaled.summary}")
    last = max(int(series.steps[-1]) for series in stage.metrics.values()) if stage.metrics else stage.rollout_steps[-1]
    return Fired(found.summary, (Evidence(NORMALISED, 1.0, 0.05, last),), found.onset or Onset(0, (0, 0)), last, 0.9)
