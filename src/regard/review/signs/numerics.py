"""What tells a broken number format from a wrong learning rate, and a restart from a change of the data."""

import numpy as np

from regard.review.facts import Facts
from regard.review.outcome import Onset
from regard.review.resume import resume_steps
from regard.review.signs import Answer, no, sign, unknown, yes
from regard.review.signs.critic import together
from regard.review.statistics import first_of
from regard.text import rank_correlation

NONFINITE, GRADIENT, RATE = "optim/nonfinite_grads/count", "optim/grad_norm/last", "optim/learning_rate/last"
CHANGED = "optim/weights_changed/frac"
UPDATE, WEIGHTS = "optim/update_norm/value", "optim/param_norm/value"
MOVED, RATIO_MAX = "kl/old_new_k2/mean", "ratio/old_new/max"
KL = ("kl/policy_ref_k1/seq_sum", "kl/policy_ref_k1/token_mean")
NO_RESUME = "The log does not say whether the run was resumed."


@sign("gradients-not-finite")
def gradients_not_finite(facts: Facts) -> Answer:
    """A gradient was NaN or infinite."""
    stage = facts.policy
    norm = stage.metrics.get(GRADIENT) if stage else None
    count = stage.metrics.get(NONFINITE) if stage else None
    if count is None and (norm is None or np.isnan(norm.values).all()):
        return unknown("Neither the gradient norm nor a count of updates that were skipped is logged.", GRADIENT)
    bad = {int(s) for s in count.steps[count.values > 0]} if count is not None else set[int]()
    if norm is not None:
        logged = np.maximum.accumulate(~np.isnan(norm.values))  # NaN before the first number means not logged
        bad |= {int(s) for s in norm.steps[logged & ~np.isfinite(norm.values)]}
    if not bad:
        return no("Every gradient was finite.")
    at = min(bad)
    return yes(f"Gradients were not finite in {len(bad)} step(s), first at {at}.", Onset(at, (at, at)))


@sign("ratio-explodes-before-nan")
def ratio_explodes_before_nan(facts: Facts) -> Answer:
    """In the three steps before the first gradient that is not finite, a log-ratio beyond 20 or a gradient 100 times
    its median."""
    answer = gradients_not_finite(facts)
    if answer.holds is not True or answer.onset is None:
        return Answer(answer.holds, answer.summary, answer.missing)
    at = answer.onset.step
    ratio = first_of(facts.policy, (RATIO_MAX,)) if facts.policy else None
    norm = first_of(facts.policy, (GRADIENT,)) if facts.policy else None
    if ratio is None and norm is None:
        return unknown("Neither ratio nor gradient norm is logged before it.", RATIO_MAX, GRADIENT)
    if ratio is not None and (ratio.values[(ratio.steps <= at) & (ratio.steps >= at - 3)] > np.exp(20)).any():
        return yes("A ratio of new to old policy was beyond e^20.")
    if norm is not None:
        before = norm.values[(norm.steps < at) & (norm.steps >= at - 3)]
        if (before > 100 * np.median(norm.values)).any():
            return yes(f"The gradient norm reached {before.max():.3g} just before.")
    return no("Ratio and gradient were as usual just before.")


@sign("updates-skipped")
def updates_skipped(facts: Facts) -> Answer:
    """In a step whose gradient was not finite the weights did not change."""
    answer = gradients_not_finite(facts)
    if answer.holds is not True:
        return Answer(answer.holds, answer.summary, answer.missing)
    update = first_of(facts.policy, (UPDATE,)) if facts.policy else None
    if update is None or answer.onset is None:
        return unknown("The size of the updates is not logged.", UPDATE)
    size = update.values[update.steps == answer.onset.step]
    if not len(size):
        return unknown("The size of the update is not logged for that step.", UPDATE)
    text = f"In step {answer.onset.step} the weights moved by {size[0]:.3g}."
    return yes(text) if size[0] == 0 else no(text)


@sign("fewer-weights-move-at-lower-rate")
def fewer_weights_move_at_lower_rate(facts: Facts) -> Answer:
    """The share of weights that a step changes falls with the learning rate, by rank beyond 0.6: what does not change
    is rounded away. Weights without a gradient stay the same share at every rate."""
    stage = facts.policy
    found = together(stage, CHANGED, RATE)
    if found is None:
        return unknown("The share of weights that a step changes is not logged.", CHANGED)
    changed, rate = found[1]
    if float(np.median(changed)) > 0.9:
        return no(f"A step changes {float(np.median(changed)):.0%} of the weights.")
    if np.ptp(rate) < 0.1 * rate.max():
        return unknown("The learning rate hardly changes.", RATE)
    relation = rank_correlation(changed, rate)
    text = f"Rank correlation of the share of weights that change and the learning rate is {relation:.2f}."
    return yes(text) if relation > 0.6 else no(text)


