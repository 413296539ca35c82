"""RMD008 far-below-raters: people agree on the pairs, and the reward model has not learned why.

## What it detects
Accuracy on held-out pairs beside how often two raters agree there.

## Why it matters
Accuracy means nothing without its ceiling. 0.6 is much where people agree on 0.65, and little where they agree on 0.9.

## How it decides
Raters agree on more than 0.6 of the pairs, and the reward model is less than half as far above chance: warning.

## When it cannot tell
Agreement or accuracy is not logged.

## False alarms
Labels are of a majority of raters, whom a model can pass; that makes this test milder, not stricter.

## What to do
Train longer, with more pairs, a larger model or a higher rate; start from the SFT model; look at what the score reads.

## References
Stiennon et al. 2020 (arXiv 2009.01325).
"""

from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import detector
from regard.review.statistics import first_of
from regard.runlog.reader import RunLog, StageLog

ACCURACY, AGREEMENT = ("rm/accuracy_test/mean", "rm/accuracy_val/mean"), ("rm/rater_agreement/mean",)
LEAST_AGREEMENT, SHARE = 0.6, 0.5


@detector("RMD008", "far-below-raters", "warning", frozenset({"rm"}))
def far_below_raters(run: RunLog, stage: StageLog) -> Outcome:
    accuracy, agreement = first_of(stage, ACCURACY), first_of(stage, AGREEMENT)
    if accuracy is None or agreement is None:
        return CannotTell("There is no accuracy beside the agreement of raters.", ACCURACY[:1] + AGREEMENT)
    value, people, step = float(accuracy.values[-1]), float(agreement.values[-1]), int(accuracy.steps[-1])
    limit = 0.5 + SHARE * (people - 0.5)
    text = f"Right on {value:.2f} of the held-out pairs, where two raters agree on {people:.2f}."
    if people <= LEAST_AGREEMENT or value >= limit:
        return Clear(text)
    return Fired(
        summary=text,
        evidence=(Evidence(accuracy.key, value, limit, step),),
        onset=Onset(0, (0, step)),
        until=step,
        confidence=0.85,
    )
