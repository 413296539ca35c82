"""POL002 entropy-collapse: the policy has become certain of nearly every token.

## What it detects
Entropy of the next-token distribution, in nats per token, against the run's own start.

## Why it matters
A policy without entropy does not explore: all responses to a prompt are the same, advantages vanish, and what it has
settled on cannot be corrected by its own samples.

## How it decides
The running median lies below a tenth of the median of the run's first tenth, to the end of the log. Entropies are not
comparable between models or tokenizers, so no absolute limit is used. Needs ten points.

## When it cannot tell
No entropy per token is logged (a sum over the response changes with its length), or the log starts collapsed.

## False alarms
Entropy falls in every healthy run, by a third to a half in ours. An unmasked mean also falls as responses get shorter
and padding grows; where that is all there is, the finding says so and is a warning.

## What to do
Raise `kl_coef` or `entropy_coef`; sample at temperature 1; check that the upper clip is not far below the lower one.

## References
Cui et al. 2025 (arXiv 2505.22617); a tenth of the start as in rldoctor 0.2.0.
"""

from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.review.statistics import first_of, lasting
from regard.runlog.reader import RunLog, StageLog

NEEDS = ("entropy/policy/token_mean", "entropy/policy_sampled/token_mean", "entropy/policy/unmasked_mean")
SHARE = 0.1
LEAST = 10


@detector("POL002", "entropy-collapse", "error", POLICY_STAGES)
def entropy_collapse(run: RunLog, stage: StageLog) -> Outcome:
    entropy = first_of(stage, NEEDS, LEAST)
    if entropy is None:
        return CannotTell(f"There are not {LEAST} values of an entropy per token.", NEEDS)
    limit = SHARE * entropy.start
    if limit <= 0:
        return CannotTell(f"{entropy.key} starts at {entropy.start:.3g}, so there is nothing to compare with.", NEEDS)
    spell = lasting(entropy, lambda values: values < limit)
    if spell is None:
        return Clear(f"{entropy.key} goes from {entropy.start:.3g} to {entropy.end:.3g} nats per token.")
    diluted = entropy.key == NEEDS[2]
    return Fired(
        summary=f"Entropy fell from {entropy.start:.3g} to {entropy.end:.3g} nats per token"
        + (", averaged over padding too." if diluted else "."),
        evidence=(Evidence(entropy.key, entropy.end, limit, int(entropy.steps[-1])),),
        onset=spell.onset,
        until=int(entropy.steps[-1]),
        confidence=0.7 if diluted else 0.95,
        severity="warning" if diluted else None,
    )
