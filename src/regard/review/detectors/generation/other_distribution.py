"""GEN001 other-distribution-sampled: responses are drawn from another distribution than the one that is scored.

## What it detects
On the first and on the last rollouts: the log-probability that the trainer gives each token beside the one that the
sampler gave it. The factor between their spreads, and the mean ratio of the two probabilities.

## Why it matters
Ratio, clipping, KL and every gradient assume that the tokens come from the scored policy. A temperature, top-k, top-p,
min-p or repetition penalty that only the sampler knows makes all of them measure something else, from the first step.

## How it decides
Only where the two differ by more than number formats explain (k3 above 0.002 nats per token, or a mean difference
above 0.01 where the trainer computes in float32). Fires if the spreads differ by more than 5 % and four standard
errors and the sampler's own number decides the difference (correlation beyond 0.6), as a temperature makes it; or if
the mean ratio is below 1 by more than 1 % and four standard errors while hardly a token is likelier to the trainer:
the sampler left something out.

## When it cannot tell
The rollouts lack the log-probabilities of sampler or trainer.

## False alarms
An engine in another number format differs without a system, so spread and mean ratio stay 1; it does not fire. A
sampler with old weights differs in spread as well, but its own number does not decide by how much.

## What to do
Divide the trainer's logits by the sampler's temperature; set top_p=1, top_k=0, min_p=0, repetition_penalty=1 by name,
since a model's own generation_config may set them; have the sampler return log-probabilities after its processors.

## References
trl issue 4647 (generation_config overrides what the trainer asked for); Huang et al. 2024 (arXiv 2403.17031).
"""

from regard.review.facts import Facts
from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.review.sampler_gap import gap_onset, gaps
from regard.runlog.reader import RunLog, StageLog


@detector("GEN001", "other-distribution-sampled", "error", POLICY_STAGES)
def other_distribution(run: RunLog, stage: StageLog) -> Outcome:
    facts = Facts(run)
    pair = gaps(facts) if facts.policy is stage else None
    if pair is None:
        return CannotTell(
            "The rollouts do not have the log-probabilities of both sampler and trainer.",
            ("rollouts: generator_logprobs", "rollouts: logprobs"),
        )
    start, _ = pair
    shown = next((gap for gap in pair if gap.slope_off or gap.mass_missing), None)
    if shown is None:
        worst = max(pair, key=lambda gap: gap.k3)
        return Clear(f"Sampler and trainer differ by {worst.size:.2g} nats per token, without a system.")
    last = int(stage.rollout_steps[-1])
    key, value = ("slope", shown.slope) if shown.slope_off else ("mean ratio", shown.mass)
    return Fired(
        summary=f"Sampler and trainer do not mean the same distribution: {key} of trainer to sampler is {value:.3f} "
        f"instead of 1, over {shown.tokens} tokens.",
        evidence=(Evidence(f"rollouts: {key}", value, 1.0, last),),
        onset=Onset(0, (0, 0)) if start.there else gap_onset(facts),
        until=last,
        confidence=0.95,
    )
