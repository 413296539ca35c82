"""DAT001 repeated-prompts: the same prompts come again within one step.

## What it detects
Share of the rollouts of a prompt that its own step has already had in another group. A group is as many responses to a
prompt as are usual in the run.

## Why it matters
A file that holds every prompt many times is learned by heart in one pass, and looks like ten thousand prompts.

## How it decides
The share is above 0.1: warning. A pass over different prompts makes 0, drawing with replacement about the batch over
twice the number of prompts.

## When it cannot tell
The rollouts do not say of which prompt they are, or there are fewer than ten groups.

## False alarms
Few prompts on purpose, as for a puzzle of one kind.

## What to do
Count the different prompts of the file; drop duplicates; split by prompt.

## References
DAPO-Math-17k: 1,791,700 rows are 17,917 prompts.
"""

from regard.review.facts import Facts
from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.review.signs.data import repeated_share
from regard.runlog.reader import RunLog, StageLog

NEEDS = ("rollouts: prompt_id",)
LIMIT = 0.1


@detector("DAT001", "repeated-prompts", "warning", POLICY_STAGES)
def repeated_prompts(run: RunLog, stage: StageLog) -> Outcome:
    sample = Facts(run).rollouts
    if sample is None or not (sample.has("prompt_id") or sample.has("prompt")):
        return CannotTell("The rollouts do not say of which prompt they are.", NEEDS)
    share = repeated_share(sample)
    if share is None:
        return CannotTell("There are fewer than ten groups of rollouts.", NEEDS)
    if share <= LIMIT:
        return Clear(f"{share:.1%} of the rollouts repeat a prompt of their own step.")
    first, last = int(sample.steps[0]), int(sample.steps[-1])
    return Fired(
        summary=f"{share:.0%} of the rollouts repeat a prompt of their own step; the run knows "
        f"{int(sample.prompt_codes.max()) + 1} different prompts.",
        evidence=(Evidence("rollouts: prompt_id", share, LIMIT, last),),
        onset=Onset(0, (0, first)),
        until=last,
        confidence=0.9,
    )
