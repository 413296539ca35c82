"""POL011 late-epochs: the last passes over a batch take the policy far from the one that sampled it.

## What it detects
The distance of the policy from the one that sampled, by epoch of an iteration, in nats per token.

## Why it matters
The ratio corrects for a small difference of policies. After many passes most tokens are clipped, and what the rest
teaches holds for a policy long gone.

## How it decides
With five epochs or more, the last one that is logged is four times as far as the second and above 0.015 nats per token,
in the median: warning.

## When it cannot tell
The distance is not logged by epoch, and the number of epochs is unknown or five and more.

## False alarms
With two to four epochs the distance grows as well, and that is how it should be.

## What to do
Two epochs, or a stop at a distance of 0.02 (`ppo.early_stop_kl`), and more rollouts.

## References
Huang et al. 2022, 37 implementation details; Entropy-Mechanism issue 20: 16 updates for each rollout.
"""

from regard.review.facts import Facts
from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.review.signs.policy import FAR_LAST, distance_grows_over_epochs
from regard.runlog.reader import RunLog, StageLog


@detector("POL011", "late-epochs", "warning", POLICY_STAGES)
def late_epochs(run: RunLog, stage: StageLog) -> Outcome:
    found = distance_grows_over_epochs(Facts(run))
    if found.holds is None:
        return CannotTell(found.summary, found.missing)
    if not found.holds:
        return Clear(found.summary)
    key = max(key for key in stage.metrics if key.startswith("kl/old_new_k2/epoch_"))
    series = stage.metrics[key]
    last = int(series.steps[-1])
    evidence = Evidence(key, float(series.values[-1]), FAR_LAST, last)
    return Fired(found.summary, (evidence,), Onset(0, (0, int(series.steps[0]))), last, 0.9)
