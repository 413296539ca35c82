"""What one stage says about another: the reward model against the policy that is trained on it."""

from regard.review.facts import Facts
from regard.review.signs import Answer, no, sign, unknown, yes
from regard.review.statistics import first_of

POLICY_PAIRS, HELD_OUT = "rm/accuracy_policy_pairs/mean", "rm/accuracy_val/mean"
SLICE_MAX, SLICE_MIN = "kl/policy_ref_k1/slice_max", "kl/policy_ref_k1/slice_min"
LOST = 0.05
UNEVEN, WORTH = 1.25, 0.3


@sign("rm-loses-on-policy-pairs")
def rm_loses_on_policy_pairs(facts: Facts) -> Answer:
    """The reward model ranks pairs with a response of the present policy worse than held-out pairs of its own data, by
    more than 5 points: held-out accuracy on old pairs no longer says what it is worth."""
    for stage in (facts.rm, facts.policy):
        on_policy = first_of(stage, (POLICY_PAIRS,)) if stage else None
        held_out = first_of(facts.rm, (HELD_OUT,)) if facts.rm else None
        if on_policy is None or held_out is None:
            continue
        now, then = float(on_policy.values[-1]), float(held_out.values[-1])
        text = f"Right on {now:.2f} of the pairs with the policy's responses, on {then:.2f} of the held-out ones."
        return yes(text) if now < then - LOST else no(text)
    return unknown("The reward model was not tried on pairs with the policy's own responses.", POLICY_PAIRS)


@sign("kl-uneven-over-prompts")
def kl_uneven_over_prompts(facts: Facts) -> Answer:
    """One kind of prompt has moved a quarter further from the reference than another."""
    most = first_of(facts.policy, (SLICE_MAX,)) if facts.policy else None
    least = first_of(facts.policy, (SLICE_MIN,)) if facts.policy else None
    if most is None or least is None:
        return unknown("The KL is not logged by kind of prompt.", SLICE_MAX, SLICE_MIN)
    high, low = float(most.values[-1]), float(least.values[-1])
    text = f"KL ends at {high:.3g} nats on the prompts that moved most and {low:.3g} on those that moved least."
    return yes(text) if high > WORTH and high > UNEVEN * low else no(text)
