"""POL012 hidden-term-in-the-loss: the policy's loss is a multiple of its entropy, or of the KL.

## What it detects
A term in the loss of the policy beside the surrogate, by the weight with which it follows entropy or KL.

## Why it matters
Nobody declared it, so nobody looks for it: a bonus with the wrong sign makes the policy certain, one that is too large
makes it babble, and a KL in the loss pulls with another gradient than the same KL in the reward.

## How it decides
With advantages that average 0, the surrogate is 0 at the first update of a batch and little below it later. Where the
loss is more than 0.05 from 0 over eight points or more to the end, its ratio to the entropy or to the KL per token is
the same within 5 %, and the loss itself varies more than that, it is a multiple of it: warning. In the lab the ratio
of a hidden term scatters by 3 % and less, that of A2C, the one control with a loss so large, by 27 %. It began after
the last step at which the term would have shown.

## When it cannot tell
The loss, the mean of the advantages, or both entropy and KL are not logged.

## False alarms
A trainer that logs its loss with a declared term in it. An entropy bonus of the declared weight is recognised; a KL in
the loss that was meant is not.

## What to do
Look for what is added to the loss, and its sign; log the surrogate alone.

## References
Schulman et al. 2017 (arXiv 1707.06347), equation 9: surrogate, value loss and entropy bonus, each a term of its own.
"""

from regard.review.facts import Facts
from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.review.signs import Answer
from regard.review.signs import policy as signs
from regard.runlog.reader import RunLog, StageLog


@detector("POL012", "hidden-term-in-the-loss", "warning", POLICY_STAGES)
def hidden_term_in_the_loss(run: RunLog, stage: StageLog) -> Outcome:
    found = signs.hidden_term(Facts(run))
    if isinstance(found, Answer):
        return CannotTell(found.summary, found.missing) if found.holds is None else Clear(found.summary)
    loss = found.loss
    evidence = Evidence(signs.LOSS, loss.end, signs.TERM, int(loss.steps[-1]))
    text = f"The policy's loss is {found.weight:.3g} times {found.of}; a surrogate alone would be near 0."
    return Fired(text, (evidence,), found.onset, int(loss.steps[-1]), 0.95)
