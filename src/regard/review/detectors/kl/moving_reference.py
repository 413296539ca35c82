"""KL004 moving-reference: the frozen reference gives the same text another probability than before.

## What it detects
Responses that occurred at two steps, to the same prompt, and the sums of their log-probabilities under the reference;
and a KL that falls to 0 again and again.

## Why it matters
KL to a model that follows the policy measures a step, not a distance. The penalty holds nothing, and a larger
coefficient does not help.

## How it decides
Of at least three responses that came again, at least two and 5 % differ by more than 0.05 nats: error. Or twice or
more the KL falls within one step to less than 0.15 of what it was, from a third of the run's upper quartile or more.

## When it cannot tell
The reference's log-probabilities are not recorded, or hardly a response occurs twice and no KL is
logged. Compare hashes then (INV002).

## False alarms
16-bit passes in batches of other shapes differ by up to a hundredth of a nat a token; the limit is for a short text.

## What to do
Keep a frozen copy of its own; do not reload it from the latest checkpoint; check its hash at every checkpoint.

## References
The reference is constant by definition: Ziegler et al. 2019 (arXiv 1909.08593).
"""

from regard.review.facts import Facts
from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.review.signs.kl import KL_SEQUENCE, SAME_TEXT_NATS, kl_falls, kl_falls_to_zero, reference_moves
from regard.runlog.reader import RunLog, StageLog


@detector("KL004", "moving-reference", "error", POLICY_STAGES)
def moving_reference(run: RunLog, stage: StageLog) -> Outcome:
    facts = Facts(run)
    found, falls = reference_moves(facts), kl_falls(facts)
    if found.holds:
        last = stage.rollout_steps[-1]
        evidence = Evidence("rollouts: ref_logprobs", 1.0, SAME_TEXT_NATS, last)
        return Fired(found.summary, (evidence,), found.onset or Onset(0, (0, 0)), last, 0.95)
    if falls is not None and len(falls) > 1:
        again, last = kl_falls_to_zero(facts), int(falls[-1])
        evidence = Evidence(KL_SEQUENCE[0], float(len(falls)), 2.0, last)
        return Fired(again.summary, (evidence,), again.onset or Onset(0, (0, last)), last, 0.9)
    if found.holds is None and falls is None:
        return CannotTell(found.summary, found.missing)
    return Clear(found.summary if found.holds is False else "The KL does not fall to 0 again and again.")
