"""RWD010 score-depends-on-batch: a response gets another score alone than among others.

## What it detects
A few responses of the first batch, scored again one by one: the largest difference, in deviations of the batch's
scores.

## Why it matters
A score is of a text. If padding or the neighbours change it, it is read at the wrong token or masked wrongly, and the
policy is paid for being padded.

## How it decides
The difference is above 0.1 deviations: error. Rounding in bfloat16 makes about 0.03.

## When it cannot tell
No response was scored twice, or all scores were equal.

## False alarms
A scorer that is a remote judge with a temperature, or that fails at random: its score is no function of the text.

## What to do
Score one text with 0, 5 and 50 pads on either side. Read at the last token that is no padding; keep pad and EOS apart.

## References
Huang et al. 2024 (arXiv 2403.17031), on where the score is read.
"""

from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.review.statistics import first_of
from regard.runlog.reader import RunLog, StageLog

NEEDS = ("invariant/score_alone_max_diff/value",)
LIMIT = 0.1


@detector("RWD010", "score-depends-on-batch", "error", POLICY_STAGES)
def score_depends_on_batch(run: RunLog, stage: StageLog) -> Outcome:
    gap = first_of(stage, NEEDS)
    if gap is None:
        return CannotTell("No response of the first batch was scored again alone.", NEEDS)
    value, step = float(gap.values[0]), int(gap.steps[0])
    if value <= LIMIT:
        return Clear(f"Scored alone, a response differs by {value:.1g} deviations at most.")
    return Fired(
        summary=f"Scored alone, a response differs by {value:.2g} deviations from its score in the batch.",
        evidence=(Evidence(gap.key, value, LIMIT, step),),
        onset=Onset(step, (step, step)),
        until=step,
        confidence=0.95,
    )
