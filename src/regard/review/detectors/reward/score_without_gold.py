"""RWD001 score-without-gold: the score rises and an independent judge sees quality fall.

## What it detects
Reward-model score and gold (a judge that is not optimised), both over the steps of the run.

## Why it matters
This is over-optimisation itself, not a sign of it: the policy has found what the reward model likes and the judge does
not. The score alone never shows it.

## How it decides
Both series are averaged in ten equal parts of the run. Fires if, from gold's best part to the last one, gold fell by
more than three standard errors of the difference and by more than its usual spread between the steps of one part,
while the score did not fall. That needs 20 points of both. From 2 to 19 points are taken for evaluated checkpoints:
fires if gold fell from its best point to the last by more than half of its best value's size, without rising again on
the way, while the score ends at its highest.

## When it cannot tell
No gold is logged. Any independent judge will do: held-out raters, another reward model, a rule.

## False alarms
Gold that levels off while the score goes on rising is not enough to fire. A judge of words cannot see repetition: read
`text/distinct_2/frac` beside it.

## What to do
Stop at gold's best step; raise `kl_coef`; retrain the reward model with pairs from the current policy.

## References
Gao, Schulman, Hilton 2022 (arXiv 2210.10760).
"""

import numpy as np

from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.review.statistics import GOLD, Floats, Reading, first_of
from regard.runlog.reader import RunLog, StageLog

SCORE = ("score/reward_model/mean",)
LEAST, PARTS = 20, 10
ERRORS = 3.0
FEW, SHARE = 2, 0.5


@detector("RWD001", "score-without-gold", "error", POLICY_STAGES)
def score_without_gold(run: RunLog, stage: StageLog) -> Outcome:
    gold, score = first_of(stage, GOLD, LEAST), first_of(stage, SCORE, LEAST)
    if gold is None or score is None:
        return _few(first_of(stage, GOLD, FEW), first_of(stage, SCORE, FEW))
    parts = np.array_split(gold.values, PARTS)
    means = _means(parts)
    best = int(np.argmax(means))
    fall = means[best] - means[-1]
    spread = float(np.sqrt(np.mean([part.var(ddof=1) for part in parts])))  # pooled: a part can have two points only
    noise = spread * float(np.sqrt(1 / len(parts[best]) + 1 / len(parts[-1])))
    score_parts = _means(np.array_split(score.values, PARTS))
    if best == PARTS - 1 or fall <= max(ERRORS * noise, spread) or score_parts[-1] < score_parts[best]:
        return Clear(f"Gold goes from {means[0]:.3g} to {means[-1]:.3g}; its best tenth is number {best + 1}.")
    ends = np.cumsum([len(part) for part in parts])
    first, last = int(gold.steps[ends[best] - 1]), int(gold.steps[-1])
    turn = int(gold.steps[min(ends[best], len(gold.steps) - 1)])
    later = int(gold.steps[min(ends[min(best + 1, PARTS - 1)], len(gold.steps) - 1)])
    return Fired(
        summary=f"Gold fell from {means[best]:.3g} to {means[-1]:.3g} after step {first}, while the score went from "
        f"{score_parts[best]:.3g} to {score_parts[-1]:.3g}.",
        evidence=(
            Evidence(gold.key, float(means[-1]), float(means[best]), last),
            Evidence(score.key, float(score_parts[-1]), float(score_parts[best]), last),
        ),
        onset=Onset(turn, (first, later)),
        until=last,
        confidence=0.9,
    )


def _few(gold: Reading | None, score: Reading | None) -> Outcome:
    """The verdict on a few evaluated checkpoints, whose noise cannot be estimated."""
    if gold is None or score is None or len(gold.values) != len(score.values):
        return CannotTell(
            "There are neither 20 steps nor two checkpoints with both a score and an independent judge.",
            (GOLD[0], SCORE[0]),
        )
    best, last = int(np.argmax(gold.values)), len(gold.values) - 1
    top, end = float(gold.values[best]), float(gold.values[-1])
    falls = bool(np.all(np.diff(gold.values[best:]) < 0)) and top - end > SHARE * abs(top)
    if best == last or not falls or score.values[-1] < score.values.max():
        return Clear(f"Gold goes from {gold.values[0]:.3g} to {end:.3g} over {last + 1} checkpoints.")
    steps = [int(step) for step in gold.steps]
    return Fired(
        summary=f"Gold fell from {top:.3g} at checkpoint {steps[best]} to {end:.3g}, while the score rose from "
        f"{score.values[best]:.3g} to {score.values[-1]:.3g}.",
        evidence=(
            Evidence(gold.key, end, top, steps[-1]),
            Evidence(score.key, float(score.values[-1]), float(score.values[best]), steps[-1]),
        ),
        onset=Onset(steps[best], (steps[max(0, best - 1)], steps[best + 1])),
        until=steps[-1],
        confidence=0.8,
    )


def _means(parts: list[Floats]) -> Floats:
    return np.array([part.mean() for part in parts])
