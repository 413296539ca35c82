"""RMD003 raters-disagree: people who saw the same pair often chose differently.

## What it detects
How often two raters of a held-out pair prefer the same text, ties left out.

## Why it matters
Where raters disagree there is nothing to learn, and the reward model learns something all the same. It is also the
ceiling of every accuracy that is counted against one person's choices.

## How it decides
The agreement is below 0.65: warning. Chance is 0.5; people who compare with care reach 0.70 to 0.77.

## When it cannot tell
No pair was labelled twice, or the record does not say so.

## False alarms
Tastes can differ for good reason: then the question is whose taste is to be learned, and the number is still true.

## What to do
Read twenty pairs that raters dispute. Add a tie to the choices, train raters, label anew or leave disputed pairs out.

## References
Stiennon et al. 2020 (arXiv 2009.01325): 0.77 among researchers; Coste et al. 2023 (arXiv 2310.02743): 0.60 to 0.75.
"""

from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import detector
from regard.review.statistics import first_of
from regard.runlog.reader import RunLog, StageLog

NEEDS = ("rm/rater_agreement/mean",)
LIMIT = 0.65


@detector("RMD003", "raters-disagree", "warning", frozenset({"rm"}))
def raters_disagree(run: RunLog, stage: StageLog) -> Outcome:
    agreement = first_of(stage, NEEDS)
    if agreement is None:
        return CannotTell("The record does not say how often two raters of a pair agree.", NEEDS)
    value, step = float(agreement.values[-1]), int(agreement.steps[-1])
    if value >= LIMIT:
        return Clear(f"Two raters of a pair agree on {value:.2f} of the pairs.")
    return Fired(
        summary=f"Two raters of a pair agree on {value:.2f} of the pairs; 0.5 would be chance.",
        evidence=(Evidence(agreement.key, value, LIMIT, step),),
        onset=Onset(0, (0, 0)),
        until=step,
        confidence=0.9,
    )
