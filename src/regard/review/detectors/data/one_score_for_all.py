"""DAT004 one-score-for-all: from the start most prompts give one score to all their responses.

## What it detects
Share of prompt groups whose scores are all equal, over the first tenth of the run.

## Why it matters
Nothing can be learned from a prompt whose every answer gets the same mark: it is too hard, too easy, or the reward too
coarse. What is asked, not how it is trained, is then the limit.

## How it decides
The median of the first tenth is above 0.5: warning; above 0.75: error. Needs three points.

## When it cannot tell
Prompts are not sampled several times, or the share is not logged.

## False alarms
A pass rate of 0.2 with four responses makes 0.41, of 0.1 makes 0.66: hard prompts that are meant to become easy.

## What to do
Mark twenty of the answers by hand. Take prompts that the policy passes between 10 % and 90 % of the time; raise the
group size; give points for parts.

## References
Yu et al. 2025, DAPO (arXiv 2503.14476).
"""

from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.review.statistics import first_of
from regard.runlog.reader import RunLog, StageLog

NEEDS = ("group/zero_std/frac",)
WARNING, ERROR, LEAST = 0.5, 0.75, 3


@detector("DAT004", "one-score-for-all", "warning", POLICY_STAGES)
def one_score_for_all(run: RunLog, stage: StageLog) -> Outcome:
    share = first_of(stage, NEEDS, LEAST)
    if share is None:
        return CannotTell(f"There are not {LEAST} values of the share of groups without variance.", NEEDS)
    first = int(share.steps[0])
    if share.start <= WARNING:
        return Clear(f"At the start {share.start:.0%} of the groups have one score for all responses.")
    grave = share.start > ERROR
    return Fired(
        summary=f"At the start {share.start:.0%} of the groups have one score for all responses.",
        evidence=(Evidence(share.key, share.start, ERROR if grave else WARNING, first),),
        onset=Onset(first, (0, first)),
        until=int(share.steps[-1]),
        confidence=0.9,
        severity="error" if grave else "warning",
    )
