"""GEN003 agreement-lost: sampler and trainer agreed to the last digit, and from one step on they do not.

## What it detects
The divergence (k3) of the log-probabilities of sampler and trainer, step by step, against its own first steps.

## Why it matters
Where one program samples and scores, the two are the same numbers up to rounding. A jump of a thousandfold is an
event: other weights, another number format, another sampling rule. From then on the ratio is not 1 where PPO takes it
for 1.

## How it decides
The first tenth of the run lies below 1e-7 nats per token, and from some step to the end the mismatch is above 1e-5 and
a thousand times the start: warning, from that step on.

## When it cannot tell
The mismatch of sampler and trainer is not logged. Where it is large from the start there is no agreement to lose, and
INV001 and GEN001 look at it.

## False alarms
An engine that was switched on in the middle on purpose; its rounding then is the finding.

## What to do
See what changed in that step: weights sent, settings of the sampler, number formats.

## References
arXiv 2510.26788 (number formats of sampler and trainer); verl, rollout correction.
"""

from regard.review.facts import Facts
from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.review.signs import generation as signs
from regard.runlog.reader import RunLog, StageLog


@detector("GEN003", "agreement-lost", "warning", POLICY_STAGES)
def agreement_lost(run: RunLog, stage: StageLog) -> Outcome:
    answer = signs.agreement_lost(Facts(run))
    if answer.holds is None:
        return CannotTell(answer.summary, answer.missing)
    if not answer.holds or answer.onset is None:
        return Clear(answer.summary)
    mismatch = stage.metrics[signs.MISMATCH]
    value = float(mismatch.values[mismatch.steps >= answer.onset.step][0])
    evidence = Evidence(signs.MISMATCH, value, signs.APART, answer.onset.step)
    return Fired(answer.summary, (evidence,), answer.onset, int(mismatch.steps[-1]), 0.95)
