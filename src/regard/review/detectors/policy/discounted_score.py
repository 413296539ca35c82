"""POL009 discounted-score: a discount takes most of the score away before the first token.

## What it detects
γ to the power of the mean response length.

## Why it matters
A response is judged as a whole, at its end. With γ below 1 its first tokens, which decide most, are told little.

## How it decides
γ^length is below one half: warning.

## When it cannot tell
The configuration does not say γ, or the length is not logged.

## False alarms
Tasks with a reward at each step may want a discount; a score at the end does not.

## What to do
Set `ppo.gamma` to 1; use λ to trade bias for variance.

## References
Huang et al. 2024 (arXiv 2403.17031): γ = 1; Schulman et al. 2016 (arXiv 1506.02438).
"""

import numpy as np

from regard.review.facts import Facts
from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.review.signs.kl import LENGTH
from regard.review.signs.policy import FORGOTTEN, score_discounted_away
from regard.runlog.reader import RunLog, StageLog


@detector("POL009", "discounted-score", "warning", POLICY_STAGES)
def discounted_score(run: RunLog, stage: StageLog) -> Outcome:
    found, gamma = score_discounted_away(Facts(run)), Facts(run).number("ppo.gamma", "gamma")
    if found.holds is None or gamma is None:
        return CannotTell(found.summary, found.missing)
    if not found.holds:
        return Clear(found.summary)
    length = stage.metrics[LENGTH]
    left, last = gamma ** float(np.median(length.values)), int(length.steps[-1])
    return Fired(found.summary, (Evidence("config: gamma", left, FORGOTTEN, last),), Onset(0, (0, 0)), last, 0.9)
