"""NUM004 jump-at-resume: something jumps exactly where the run was resumed.

## What it detects
Learning rate, KL coefficient, size of updates, gradient norm, distance of old to new policy, KL to the reference, score
and entropy, in the step before a resume and the step after it.

## Why it matters
A restart that loses the optimiser's moments, the schedule, the KL controller or the reference trains another run from
there on, under the same name. A resumed run should be the run that was never interrupted.

## How it decides
A jump is a change of more than six usual changes from step to step (the median size of the others, times 1.48, trend
removed). Fires if learning rate or KL coefficient jump, or at least two of the others: warning.

## When it cannot tell
The log does not say where it was resumed, or a resume has fewer than six steps before it.

## False alarms
Any single noisy metric jumps by chance once in a while; hence two. A run that was killed and resumed bit by bit is
clear.

## What to do
Save and restore optimiser, scheduler, controller, random states, normalisers and the position in the data; load the
reference from where it first came from, not from the policy.

## References
Huang et al. 2023, The N implementation details of RLHF with PPO (Hugging Face blog).
"""

from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.review.resume import CONTROLLED, LEAST_BEFORE, jumps_at, resume_steps
from regard.runlog.reader import RunLog, StageLog


@detector("NUM004", "jump-at-resume", "warning", POLICY_STAGES)
def jump_at_resume(run: RunLog, stage: StageLog) -> Outcome:
    steps = resume_steps(run, stage)
    logged = max((len(series.steps) for series in stage.metrics.values()), default=0)
    if steps is None or (steps and logged <= LEAST_BEFORE):
        return CannotTell("The log does not say where the run was resumed.", ("stages/ppo/events.jsonl: resume",))
    for step in steps:
        found = jumps_at(stage, step)
        noisy = {one.key.rsplit("/", 1)[0] for one in found if one.key not in CONTROLLED}
        if len(noisy) < 2 and not any(one.key in CONTROLLED for one in found):
            continue
        shown = ", ".join(f"{one.key} from {one.before:.3g} to {one.after:.3g}" for one in found[:3])
        return Fired(
            summary=f"At the resume after step {step} something was lost: {shown}.",
            evidence=tuple(Evidence(one.key, one.after, one.before, step + 1) for one in found),
            onset=Onset(step + 1, (step, step + 1)),
            until=step + 1,
            confidence=0.9,
        )
    return Clear(f"{len(steps)} resume(s), and nothing jumps there." if steps else "The run was not resumed.")
