"""RWD011 score-against-gold: before anything is learned, the score prefers what the judge rejects.

## What it detects
On the first rollouts: how often score and gold order two responses to one prompt alike.

## Why it matters
Over-optimisation drives score and quality apart in time. If they oppose each other at the start, a sign is wrong:
swapped columns, a minus, a label the other way round.

## How it decides
Concordance plus two standard errors is below one half: error. The standard error is 0.5 / sqrt(responses - groups).

## When it cannot tell
The first rollouts have no independent judgement, or fewer than 32 of them can be compared.

## False alarms
A judge that is itself the other way round, such as a loss.

## What to do
Read the best-scored and the worst-scored of the first responses. Test the score on a known good and a known bad text.

## References
Ziegler et al. 2019 (arXiv 1909.08593), section 4.4.
"""

from regard.review.facts import Facts
from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.ranking import concordance, start_rows
from regard.review.registry import POLICY_STAGES, detector
from regard.runlog.reader import RunLog, StageLog

NEEDS = ("rollouts: gold",)


@detector("RWD011", "score-against-gold", "error", POLICY_STAGES)
def score_against_gold(run: RunLog, stage: StageLog) -> Outcome:
    sample = Facts(run).rollouts
    if sample is None or not sample.has("score", "gold"):
        return CannotTell("The rollouts have no score with an independent judgement.", NEEDS)
    rows = start_rows(sample)
    found = concordance(sample, sample.numbers["score"], sample.numbers["gold"], rows)
    if found is None:
        return CannotTell("Fewer than 32 of the first rollouts can be compared.", NEEDS)
    limit, step = 0.5 - 2 * found.error, int(sample.steps[rows].max())
    text = f"Score and judge order {found} of the first pairs alike."
    if found.share >= limit:
        return Clear(text)
    return Fired(
        summary=text,
        evidence=(Evidence("rollouts: score, gold", found.share, limit, step),),
        onset=Onset(0, (0, step)),
        until=step,
        confidence=0.95,
    )
