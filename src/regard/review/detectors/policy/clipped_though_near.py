"""POL007 clipped-though-near: most of an update is cut away although it is no larger than usual.

## What it detects
The share of tokens whose gradient is clipped, beside the distance of an iteration.

## Why it matters
A clip range below the usual step cuts the gradient of most tokens after the first update of a batch. Training is slow
and its direction is that of the tokens that happen to be left.

## How it decides
In the median more than 15 % of the tokens are clipped while an iteration moves the policy by less than 0.005 nats per
token: warning.

## When it cannot tell
Clipped share and distance are not both logged.

## False alarms
A large share with a large distance is another matter (POL001): there the clip does its work.

## What to do
Set `ppo.clip_range` to 0.1 to 0.3. If tokens are clipped already before the first step, compare sampler and trainer.

## References
Schulman et al. 2017 (arXiv 1707.06347); 0.02 to 0.2 as usual, Huang et al. 2022.
"""

import numpy as np

from regard.review.facts import Facts
from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.review.signs import policy as signs
from regard.review.statistics import first_of
from regard.runlog.reader import RunLog, StageLog


@detector("POL007", "clipped-though-near", "warning", POLICY_STAGES)
def clipped_though_near(run: RunLog, stage: StageLog) -> Outcome:
    found, clipped = signs.clipped_though_near(Facts(run)), first_of(stage, signs.CLIPPED, 3)
    if found.holds is None or clipped is None:
        return CannotTell(found.summary, found.missing)
    if not found.holds:
        return Clear(found.summary)
    share, last = float(np.median(clipped.values)), int(clipped.steps[-1])
    evidence = Evidence(clipped.key, share, signs.TIGHT_CLIPPED, last)
    return Fired(found.summary, (evidence,), Onset(0, (0, int(clipped.steps[0]))), last, 0.9)
