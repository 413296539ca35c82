"""RWD005 judge-not-independent: what is called gold is the score that is optimised.

## What it detects
Correlation of gold and score over the finished responses of the run.

## Why it matters
A judge that is the reward model, or was made of it, rises whenever training works at all. It cannot see
over-optimisation, so every conclusion drawn from it is empty.

## How it decides
Fires (warning) if gold and score of at least 32 finished responses correlate with 0.995 or more: one is the other, up
to scale and offset.

## When it cannot tell
The rollouts have no gold beside the score, or one of the two is constant.

## False alarms
Where the reward is the exact measure of the task, as with a verifier, gold may rightly be the same; then there is
nothing to over-optimise, and nothing that a separate judge would add.

## What to do
Judge with other labels, other raters, or a model of another family.

## References
Gao, Schulman, Hilton 2022 (arXiv 2210.10760), gold and proxy reward models.
"""

import numpy as np

from regard.review.answers import sample_of
from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.runlog.reader import RunLog, StageLog

SAME, LEAST = 0.995, 32


@detector("RWD005", "judge-not-independent", "warning", POLICY_STAGES)
def judge_not_independent(run: RunLog, stage: StageLog) -> Outcome:
    sample = sample_of(stage)
    if not sample.has("gold", "score"):
        return CannotTell("The rollouts have no gold beside the score.", ("rollouts: gold", "rollouts: score"))
    gold, score = sample.numbers["gold"], sample.numbers["score"]
    good = np.isfinite(gold) & np.isfinite(score) & (sample.numbers["truncated"] != 1)
    if good.sum() < LEAST or np.std(gold[good]) == 0 or np.std(score[good]) == 0:
        return CannotTell("Gold or score does not vary over finished responses.", ("rollouts: gold",))
    rho = float(np.corrcoef(gold[good], score[good])[0, 1])
    if rho < SAME:
        return Clear(f"Gold and score of {int(good.sum())} responses correlate with {rho:.2f}.")
    first, last = int(sample.steps[0]), int(sample.steps[-1])
    return Fired(
        summary=f"Gold and score of {int(good.sum())} responses correlate with {rho:.4f}: gold is the score.",
        evidence=(Evidence("rollouts/gold_score_correlation", rho, SAME, last),),
        onset=Onset(first, (first, first)),
        until=last,
        confidence=0.95,
    )
