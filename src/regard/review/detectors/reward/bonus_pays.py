"""RWD014 bonus-pays: the score rises by its side bonus while the task stands still.

## What it detects
Of a score that is a sum: what it gained from the first to the last tenth of the run, beside what its main part gained.

## Why it matters
The policy follows the cheapest part of a reward. Of the total alone nobody sees which part rose.

## How it decides
The score gained more than a quarter of its first deviation, more than 70 % of that outside the main part, and the main
part gained less than a quarter of its own deviation: warning.

## When it cannot tell
The parts of the score are not recorded.

## False alarms
A format that is learned first, before the task: look again later in the run.

## What to do
Cap the bonus, pay it only where the task is done, or lower its weight.

## References
rldoctor 0.2.0, component dominance: share 0.7 as a warning.
"""

import numpy as np

from regard.review.facts import Facts
from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.runlog.reader import RunLog, StageLog

NEEDS = ("rollouts: main_score",)
SHARE, STILL = 0.7, 0.25


@detector("RWD014", "bonus-pays", "warning", POLICY_STAGES)
def bonus_pays(run: RunLog, stage: StageLog) -> Outcome:
    sample = Facts(run).rollouts
    if sample is None or not sample.has("score", "main_score"):
        return CannotTell("The parts of the score are not recorded.", NEEDS)
    score, main = sample.numbers["score"], sample.numbers["main_score"]
    early, late = sample.early(), sample.late()
    gain, of_main = (float(np.nanmean(x[late]) - np.nanmean(x[early])) for x in (score, main))
    text = f"From the first tenth to the last the score gains {gain:.2f}, its main part {of_main:.2f}."
    rises = gain > STILL * float(np.nanstd(score[early])) and of_main < STILL * float(np.nanstd(main[early]))
    if not rises or gain - of_main <= SHARE * gain:
        return Clear(text)
    steps, bonus = sample.by_step(score - main)
    risen = np.flatnonzero(bonus > bonus[0] + 0.25 * (bonus[-1] - bonus[0]))
    at = int(risen[0]) if len(risen) else 0
    low, high = int(steps[max(0, at - 2)]), int(steps[min(len(steps) - 1, at + 1)])
    return Fired(
        summary=text,
        evidence=(Evidence("rollouts: score - main_score", gain - of_main, SHARE * gain, int(steps[-1])),),
        onset=Onset(int(steps[at]), (low, high)),
        until=int(steps[-1]),
        confidence=0.85,
    )