@sign("updates-vanish")
def updates_vanish(facts: Facts) -> Answer:
    """In at least three steps the weights did not change at all, or by less than a ten-millionth, although learning
    rate and gradient were above 0."""
    stage = facts.policy
    update, weights = (first_of(stage, (key,), 5) if stage else None for key in (UPDATE, WEIGHTS))
    norm, rate = (first_of(stage, (key,), 5) if stage else None for key in (GRADIENT, RATE))
    if update is None or weights is None or norm is None or rate is None:
        return unknown("The size of the updates is not logged.", UPDATE, WEIGHTS)
    if not (np.median(norm.values) > 0 and np.median(rate.values) > 0):
        return no("Gradient or learning rate is 0.")
    still = int((update.values < 1e-7 * float(np.median(weights.values))).sum())
    text = f"In {still} of {len(update.values)} steps the weights did not change."
    return yes(text) if still >= 3 else no(text)


@sign("learning-rate-restarts")
def learning_rate_restarts(facts: Facts) -> Answer:
    """At a resume the learning rate jumps back up, or otherwise off the line that it was on."""
    steps, rate = resume_steps(facts.run, facts.policy), None
    if steps is None or facts.policy is None:
        return unknown(NO_RESUME, "stages/ppo/events.jsonl: resume")
    if not steps:
        return no("The run was not resumed.")
    rate = first_of(facts.policy, (RATE,), 5)
    if rate is None:
        return unknown("The learning rate is not logged.", RATE)
    for step in steps:
        after = int(np.searchsorted(rate.steps, step, side="right"))
        if after < 2 or after >= len(rate.values):
            continue
        expected = 2 * rate.values[after - 1] - rate.values[after - 2]
        slope = float(np.median(np.abs(np.diff(rate.values))))
        off = abs(rate.values[after] - expected)
        if off > 3 * slope + 0.02 * float(rate.values.max()):
            return yes(
                f"The learning rate goes from {rate.values[after - 1]:.3g} to {rate.values[after]:.3g} at the resume "
                f"after step {step}.",
                Onset(int(rate.steps[after]), (step, int(rate.steps[after]))),
            )
    return no("The learning rate goes on where it was.")


@sign("prompts-start-over-after-resume")
def prompts_start_over_after_resume(facts: Facts) -> Answer:
    """The prompts of the steps after a resume are those of the first steps again."""
    steps, sample = resume_steps(facts.run, facts.policy), facts.rollouts
    if steps is None:
        return unknown(NO_RESUME, "stages/ppo/events.jsonl: resume")
    if not steps:
        return no("The run was not resumed.")
    if sample is None or not (sample.has("prompt_id") or sample.has("prompt")):
        return unknown("The rollouts do not say of which prompt they are.", "rollouts: prompt_id")
    order = sample.distinct_steps
    for step in steps:
        later = order[order > step][:3]
        for first, again in zip(order[:3], later, strict=False):
            old, new = (set(sample.prompt_codes[sample.steps == s].tolist()) for s in (first, again))
            if len(old) > 2 and len(old & new) > 0.8 * len(old):
                return yes(f"The prompts of step {again} are those of step {first}.",
                           Onset(int(again), (step, int(again))))  # fmt: skip
    return no("After the resume come other prompts than at the start.")


@sign("kl-falls-to-zero-at-resume")
def kl_falls_to_zero_at_resume(facts: Facts) -> Answer:
    """At a resume the KL to the reference falls to less than a tenth, as when the reference was loaded from the
    policy."""
    steps = resume_steps(facts.run, facts.policy)
    kl = first_of(facts.policy, KL, 5) if facts.policy else None
    if steps is None:
        return unknown(NO_RESUME, "stages/ppo/events.jsonl: resume")
    if not steps:
        return no("The run was not resumed.")
    if kl is None:
        return unknown("No KL to the reference is logged.", *KL)
    for step in steps:
        after = int(np.searchsorted(kl.steps, step, side="right"))
        before = kl.values[max(0, after - 3) : after]
        if after < len(kl.values) and len(before) and np.median(before) > 0:
            value = float(kl.values[after])
            if value < 0.1 * float(np.median(before)):
                return yes(f"KL falls from {np.median(before):.3g} to {value:.3g} at the resume after step {step}.",
                           Onset(int(kl.steps[after]), (step, int(kl.steps[after]))))  # fmt: skip
    return no("KL goes on where it was.")
