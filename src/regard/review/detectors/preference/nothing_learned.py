"""DPO001 nothing-learned: the loss stays at ln 2, where policy and reference are the same.

## What it detects
Loss of preference optimisation and the margin of implicit rewards.

## Why it matters
The run costs its time and changes nothing: β is 0, the reference follows the policy, or no gradient arrives.

## How it decides
Over the last half of the run every loss is within 0.001 of ln 2 = 0.6931 and, where logged, every margin within 0.001
of 0: error. Needs ten points.

## When it cannot tell
Fewer than ten values of the loss.

## False alarms
A learning rate of 1e-8 looks the same; it also learns nothing.

## What to do
Check β, that the reference is a frozen copy, and that the trained parameters require gradients.

## References
trl issue 1627; Rafailov et al. 2023 (arXiv 2305.18290), equation 7.
"""

import math

import numpy as np

from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import detector
from regard.review.statistics import first_of
from regard.runlog.reader import RunLog, StageLog

LOSS, MARGIN = ("preference/loss/mean",), ("preference/margin/mean",)
CLOSE, LEAST = 1e-3, 10


@detector("DPO001", "nothing-learned", "error", frozenset({"dpo"}))
def nothing_learned(run: RunLog, stage: StageLog) -> Outcome:
    loss, margin = first_of(stage, LOSS, LEAST), first_of(stage, MARGIN, LEAST)
    if loss is None:
        return CannotTell(f"There are not {LEAST} values of the loss.", LOSS)
    late = loss.values[len(loss.values) // 2 :]
    still = bool(np.all(np.abs(late - math.log(2)) < CLOSE))
    if margin is not None:
        still = still and bool(np.all(np.abs(margin.values[len(margin.values) // 2 :]) < CLOSE))
    if not still:
        return Clear(f"The loss ends at {loss.end:.3f}.")
    first, last = int(loss.steps[0]), int(loss.steps[-1])
    return Fired(
        summary=f"The loss is {late.mean():.4f} to the end; ln 2 = 0.6931 is what no training gives.",
        evidence=(Evidence(loss.key, float(late.mean()), math.log(2), last),),
        onset=Onset(first, (first, first)),
        until=last,
        confidence=0.95,
    )
