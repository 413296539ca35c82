"""RWD014 bonus-pays: the score rises by its side bonus, not by the task.

## What it detects
Of a score that is a sum: what it gained from the first to the last tenth of the run, beside what its main part gained;
and how much its bonuses differ between the first responses to a prompt, beside the main part.

## Why it matters
The policy follows the cheapest part of a reward. Of the total alone nobody sees which part rose.

## How it decides
The run is cut into tenths. Either more than 70 % of the gain from the first to the last is outside the main part, which
gained less than a quarter of its first deviation, or more than 90 % and less than half; or the main part lost a quarter
of that deviation since its best tenth and the bonuses gained as much: warning. So it is where, within
prompts, the bonuses of the first responses differ at least as much as the main part (standard deviations), a response
with more of them has less of the main part (t below -3), and the main part gains less than a deviation over the run.

## When it cannot tell
The parts of the score are not recorded. Our own trainer records the main part of a sum, so there its absence is clear.
Without texts only what the score gained is looked at.

## False alarms
A format that is learned first, before the task: look again later in the run. A penalty for responses without an end,
where the reward model likes long ones and learns little.

## What to do
Cap the bonus, pay it only where the task is done, or lower its weight.

## References
rldoctor 0.2.0, component dominance: share 0.7 as a warning.
"""

import numpy as np

from regard.review.facts import Facts
from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.review.signs.reward_model import Parts, one_part, parts_of_score
from regard.runlog.reader import RunLog, StageLog

NEEDS = ("rollouts: main_score",)


@detector("RWD014", "bonus-pays", "warning", POLICY_STAGES)
def bonus_pays(run: RunLog, stage: StageLog) -> Outcome:
    facts = Facts(run)
    sample = facts.rollouts
    if one_part(facts):
        return Clear("The score is no sum: no main part is recorded.")
    if sample is None or not sample.has("score", "main_score"):
        return CannotTell("The parts of the score are not recorded.", NEEDS)
    found = parts_of_score(facts, sample)
    if not found.dominated:
        return Clear(found.text)
    steps, bonus = sample.by_step(sample.numbers["score"] - sample.numbers["main_score"])
    if found.at_first:
        return _fired(found, Onset(0, (0, int(steps[0]))), int(steps[0]), int(steps[-1]))
    risen = np.flatnonzero(bonus > bonus[0] + 0.25 * (bonus[-1] - bonus[0]))
    at = int(risen[0]) if len(risen) else 0
    low, high = int(steps[max(0, at - 2)]), int(steps[min(len(steps) - 1, at + 1)])
    return _fired(found, Onset(int(steps[at]), (low, high)), int(steps[-1]), int(steps[-1]))


def _fired(found: Parts, onset: Onset, step: int, until: int) -> Fired:
    return Fired(
        summary=found.text,
        evidence=(Evidence("rollouts: score - main_score", found.value, found.least, step),),
        onset=onset,
        until=until,
        confidence=0.85,
    )
