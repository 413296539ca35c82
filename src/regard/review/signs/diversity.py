"""Entropy, variety within a response, within a prompt and between prompts; and skills that nobody trains."""

import numpy as np

from regard.review.answers import POOLED
from regard.review.facts import Facts
from regard.review.outcome import Onset
from regard.review.signs import Answer, no, sign, unknown, yes
from regard.review.signs.hacking import texts_of
from regard.review.statistics import GOLD, Reading, best_part, first_of, lasting
from regard.text import rank_correlation

ENTROPY = ("entropy/policy/token_mean", "entropy/policy_sampled/token_mean")
SCORE = ("score/reward_model/mean",)
PROBE = ("eval/probe_nll/token_mean",)
KL = ("kl/policy_ref_k1/seq_sum", "kl/policy_ref_k3/token_mean", "kl/policy_ref_k1/token_mean")
ENTROPY_SETTINGS = ("ppo.entropy_coef", "entropy_coef", "entropy_coeff", "ent_coef")

FELL, ROSE, ROSE_BACK, ROSE_ERRORS = 0.3, 1.3, 1.15, 6.0
ALIKE = 0.6
POINTS, STEEPER, CHANGE, WIDTH = 200, 2.5, 8.0, 3.0
BONUS = 0.03
COLD = 0.65
LOST_NATS, LOST_TIMES = 6.0, 3.0
FOLLOWS = 0.8


def entropy_of(facts: Facts) -> Reading | None:
    return first_of(facts.policy, ENTROPY, 8) if facts.policy else None


def turn(reading: Reading, direction: float) -> Onset:
    """Where a series begins to go in a direction (1 up, -1 down): the bend of the best broken line through its
    logarithm, if the slope beyond it is at least 2.5 times the slope before and explains the series better by 8 nats of
    likelihood; else step 0. The interval holds all bends within 3 nats of the best."""
    parts = np.array_split(np.arange(len(reading.values)), min(len(reading.values), POINTS))
    y = np.log(np.maximum(np.array([reading.values[part].mean() for part in parts]), 1e-6))
    steps = np.array([reading.steps[part[0]] for part in parts])
    t = np.arange(len(y), dtype=np.float64)
    line = np.stack([np.ones_like(t), t], axis=1)
    bends = range(3, len(y) - 3)
    fits: list[float] = []
    straight = float(np.sum((y - line @ np.linalg.lstsq(line, y, rcond=None)[0]) ** 2))
    for bend in bends:
        broken = np.concatenate([line, np.maximum(0, t - bend)[:, None]], axis=1)
        weights = np.linalg.lstsq(broken, y, rcond=None)[0]
        before, after = direction * weights[1], direction * (weights[1] + weights[2])
        rest = float(np.sum((y - broken @ weights) ** 2))
        fits.append(
            -len(y) / 2 * float(np.log(max(rest, 1e-12))) if after > 0 and after >= STEEPER * before else float("-inf")
        )
    if not fits or max(fits) + len(y) / 2 * np.log(max(straight, 1e-12)) < CHANGE:
        return Onset(0, (0, 0))
    near = [bend for bend, fit in zip(bends, fits, strict=True) if fit >= max(fits) - WIDTH]
    best = bends[int(np.argmax(fits))]
    return Onset(int(steps[best]), (int(steps[near[0] - 1]), int(steps[min(len(y) - 1, near[-1] + 1)])))


@sign("entropy-fell-far")
def entropy_fell_far(facts: Facts) -> Answer:
    """Entropy per token ends below three tenths of its start."""
    entropy = entropy_of(facts)
    if entropy is None or entropy.start <= 0:
        return unknown("No entropy per token is logged.", ENTROPY[0])
    if float(entropy.values.min()) < 0:
        return unknown("The logged entropy is negative, so something else is summed into it.", ENTROPY[0])
    text = f"Entropy goes from {entropy.start:.3g} to {entropy.end:.3g} nats a token."
    if entropy.end >= FELL * entropy.start:
        return no(text)
    half = entropy.start / 2
    spell = lasting(entropy, lambda values: values < half)
    return yes(text, spell.onset if spell else None, root=turn(entropy, -1.0))


@sign("entropy-rises")
def entropy_rises(facts: Facts) -> Answer:
    """Entropy per token ends above 1.3 times its start, or the last fifth of the run averages 1.15 times the lowest
    fifth, and six standard errors more."""
    entropy = entropy_of(facts)
    if entropy is None or entropy.start <= 0:
        return unknown("No entropy per token is logged.", ENTROPY[0])
    text = f"Entropy goes from {entropy.start:.3g} to {entropy.end:.3g} nats a token."
    lowest, negative, error, _ = best_part(Reading(entropy.key, entropy.steps, -entropy.values), 5)
    low, last = -negative[lowest], -negative[-1]
    back = low > 0 and last > ROSE_BACK * low and last - low > ROSE_ERRORS * error
    if entropy.end <= ROSE * entropy.start and not back:
        return no(text)
    middle = (min(low, entropy.start) + entropy.end) / 2
    spell = lasting(entropy, lambda values: values > middle)
    return yes(text, spell.onset if spell else None, root=turn(entropy, 1.0))


