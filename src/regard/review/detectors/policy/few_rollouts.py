"""POL008 few-rollouts: an update sees so few responses that their mean score is mostly luck.

## What it detects
Responses per update, and the standard error of their mean score beside what the score gained over the whole run.

## Why it matters
The policy takes steps of usual size in directions that are mostly noise: the KL grows and the score hardly follows.

## How it decides
Fewer than 16 responses an update, and a standard error of a quarter of the whole gain or more: warning.

## When it cannot tell
The number of responses of an update, the score or its spread are not recorded.

## False alarms
A small batch that learns well all the same does not fire: the gain is beyond the noise.

## What to do
Raise the batch eightfold, or lower the learning rate; sample several responses to each prompt.

## References
lm-human-preferences asserts at least eight; 512 in Huang et al. 2024 (arXiv 2403.17031).
"""

from regard.review.facts import Facts
from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.review.signs import policy as signs
from regard.runlog.reader import RunLog, StageLog


@detector("POL008", "few-rollouts", "warning", POLICY_STAGES)
def few_rollouts(run: RunLog, stage: StageLog) -> Outcome:
    facts = Facts(run)
    few, noisy, number = signs.few_rollouts(facts), signs.gain_within_noise(facts), signs.rollouts_per_update(facts)
    if few.holds is None or number is None:
        return CannotTell(few.summary, few.missing)
    if not few.holds:
        return Clear(few.summary)
    if noisy.holds is None:
        return CannotTell(noisy.summary, noisy.missing)
    if not noisy.holds:
        return Clear(f"{few.summary} {noisy.summary}")
    last = int(stage.metrics[signs.SCORE].steps[-1])
    evidence = Evidence("data/prompts_seen/count", number, float(signs.FEW), last)
    return Fired(f"{few.summary} {noisy.summary}", (evidence,), Onset(0, (0, 0)), last, 0.9)
