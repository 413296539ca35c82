"""POL003 dead-groups: most prompts give the same reward to all their responses, so nothing is learned from them.

## What it detects
Share of prompt groups whose rewards are all equal.

## Why it matters
Where advantages are centred by group, such a group has no gradient. The step costs what it costs and teaches nothing.

## How it decides
The running median lies above 0.75 to the end: error; above 0.5: warning. Needs five points. Where it was at most 0.5 at
the start and the mean score has risen since by more than half of the scores' standard deviation there, the groups died
of success, and it is a warning in either case.

## When it cannot tell
The trainer does not sample in groups, or does not log the share.

## False alarms
A small group and a reward of 0 or 1 make many dead groups in a healthy run: with a pass rate of 0.2 and 4 responses the
expected share is 0.41. Hence a high limit. In a task that is solved nearly every group is dead: the run is over and not
at fault, unless the score is gamed, which other detectors look for.

## What to do
Take prompts that are neither too easy nor too hard; raise the group size; check by hand whether the grader marks right
answers as wrong, and whether responses are cut before they end.

## References
Yu et al. 2025, DAPO (arXiv 2503.14476), dynamic sampling; limits as in rldoctor 0.2.0.
"""

from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Outcome
from regard.review.registry import detector
from regard.review.statistics import Reading, first_of, lasting
from regard.runlog.reader import RunLog, StageLog

NEEDS = ("group/zero_std/frac",)
SCORE, SPREAD = ("score/reward_model/mean",), ("score/reward_model/std",)
WARNING, ERROR = 0.5, 0.75
RISE = 0.5
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
    success = _success(stage, share)
    return Fired(
        summary=f"{share.end:.0%} of the groups give every response the same reward, above {limit:.0%} from step "
        f"{spell.onset.step} on{success}.",
        evidence=(Evidence(share.key, share.end, limit, int(share.steps[-1])),),
        onset=spell.onset,
        until=int(share.steps[-1]),
        confidence=0.95,
        severity="error" if grave and not success else "warning",
    )


def _success(stage: StageLog, share: Reading) -> str:
    """What the score did meanwhile, for the summary, where that is why the groups are dead; else nothing."""
    score, spread = first_of(stage, SCORE, LEAST), first_of(stage, SPREAD, LEAST)
    if score is None or spread is None or share.start > WARNING or score.end - score.start <= RISE * spread.start:
        return ""
    return f"; the score rose from {score.start:.3g} to {score.end:.3g}, so most prompts seem solved"
