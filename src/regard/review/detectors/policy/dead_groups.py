"""POL003 dead-groups: most prompts give the same reward to all their responses, so nothing is learned from them.

## What it detects
Share of prompt groups whose rewards are all equal.

## Why it matters
Where advantages are centred by group, such a group has no gradient. The step costs what it costs and teaches nothing.

## How it decides
The running median lies above 0.75 to the end: error; above 0.5: warning. Needs five points.

## When it cannot tell
The trainer does not sample in groups, or does not log the share.

## False alarms
A small group and a reward of 0 or 1 make many dead groups in a healthy run: with a pass rate of 0.2 and 4 responses the
expected share is 0.41. Hence a high limit.

## What to do
Take prompts that are neither too easy nor too hard; raise the group size; check by hand whether the grader marks right
answers as wrong, and whether responses are cut before they end.

## References
Yu et al. 2025, DAPO (arXiv 2503.14476), dynamic sampling; limits as in rldoctor 0.2.0.
"""

from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Outcome
from regard.review.registry import detector
from regard.review.statistics import first_of, lasting
from regard.runlog.reader import RunLog, StageLog

NEEDS = ("group/zero_std/frac",)
WARNING, ERROR = 0.5, 0.75
LEAST = 5


@detector("POL003", "dead-groups", "warning", frozenset({"grpo", "rloo"}))
def dead_groups(run: RunLog, stage: StageLog) -> Outcome:
    share = first_of(stage, NEEDS, LEAST)
    if share is None:
        return CannotTell(f"There are not {LEAST} values of the share of groups without variance.", NEEDS)
    grave = lasting(share, lambda values: values > ERROR)
    spell = grave or lasting(share, lambda values: values > WARNING)
    if spell is None:
        return Clear(f"{share.end:.0%} of the groups are without variance at the end.")
    limit = ERROR if grave else WARNING
    return Fired(
        summary=f"{share.end:.0%} of the groups give every response the same reward, above {limit:.0%} from step "
        f"{spell.onset.step} on.",
        evidence=(Evidence(share.key, share.end, limit, int(share.steps[-1])),),
        onset=spell.onset,
        until=int(share.steps[-1]),
        confidence=0.95,
        severity="error" if grave else "warning",
    )
