"""RMD006 length-for-quality: the reward model is wrong where the better text is the shorter.

## What it detects
Accuracy on held-out pairs whose chosen text is the shorter, beside that on all.

## Why it matters
A reward model that ranks by length teaches the policy to be long. It shows here before any policy is trained.

## How it decides
Accuracy on these pairs is below 0.45, and 20 points below that on all: warning.

## When it cannot tell
Accuracy on these pairs is not logged.

## False alarms
Few such pairs: where the chosen text is nearly always the longer, the stratum is small, and that is a finding too.

## What to do
As many pairs whose chosen text is the shorter; take length out of the score by regression; a penalty on length.

## References
Singhal et al. 2023 (arXiv 2310.03716).
"""

from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import detector
from regard.review.statistics import first_of
from regard.runlog.reader import RunLog, StageLog

SHORTER, ALL = ("rm/accuracy_shorter_chosen/mean",), ("rm/accuracy_test/mean", "rm/accuracy_val/mean")
LIMIT, GAP = 0.45, 0.2


@detector("RMD006", "length-for-quality", "warning", frozenset({"rm"}))
def length_for_quality(run: RunLog, stage: StageLog) -> Outcome:
    shorter, everything = first_of(stage, SHORTER), first_of(stage, ALL)
    if shorter is None or everything is None:
        return CannotTell("Accuracy on pairs whose chosen text is the shorter is not logged.", SHORTER + ALL[:1])
    value, of_all, step = float(shorter.values[-1]), float(everything.values[-1]), int(shorter.steps[-1])
    limit = min(LIMIT, of_all - GAP)
    if value >= limit:
        return Clear(f"Right on {value:.2f} of the pairs whose chosen text is the shorter, on {of_all:.2f} of all.")
    return Fired(
        summary=f"Right on {value:.2f} of the pairs whose chosen text is the shorter, on {of_all:.2f} of all.",
        evidence=(Evidence(shorter.key, value, limit, step),),
        onset=Onset(0, (0, step)),
        until=step,
        confidence=0.85,
    )
