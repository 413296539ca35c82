"""What tells displaced likelihood, and pairs learned by heart, from a preference that was never learned."""

import numpy as np

from regard.review.facts import Facts
from regard.review.signs import Answer, no, sign, unknown, yes
from regard.review.statistics import first_of

REJECTED, CHOSEN = "preference/reward_rejected/mean", "preference/reward_chosen/mean"
LOSS, LOSS_VAL, ACCURACY = "preference/loss/mean", "preference/loss_val/mean", "preference/accuracy/mean"


@sign("both-responses-less-likely")
def both_responses_less_likely(facts: Facts) -> Answer:
    """Chosen and rejected response are both less likely at the end than under the reference."""
    stage = facts.dpo
    chosen, rejected = (first_of(stage, (key,), 10) if stage else None for key in (CHOSEN, REJECTED))
    if chosen is None or rejected is None:
        return unknown("The implicit rewards of chosen and rejected are not logged.", CHOSEN, REJECTED)
    text = f"Implicit reward of the chosen response {chosen.end:.3g}, of the rejected {rejected.end:.3g} at the end."
    return yes(text) if rejected.end < chosen.end < -0.2 * abs(rejected.end) else no(text)


@sign("training-pairs-without-error")
def training_pairs_without_error(facts: Facts) -> Answer:
    """The loss on training pairs falls below 0.1 and their accuracy reaches 0.99: known by heart, or trivial."""
    stage = facts.dpo
    loss, accuracy = (first_of(stage, (key,), 10) if stage else None for key in (LOSS, ACCURACY))
    if loss is None or accuracy is None:
        return unknown("Loss and accuracy on training pairs are not logged.", LOSS, ACCURACY)
    text = f"Training loss {loss.end:.3g}, accuracy {accuracy.end:.2f} at the end."
    return yes(text) if loss.end < 0.1 and accuracy.end >= 0.99 else no(text)


@sign("held-out-preference-loss-rises")
def held_out_preference_loss_rises(facts: Facts) -> Answer:
    """The loss on held-out pairs ends more than 10 % above its lowest value."""
    loss = first_of(facts.dpo, (LOSS_VAL,), 3) if facts.dpo else None
    if loss is None:
        return unknown("There are not three evaluations of the loss on held-out pairs.", LOSS_VAL)
    text = f"The held-out loss ends at {loss.values[-1]:.3g}; its lowest is {loss.values.min():.3g}."
    return yes(text) if loss.values[-1] > 1.1 * float(np.min(loss.values)) else no(text)