@sign("entropy-bonus-large")
def entropy_bonus_large(facts: Facts) -> Answer:
    """The weight of the entropy bonus is 0.03 or more, against advantages of deviation 1."""
    if not facts.run.config:
        return unknown("The configuration is not there.", "config: ppo.entropy_coef")
    bonus = facts.number(*ENTROPY_SETTINGS)
    if bonus is None:
        return no("No entropy bonus is configured.")
    text = f"The entropy bonus has weight {bonus:g}."
    return yes(text, root=Onset(0, (0, 0))) if bonus >= BONUS else no(text)


@sign("sampling-cold")
def sampling_cold(facts: Facts) -> Answer:
    """Responses are sampled at a temperature below 0.65."""
    if not facts.run.config:
        return unknown("The configuration is not there.", "config: ppo.temperature")
    temperature = facts.number("ppo.temperature", "temperature")
    if temperature is None:
        return unknown("The sampling temperature is not in the configuration.", "config: ppo.temperature")
    text = f"Sampled at temperature {temperature:g}."
    return yes(text) if temperature < COLD else no(text)


@sign("groups-say-the-same")
def groups_say_the_same(facts: Facts) -> Answer:
    """Responses to one prompt were different at first, and below six in ten of them are at last."""
    share = first_of(facts.policy, ("group/distinct_text/frac",), 8) if facts.policy else None
    if share is None:
        return unknown("The variety within prompts is not logged.", "group/distinct_text/frac")
    text = f"{share.start:.0%} of the responses to one prompt are distinct at first, {share.end:.0%} at last."
    if share.end >= ALIKE or share.start < 0.8:
        return no(text)
    spell = lasting(share, lambda values: values < 0.8)
    return yes(text, spell.onset if spell else None)


@sign("pooled-variety-lost")
def pooled_variety_lost(facts: Facts) -> Answer:
    """Over all responses the share of distinct word pairs falls below a quarter of its start, for whatever reason."""
    answers = texts_of(facts)
    if isinstance(answers, Answer):
        return answers
    first, last = answers.pooled_variety()
    if not np.isfinite(first) or first <= 0:
        return unknown("The responses are too short for word pairs.", "rollouts: response")
    text = f"{first:.0%} of the word pairs over all responses are distinct at first, {last:.0%} at last."
    return yes(text) if last < POOLED * first else no(text)


@sign("openings-settle")
def openings_settle(facts: Facts) -> Answer:
    """The first two tokens of a response lose most of their entropy, and the rest does not."""
    answers = texts_of(facts)
    if isinstance(answers, Answer):
        return answers
    logprobs = answers.sample.per_token.get("logprobs")
    if logprobs is None:
        return unknown("The rollouts have no log-probabilities.", "rollouts: logprobs")
    ratios: list[float] = []
    for first in (True, False):
        at = (logprobs.positions < 2) == first
        cost = [float(-logprobs.values[at & rows[logprobs.rows]].mean()) for rows in (answers.early, answers.late)
                if (at & rows[logprobs.rows]).any()]  # fmt: skip
        if len(cost) < 2 or cost[0] <= 0:
            return unknown("The responses are too short.", "rollouts: logprobs")
        ratios.append(cost[1] / cost[0])
    text = (
        f"Surprise of the first two tokens at last is {ratios[0]:.2f} of that at first, of the others {ratios[1]:.2f}."
    )
    return yes(text) if ratios[0] < 0.35 and ratios[1] > 2 * ratios[0] else no(text)


@sign("skill-lost")
def skill_lost(facts: Facts) -> Answer:
    """A skill that is not trained gets worse: its loss rises by 6 nats a token and to three times its start."""
    probe = first_of(facts.policy, PROBE, 4) if facts.policy else None
    if probe is None:
        return unknown("No skill outside the training task is measured.", PROBE[0])
    start, end = float(probe.values[0]), probe.end
    text = f"The loss on the skill that is not trained goes from {start:.3g} to {end:.3g} nats a token."
    if end - start < LOST_NATS or end < LOST_TIMES * start:
        return no(text)
    middle = start + LOST_NATS
    spell = lasting(probe, lambda values: values > middle)
    return yes(text, spell.onset if spell else None)


@sign("skill-lost-while-task-improves")
def skill_lost_while_task_improves(facts: Facts) -> Answer:
    """A skill that is not trained gets worse, while gold of the task does not."""
    lost = skill_lost(facts)
    if not lost.holds:
        return lost
    gold = first_of(facts.policy, GOLD, 8) if facts.policy else None
    if gold is None:
        return unknown("Nobody independent judges the task.", "gold/judge/mean")
    spread = float(np.std(gold.values - np.convolve(np.pad(gold.values, 2, mode="edge"), np.ones(5) / 5, mode="valid")))
    text = f"{lost.summary} Gold goes from {gold.start:.3g} to {gold.end:.3g}."
    return yes(text, lost.onset) if gold.end >= gold.start - spread else no(text)


@sign("skill-falls-with-kl")
def skill_falls_with_kl(facts: Facts) -> Answer:
    """The loss on the skill that is not trained rises, and follows the KL to the reference (rank correlation 0.8)."""
    lost = skill_lost(facts)
    if not lost.holds:
        return lost
    probe, kl = (first_of(facts.policy, keys, 5) for keys in (PROBE, KL)) if facts.policy else (None, None)
    if probe is None or kl is None:
        return unknown("There are too few measurements of KL and of the skill.", KL[0])
    at = np.interp(probe.steps, kl.steps, kl.values)
    rho = rank_correlation(at, probe.values)
    text = f"Loss on the skill and KL: ρ = {rho:.2f} over {len(at)} measurements."
    return yes(text) if rho >= FOLLOWS else no(text)
