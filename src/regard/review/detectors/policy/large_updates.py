"""POL001 large-updates: one iteration moves the policy further than its surrogate objective holds.

## What it detects
The distance ½·mean(Δ log p)² between the policy that sampled and the updated one, in nats per token.

## Why it matters
The clipped objective is a first-order model around the policy that sampled. Far from it the gradient no longer points
to a better policy, and each iteration can undo the one before.

## How it decides
The running median of three points lies above 0.1 nats per token to the end of the log: warning. A mean over padding, as
TRL's PPO logs it, can only be too low, so it fires in the same way but is never taken as clear above 0.02.

## When it cannot tell
Nothing of this is logged; a signed mean (verl's and OpenRLHF's `ppo_kl`) does not count, since both signs cancel.

## False alarms
A first iteration with a high learning rate passes 0.1 once; hence the median, to the end.

## What to do
Lower the learning rate or the number of epochs; set `ppo.early_stop_kl`; check that the clip is on.

## References
Schulman et al. 2017 (arXiv 1707.06347); 0.01 to 0.02 as a target, Spinning Up; 0.1 as severe, Huang et al. 2022.
"""

from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.review.statistics import first_of, lasting
from regard.runlog.reader import RunLog, StageLog

NEEDS = ("kl/old_new_k2/mean", "kl/old_new_k2/unmasked_mean")
LIMIT, TARGET = 0.1, 0.02
LEAST = 3


@detector("POL001", "large-updates", "warning", POLICY_STAGES)
def large_updates(run: RunLog, stage: StageLog) -> Outcome:
    distance = first_of(stage, NEEDS, LEAST)
    if distance is None:
        return CannotTell("The distance of old to new policy is not logged, or only with its sign.", NEEDS)
    spell = lasting(distance, lambda values: values > LIMIT)
    if spell is None:
        if distance.key == NEEDS[1] and distance.end > TARGET:
            return CannotTell(f"The mean over padding ends at {distance.end:.3g}; over tokens it is more.", NEEDS[:1])
        return Clear(f"{distance.key} ends at {distance.end:.3g} nats per token; the limit is {LIMIT}.")
    return Fired(
        summary=f"An iteration moves the policy by {distance.end:.3g} nats per token, above {LIMIT} from step "
        f"{spell.onset.step} on.",
        evidence=(Evidence(distance.key, distance.end, LIMIT, int(distance.steps[-1])),),
        onset=spell.onset,
        until=int(distance.steps[-1]),
        confidence=0.9,
    )
