"""RMD005 reward-model-miscalibrated: the reward model is surer, or less sure, than it is right.

## What it detects
Expected calibration error: by how much sigmoid(margin) differs from the share of raters, on held-out pairs.

## Why it matters
A policy is drawn to extreme scores. If a wide margin does not mean a sure preference, it is paid for guesses.

## How it decides
The error is above 0.12: warning.

## When it cannot tell
Calibration is not logged.

## False alarms
Few held-out pairs: with 100 of them chance alone makes 0.05 to 0.08.

## What to do
One epoch; the share of raters as the label; divide margins by a temperature that is fitted on held-out pairs.

## References
Guo et al. 2017 (arXiv 1706.04599), eq. 3.
"""

from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import detector
from regard.review.statistics import first_of
from regard.runlog.reader import RunLog, StageLog

NEEDS = ("rm/ece/value",)
LIMIT = 0.12


@detector("RMD005", "reward-model-miscalibrated", "warning", frozenset({"rm"}))
def miscalibrated(run: RunLog, stage: StageLog) -> Outcome:
    error = first_of(stage, NEEDS)
    if error is None:
        return CannotTell("The calibration of the reward model is not logged.", NEEDS)
    value, step = float(error.values[-1]), int(error.steps[-1])
    if value <= LIMIT:
        return Clear(f"Expected calibration error {value:.3f}.")
    return Fired(
        summary=f"Stated and observed preference are {100 * value:.0f} points apart on average.",
        evidence=(Evidence(error.key, value, LIMIT, step),),
        onset=Onset(0, (0, step)),
        until=step,
        confidence=0.8,
    )
