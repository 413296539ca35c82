"""RMD004 labels-swapped: by trusted labels the reward model prefers the worse text.

## What it detects
Accuracy on held-out pairs by labels that were never trained on.

## Why it matters
Better than chance at the wrong answer is no weakness but a sign error: chosen and rejected, or 0 and 1, are exchanged
somewhere between the raters and the loss.

## How it decides
Accuracy plus two standard errors, 0.5 / sqrt(pairs) each, is below one half: error.

## When it cannot tell
No trusted labels, or not how many pairs they are of.

## False alarms
Trusted labels that are themselves the other way round.

## What to do
Read five pairs as the loss gets them. Test that a known good answer scores above a known bad one.

## References
Ziegler et al. 2019 (arXiv 1909.08593), section 4.4.
"""

from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import detector
from regard.review.statistics import first_of
from regard.runlog.reader import RunLog, StageLog

NEEDS = ("rm/accuracy_trusted/mean", "rm/pairs_test/count")


@detector("RMD004", "labels-swapped", "error", frozenset({"rm"}))
def labels_swapped(run: RunLog, stage: StageLog) -> Outcome:
    trusted, pairs = (first_of(stage, (key,)) for key in NEEDS)
    if trusted is None or pairs is None or pairs.values[-1] <= 0:
        return CannotTell("There is no accuracy by trusted labels with its number of pairs.", NEEDS)
    value, error, step = float(trusted.values[-1]), 0.5 / float(pairs.values[-1]) ** 0.5, int(trusted.steps[-1])
    if value + 2 * error >= 0.5:
        return Clear(f"Right on {value:.2f} of the pairs by trusted labels.")
    return Fired(
        summary=f"Right on {value:.2f} ± {error:.2f} of the pairs by trusted labels, so wrong more often than a coin.",
        evidence=(Evidence(trusted.key, value, 0.5 - 2 * error, step),),
        onset=Onset(0, (0, 0)),
        until=step,
        confidence=0.95,
    )
