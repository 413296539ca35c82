"""RMD007 few-comparisons: the reward model has seen too few comparisons to be worth optimising against.

## What it detects
Different comparisons that the reward model was trained on.

## Why it matters
Below some 2,000 comparisons a reward model was of no use to a policy, whatever its size.

## How it decides
Fewer than 1,000 comparisons, or the part of an epoch that comes to as many: warning.

## When it cannot tell
The number of comparisons is not logged.

## False alarms
A reward model that starts from one trained on other comparisons needs fewer.

## What to do
More comparisons; before that, see whether twice as many raise the accuracy on held-out pairs.

## References
Gao, Schulman, Hilton 2022 (arXiv 2210.10760), on the size of the data.
"""

from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import detector
from regard.review.statistics import first_of
from regard.runlog.reader import RunLog, StageLog

PAIRS, EPOCHS = ("data/pairs/count",), ("data/epochs/count",)
LIMIT = 1000.0


@detector("RMD007", "few-comparisons", "warning", frozenset({"rm"}))
def few_comparisons(run: RunLog, stage: StageLog) -> Outcome:
    pairs, epochs = first_of(stage, PAIRS), first_of(stage, EPOCHS)
    if pairs is None:
        return CannotTell("The number of comparisons is not logged.", PAIRS)
    share = min(1.0, float(epochs.values[-1])) if epochs else 1.0
    seen = share * float(pairs.values[-1])
    if seen >= LIMIT:
        return Clear(f"Trained on {seen:.0f} different comparisons.")
    return Fired(
        summary=f"Trained on {seen:.0f} different comparisons.",
        evidence=(Evidence(pairs.key, seen, LIMIT, int(pairs.steps[-1])),),
        onset=Onset(0, (0, 0)),
        until=int(pairs.steps[-1]),
        confidence=0.9,
    )
