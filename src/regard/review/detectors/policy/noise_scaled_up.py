"""POL010 noise-scaled-up: the scores hardly differ any more, and their differences are still scaled to one.

## What it detects
The deviation of the score against its own start, beside whether advantages are divided by it.

## Why it matters
Once nearly all responses reach the top, what is left of the differences is noise. Scaled to one it moves the policy as
far as before, in directions that mean nothing.

## How it decides
The running median of the deviation lies below a tenth of its start to the end, and advantages are scaled: warning.

## When it cannot tell
The deviation of the score is not logged, or it is not known whether advantages are scaled.

## False alarms
A spread that shrinks to a third or a fifth is learning.

## What to do
Stop; or do not divide by the deviation, or divide by no less than 0.1.

## References
Dr. GRPO (arXiv 2503.20783).
"""

from regard.review.facts import Facts
from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.review.signs.kl import SCORE_STD
from regard.review.signs.policy import SATURATED, noise_scaled_to_one
from regard.review.statistics import first_of
from regard.runlog.reader import RunLog, StageLog


@detector("POL010", "noise-scaled-up", "warning", POLICY_STAGES)
def noise_scaled_up(run: RunLog, stage: StageLog) -> Outcome:
    found, spread = noise_scaled_to_one(Facts(run)), first_of(stage, (SCORE_STD, "group/reward_std/mean"), 8)
    if found.holds is None or spread is None:
        return CannotTell(found.summary, found.missing)
    if not found.holds:
        return Clear(found.summary)
    last = int(spread.steps[-1])
    evidence = Evidence(spread.key, spread.end, SATURATED * spread.start, last)
    return Fired(found.summary, (evidence,), found.onset or Onset(0, (0, last)), last, 0.9)
