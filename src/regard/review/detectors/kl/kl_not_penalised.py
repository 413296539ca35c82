"""KL003 kl-not-penalised: the KL has a weight, and the reward does not pay for it.

## What it detects
The share of weight · KL that is taken from the reward of a response: Σ rewards against score − weight · KL, over the
rollouts; where they hold no rewards, over the logged means of total reward, score and KL.

## Why it matters
The leash is thought to hold and does not. As a loss k1 has an expected gradient of 0 and k3 that of another divergence;
with the sign flipped the policy is paid for leaving the reference.

## How it decides
Per step the share is fitted by least squares without intercept. Its median over the last quarter below 0.5: error.

## When it cannot tell
The weight is 0 or unknown; the KL is 0 throughout; neither rewards nor their sum are recorded. The weight is configured
and not logged, and the term is missing since the middle of the run: it may have been changed.

## False alarms
A trainer that takes the KL as a loss on purpose (k2, or group methods) logs no rewards with it. If it does, allow this.

## What to do
Take coefficient · (logprob − ref_logprob) from the reward of each token. Sweep three coefficients: the KL at the end
must fall with each.

## References
Schulman 2020 (http://joschu.net/blog/kl-approx.html); SkyRL issues 805 and 1340; Logic-RL issue 58 (sign).
"""

from regard.review.facts import Facts
from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.review.signs import Answer
from regard.review.signs.kl import SLOPE, kl_term
from regard.runlog.reader import RunLog, StageLog


@detector("KL003", "kl-not-penalised", "error", POLICY_STAGES)
def kl_not_penalised(run: RunLog, stage: StageLog) -> Outcome:
    found = kl_term(Facts(run))
    if isinstance(found, Answer):
        return CannotTell(found.summary, found.missing)
    if found.share >= SLOPE:
        return Clear(found.text)
    return Fired(
        summary=found.text,
        evidence=(Evidence(found.metric, found.share, 1.0, found.step),),
        onset=found.onset or Onset(0, (0, found.step)),
        until=found.step,
        confidence=0.95,
    )
