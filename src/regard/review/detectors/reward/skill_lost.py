"""RWD004 skill-lost: a skill that the reward does not pay for gets worse.

## What it detects
Loss, in nats per token, on answers to prompts of another skill, which is not trained.

## Why it matters
The score cannot show what it does not ask for. A policy that got better at one task and forgot the others is not
better.

## How it decides
Fires (warning) if the loss ends 6 nats a token above its first value and at three times it. Needs four measurements.

## When it cannot tell
No such skill is measured.

## False alarms
Some is lost in every run: healthy runs of the lab lose 1 to 5 nats a token, hence the wide limit.

## What to do
Measure the SFT model through the same evaluation. Mix in the loss on other text, lower the learning rate, or train
adapters.

## References
Ouyang et al. 2022 (arXiv 2203.02155), alignment tax.
"""

from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.review.statistics import first_of, lasting
from regard.runlog.reader import RunLog, StageLog

NEEDS = ("eval/probe_nll/token_mean",)
NATS, TIMES, LEAST = 6.0, 3.0, 4


@detector("RWD004", "skill-lost", "warning", POLICY_STAGES)
def skill_lost(run: RunLog, stage: StageLog) -> Outcome:
    probe = first_of(stage, NEEDS, LEAST)
    if probe is None:
        return CannotTell("No skill outside the training task is measured.", NEEDS)
    start = float(probe.values[0])
    limit = max(start + NATS, TIMES * start)
    spell = lasting(probe, lambda values: values > limit)
    text = f"The loss on a skill that is not trained goes from {start:.3g} to {probe.end:.3g} nats a token"
    if spell is None:
        return Clear(f"{text}.")
    return Fired(
        summary=f"{text}.",
        evidence=(Evidence(probe.key, probe.end, limit, int(probe.steps[-1])),),
        onset=spell.onset,
        until=int(probe.steps[-1]),
        confidence=0.85,
    )
