"""DAT002 leaked-prompts: prompts of the evaluation were also trained on.

## What it detects
Held-out prompts whose text, spaces aside, is also a prompt of stage 4.

## Why it matters
Progress that is measured on prompts that were trained on is no progress on others.

## How it decides
At least 5 % of the held-out prompts, and three of them: error.

## When it cannot tell
The record has no held-out prompts, or no rollouts.

## False alarms
Prompts so short that chance repeats them.

## What to do
Split by prompt before anything else; evaluate again on fresh prompts.

## References
Lee et al. 2022 (arXiv 2107.06499), on what duplicates do.
"""

from regard.review.facts import Facts
from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.review.signs.data import shared_with_eval
from regard.runlog.reader import RunLog, StageLog

NEEDS = ("rollouts: prompt",)
SHARE, LEAST = 0.05, 3


@detector("DAT002", "leaked-prompts", "error", POLICY_STAGES)
def leaked_prompts(run: RunLog, stage: StageLog) -> Outcome:
    counts = shared_with_eval(Facts(run))
    if counts is None:
        return CannotTell("The record has no held-out prompts beside those of stage 4.", NEEDS)
    common, total = counts
    limit = max(LEAST, SHARE * total)
    text = f"{common} of {total} held-out prompts were also trained on."
    if common < limit:
        return Clear(text)
    last = max(stage.rollout_steps, default=0)
    return Fired(
        summary=text,
        evidence=(Evidence("stages/eval/samples.json", float(common), limit, last),),
        onset=Onset(0, (0, 0)),
        until=last,
        confidence=0.95,
    )
