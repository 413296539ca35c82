"""POL006 policy-stands-still: training goes on and the policy does not change.

## What it detects
The distance of an iteration, the KL to the reference at the end, and the learning rate against its own peak.

## Why it matters
Rollouts, scores and gradients cost what they cost; nothing is learned from them.

## How it decides
An iteration moves the policy by less than 5e-5 nats per token in the median, and the run takes it less than 0.3 nats
per sequence (0.005 per token where the length is unknown) from the reference: warning. Or for 30 % of the run the
learning rate is below a twentieth of its peak, or the weights change by less than a hundredth of what they did:
warning. In a log of a few checkpoints: the KL ends below 0.01 nats per sequence and the score has gained less than 2 %:
warning.

## When it cannot tell
Neither KL nor learning rate is logged.

## False alarms
With one update for each batch the ratio is 1 and the distance 0 by construction: hence the KL beside it. A schedule
that ends at 0 is below a twentieth of its peak for a twentieth of the run only.

## What to do
Raise the learning rate; shorten the warm-up; check that the optimiser holds the weights that sample.

## References
trl issue 2872; minimind issue 775 (a ratio of 1 that is right).
"""

from regard.review.facts import Facts
from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.review.signs.checkpoints import KL, nothing_moves
from regard.review.signs.kl import KL_SEQUENCE, KL_TOKEN
from regard.review.signs.policy import RATE, TINY_SEQUENCE, policy_hardly_moves, updates_fade_away
from regard.runlog.reader import RunLog, StageLog


@detector("POL006", "policy-stands-still", "warning", POLICY_STAGES)
def policy_stands_still(run: RunLog, stage: StageLog) -> Outcome:
    facts = Facts(run)
    still, fades = policy_hardly_moves(facts), updates_fade_away(facts)
    held = nothing_moves(facts)
    answers = [answer for answer in (still, fades, held) if answer.holds is not None]
    if not answers:
        return CannotTell(still.summary, (KL_TOKEN[0], RATE))
    found = next((answer for answer in answers if answer.holds), None)
    if found is None:
        return Clear(answers[0].summary)
    key = KL_SEQUENCE[0] if found is still else RATE if found is fades else KL[0]
    series = stage.metrics.get(key)
    value, last = (float(series.values[-1]), int(series.steps[-1])) if series is not None else (0.0, 0)
    return Fired(
        found.summary, (Evidence(key, value, TINY_SEQUENCE, last),), found.onset or Onset(0, (0, 0)), last, 0.9
    )
