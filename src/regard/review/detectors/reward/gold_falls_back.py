"""RWD016 gold-falls-back: quality by an independent judge was better earlier in the run.

## What it detects
Gold (a judge that is not optimised) over the steps of the run, whatever the score does.

## Why it matters
The last policy is not the best one that the run had. RWD001 asks whether the score went on rising meanwhile; quality
can also be lost with the score, and then no curve that is optimised stands out.

## How it decides
Gold is averaged in five equal parts of the run. Fires if the last part lies below the best one by more than four
standard errors of the difference, taken from the differences of neighbouring steps, and by more than 0.3 of what had
been gained until then: warning; if it also lies below the first part by four standard errors, error. Needs 15 points.

## When it cannot tell
No gold is logged, or in fewer than 15 steps.

## False alarms
The best of five parts is chosen after the fact, hence four errors and not two. A gold that is measured on other prompts
in each step is noisy; the errors hold that noise.

## What to do
Go back to the best part's checkpoint; then look for what began between it and the fall.

## References
Gao, Schulman, Hilton 2022 (arXiv 2210.10760): gold rises, peaks and falls as optimisation goes on.
"""

from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.review.statistics import GOLD, best_part, first_of
from regard.runlog.reader import RunLog, StageLog

LEAST, PARTS = 15, 5
ERRORS, OF_GAIN = 4.0, 0.3


@detector("RWD016", "gold-falls-back", "warning", POLICY_STAGES)
def gold_falls_back(run: RunLog, stage: StageLog) -> Outcome:
    gold = first_of(stage, GOLD, LEAST)
    if gold is None:
        return CannotTell(f"There are not {LEAST} values of gold.", (GOLD[0],))
    best, means, error, onset = best_part(gold, PARTS)
    fall, gained = means[best] - means[-1], means[best] - means[0]
    if fall <= max(ERRORS * error, OF_GAIN * gained):
        return Clear(f"Gold's best fifth of the run averages {means[best]:.3g}, the last {means[-1]:.3g}.")
    last = int(gold.steps[-1])
    below_start = means[0] - means[-1] > ERRORS * error
    return Fired(
        summary=f"Gold averaged {means[best]:.3g} in its best fifth of the run and {means[-1]:.3g} in the last"
        + (f", below the {means[0]:.3g} of the first." if below_start else "."),
        evidence=(Evidence(gold.key, means[-1], means[best], last),),
        onset=onset,
        until=last,
        confidence=0.9,
        severity="error" if below_start else None,
    )
