"""Whether a measurement can carry a verdict at all."""

from typing import Any, cast

import numpy as np

from regard.review.facts import Facts
from regard.review.signs import Answer, no, sign, unknown, yes
from regard.review.statistics import first_of

SENTINEL = ("entropy/policy/token_mean", "entropy/policy_sampled/token_mean", "entropy/policy/unmasked_mean")
SAME_JUDGE = 0.995
FEW_PROMPTS = 32


@sign("entropy-holds-sentinels")
def entropy_holds_sentinels(facts: Facts) -> Answer:
    """The logged entropy is negative, which no entropy of tokens is: something else is summed into it."""
    entropy = first_of(facts.policy, SENTINEL, 3) if facts.policy else None
    if entropy is None:
        return unknown("No entropy is logged.", SENTINEL[0])
    least = float(entropy.values.min())
    text = f"The smallest logged entropy is {least:.3g} nats."
    return yes(text) if least < -1e-3 else no(text)


@sign("judge-is-the-reward-model")
def judge_is_the_reward_model(facts: Facts) -> Answer:
    """What is called gold ranks responses exactly as the score does, so it is no independent judge."""
    sample = facts.rollouts
    if sample is None or not sample.has("gold", "score"):
        return unknown("The rollouts have no gold beside the score.", "rollouts: gold")
    gold, score = sample.numbers["gold"], sample.numbers["score"]
    ended = sample.numbers["truncated"] != 1  # a cut response pays a penalty that gold does not
    good = np.isfinite(gold) & np.isfinite(score) & ended
    if good.sum() < FEW_PROMPTS or np.std(gold[good]) == 0 or np.std(score[good]) == 0:
        return unknown("Gold or score does not vary.", "rollouts: gold")
    rho = float(np.corrcoef(gold[good], score[good])[0, 1])
    text = f"Gold and score of {int(good.sum())} responses correlate with {rho:.4f}."
    return yes(text) if rho >= SAME_JUDGE else no(text)


@sign("comparison-too-small")
def comparison_too_small(facts: Facts) -> Answer:
    """Before and after were compared on fewer than 32 prompts, and the interval of their difference holds 0."""
    gold = cast(dict[str, Any], facts.run.summary.get("gold") or {})
    try:
        low, high = (float(end) for end in gold["ci95"])
        number = int(gold["n"])
    except (KeyError, TypeError, ValueError):
        return unknown("The record compares no gold before and after.", "summary: gold")
    text = f"Gold changed by {low:+.3g} to {high:+.3g} (95 %), measured on {number} prompts."
    return yes(text) if number < FEW_PROMPTS and low <= 0 <= high else no(text)
