"""POL004 sampler-mismatch: sampler and trainer give the same tokens different probabilities at the same weights.

## What it detects
k3 between the log-probabilities of the sampler and of the trainer, or the mean of their absolute difference.

## Why it matters
The importance ratio is built on the sampler's distribution. If the trainer scores another one, every gradient is
biased, and the bias grows with the length of the response.

## How it decides
The running median lies above 0.01 (k3) or 0.1 (absolute difference) nats per token to the end: error.

## When it cannot tell
Neither is logged. A signed mean does not count unless it is beyond 0.1, since both signs cancel.

## False alarms
16-bit engines differ by 1e-4 to 1e-3. Some runs with more have converged (NeMo-RL issue 2260), hence the distance.

## What to do
Sample at temperature 1 and score at temperature 1; reset the sampler's prefix cache when weights change; check that
the weights were sent; use the same precision, above all in the output layer.

## References
verl issues 6780 and 2996, SkyRL issue 2246; arXiv 2510.26788.
"""

import numpy as np

from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.review.statistics import first_of, lasting
from regard.runlog.reader import RunLog, StageLog

LIMITS = {
    "kl/generator_trainer_k3/mean": 0.01,
    "kl/generator_trainer_absdiff/mean": 0.1,
    "kl/generator_trainer_k1/mean": 0.1,
}
NEEDS = tuple(LIMITS)
LEAST = 3


@detector("POL004", "sampler-mismatch", "error", POLICY_STAGES)
def sampler_mismatch(run: RunLog, stage: StageLog) -> Outcome:
    gap = first_of(stage, NEEDS, LEAST)
    if gap is None:
        return CannotTell("The mismatch of sampler and trainer is not logged.", NEEDS)
    limit = LIMITS[gap.key]
    spell = lasting(gap, lambda values: np.abs(values) > limit)
    if spell is None:
        if gap.key == NEEDS[2]:
            return CannotTell("Only a signed mean is logged, in which both signs cancel.", NEEDS[:2])
        return Clear(f"{gap.key} ends at {gap.end:.2g} nats per token; the limit is {limit}.")
    return Fired(
        summary=f"Sampler and trainer differ by {gap.end:.3g} nats per token ({gap.key}), above {limit} from step "
        f"{spell.onset.step} on.",
        evidence=(Evidence(gap.key, gap.end, limit, int(gap.steps[-1])),),
        onset=spell.onset,
        until=int(gap.steps[-1]),
        confidence=0.9,
    )
