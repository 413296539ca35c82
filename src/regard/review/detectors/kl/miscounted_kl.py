"""KL006 miscounted-kl: the KL on record is not what the response's tokens add up to, and follows the padding.

## What it detects
The recorded KL of each response against Σ (logprob − ref_logprob) over its tokens, and the correlation of the
difference with the number of pads.

## Why it matters
A number made of tokens must not change with the padding. Where it enters rewards, short responses pay for what they did
not write; where it is only logged, every limit on it is wrong.

## How it decides
At least 5 % of the responses are off by more than 0.02 nats and 1 %, and the difference correlates with the pads by
more than 0.9: error.

## When it cannot tell
The rollouts hold no KL, or no log-probabilities per token of policy and reference.

## False alarms
Another estimator or a clamp makes a difference too, but not one that follows the pads.

## What to do
Multiply by the response mask before every sum and mean; drop sentinels before reducing; double the padded width and see
that nothing changes.

## References
trl issues 2496 and 6809: a sentinel of 1 for each pad in the entropy.
"""

from regard.review.facts import Facts
from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.review.signs.kl import logged_kl_counts_padding
from regard.runlog.reader import RunLog, StageLog


@detector("KL006", "miscounted-kl", "error", POLICY_STAGES)
def miscounted_kl(run: RunLog, stage: StageLog) -> Outcome:
    found = logged_kl_counts_padding(Facts(run))
    if found.holds is None:
        return CannotTell(found.summary, found.missing)
    if not found.holds:
        return Clear(found.summary)
    last = stage.rollout_steps[-1]
    onset = found.onset or Onset(0, (0, 0))
    return Fired(found.summary, (Evidence("rollouts: kl_sum", 1.0, 0.05, last),), onset, last, 0.95)
