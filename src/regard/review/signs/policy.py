"""The step of the policy: its size, its growth over the epochs, what the clip does, what advantages are made of."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats  # pyright: ignore[reportMissingTypeStubs]

from regard.review.facts import Facts
from regard.review.outcome import Onset
from regard.review.signs import Answer, no, sign, unknown, yes
from regard.review.signs.diversity import ENTROPY_SETTINGS
from regard.review.signs.kl import (
    KL_SEQUENCE,
    KL_TOKEN,
    LENGTH,
    SCORE,
    SCORE_STD,
    at,
    began,
    gain,
    kl_per_sequence,
    reading,
)
from regard.review.statistics import Floats, Reading, best_part, lasting, smooth
from regard.runlog.sample import RolloutSample

DISTANCE = ("kl/old_new_k2/mean", "kl/old_new_k2/unmasked_mean")
CLIPPED = ("clip/policy/frac", "clip/policy_sequences/frac")
RATE, UPDATE, WEIGHTS = "optim/learning_rate/last", "optim/update_norm/value", "optim/param_norm/value"
UPDATES, STOPPED = "optim/updates/count", "optim/early_stopped/flag"
NORMALISED, NORMALISED_STD = "advantage/normalised/mean", "advantage/normalised/std"
EPOCH_SETTINGS = ("ppo.epochs", "num_ppo_epochs", "ppo_epochs", "noptepochs", "num_iterations", "max_epochs")
CLIP_SETTINGS = ("ppo.clip_range", "cliprange", "clip_ratio", "eps_clip", "epsilon")

FAR_UPDATE = 0.015
FAR_FIRST_PASS = 0.03
FALL = 3.0
TINY, TINY_KL, TINY_SEQUENCE = 5e-5, 0.005, 0.3
GONE, GONE_SHARE = 0.05, 0.3
MANY_EPOCHS, GROWS, FAR_LAST = 5, 4.0, 0.015
TIGHT_CLIPPED, TIGHT_DISTANCE = 0.15, 0.005
TIGHT, WIDE = 0.05, 0.6
MEAN_OFF, STD_OFF = 0.05, 0.1
FORGOTTEN, REACH, FADES = 0.5, 0.05, 0.6
FEW, NOISY = 16, 0.25
SATURATED = 0.1
LOSS, TERM, CENTRED = "loss/policy/mean", 0.05, 0.05
STEADY, FEW_OFF, BETTER = 0.05, 0.15, 0.8
ENTROPY = "entropy/policy/token_mean"
DIVERGENCES = tuple(f"kl/policy_ref_{estimator}/token_mean" for estimator in ("k1", "k3", "k2"))
JUMP, OUTRUN, PERSISTS = 2.0, 3.0, 4


# How far one step goes


@sign("one-step-moves-weights-far")
def one_step_moves_weights_far(facts: Facts) -> Answer:
    """Three times in a row or more an optimiser step changes the weights by more than 1.5 % of their norm."""
    update, weights = reading(facts, UPDATE, least=3), reading(facts, WEIGHTS, least=1)
    if update is None or weights is None:
        return unknown("The norm of the update is not logged beside that of the weights.", UPDATE, WEIGHTS)
    counts = reading(facts, UPDATES, least=1)
    number = float(np.median(counts.values)) if counts is not None else 1.0
    relative = (
        update.values / np.maximum(np.interp(update.steps, weights.steps, weights.values), 1e-30) / max(1.0, number)
    )
    series = Reading(UPDATE, update.steps, relative)
    return _above(series, FAR_UPDATE, "An optimiser step changes the weights by up to {:.2g} of their norm.")


def _above(of: Reading, limit: float, text: str) -> Answer:
    """Yes where the running median of three is above the limit somewhere."""
    level = smooth(of.values)
    text = text.format(float(level.max()))
    above = np.flatnonzero(level > limit)
    if not len(above):
        return no(text)
    onset = began(of, int(above[0]))
    return yes(text, onset, root=onset)


@sign("far-in-first-pass")
def far_in_first_pass(facts: Facts) -> Answer:
    """Three times in a row or more the policy moves by more than 0.03 nats per token already in the first pass over its
    rollouts; with too many epochs the first pass is calm."""
    first = reading(facts, "kl/old_new_k2/epoch_1", least=3)
    if first is None:
        return unknown("The distance by epoch is not logged.", "kl/old_new_k2/epoch_1")
    return _above(first, FAR_FIRST_PASS, "In the first pass the policy moves by up to {:.2g} nats per token.")


@sign("score-falls-back")
def score_falls_back(facts: Facts) -> Answer:
    """The score ends below the best fifth of the run by three standard errors and half of a deviation of the scores."""
    score = reading(facts, SCORE, least=10)
    if score is None:
        return unknown("There are not ten values of the score.", SCORE)
    best, means, error, onset = best_part(score, 5)
    deviation = reading(facts, SCORE_STD, least=1)
    size = 0.5 * deviation.start if deviation is not None else 0.0
    text = f"The score's best fifth averages {means[best]:.3g}, the last {means[-1]:.3g}."
    return no(text) if means[best] - means[-1] <= max(FALL * error, size) else yes(text, onset)


@sign("policy-hardly-moves")
def policy_hardly_moves(facts: Facts) -> Answer:
    """An iteration moves the policy by less than 5e-5 nats per token in the median, and the whole run takes it less
    than 0.3 nats per sequence (0.005 per token where the length is unknown) from the reference; a ratio of 1 alone is
    right with one update for each batch."""
    distance = reading(facts, *DISTANCE)
    kl, limit, unit = kl_per_sequence(facts), TINY_SEQUENCE, "sequence"
    if kl is None:
        kl, limit, unit = reading(facts, *KL_TOKEN), TINY_KL, "token"
    if kl is None:
        return unknown("The KL to the reference is not logged.", KL_TOKEN[0])
    text = f"The KL ends at {kl.end:.2g} nats per {unit}"
    if distance is None:
        return no(text + ".") if kl.end > limit else unknown(text + ", and no update's own.", DISTANCE[0])
    level = float(np.median(distance.values))
    text += f", and an iteration moves the policy by {level:.2g} per token."
    return yes(text, root=Onset(0, (0, 0))) if level < TINY and abs(kl.end) < limit else no(text)


@sign("updates-fade-away")
def updates_fade_away(facts: Facts) -> Answer:
    """For 30 % of the run or more the learning rate is below a twentieth of its peak, or the weights change by less
    than a hundredth of what they did."""
    rate, update = reading(facts, RATE, least=6), reading(facts, UPDATE, least=6)
    if rate is None and update is None:
        return unknown("Neither learning rate nor norm of the update is logged.", RATE, UPDATE)
    for one, limit in ((rate, GONE), (update, GONE / 5)):
        if one is None or one.values.max() <= 0:
            continue
        level = limit * float(np.quantile(one.values, 0.9))
        low = one.values < level
        if low.mean() >= GONE_SHARE:
            spell = lasting(one, lambda values, level=level: values < level)
            onset = began(one, spell.first) if spell is not None else None
            return yes(f"{one.key} is next to nothing in {low.mean():.0%} of the steps.", onset, root=onset)
    return no("The learning rate does not vanish before the end.")


# How it grows over the epochs, and what the clip does


@sign("distance-grows-over-epochs")
def distance_grows_over_epochs(facts: Facts) -> Answer:
    """With five epochs or more, the last one that is logged is four times as far from the policy that sampled as the
    second, and more than 0.015 nats per token."""
    epochs = [one for k in range(1, 9) if (one := reading(facts, f"kl/old_new_k2/epoch_{k}", least=3)) is not None]
    if not epochs:
        return _only_mean(facts)
    if len(epochs) < MANY_EPOCHS:
        return no(f"An iteration has {len(epochs)} epochs.")
    second, last = (float(np.median(one.values)) for one in (epochs[1], epochs[-1]))
    text = f"After two epochs the policy is {second:.2g} nats per token away, after {len(epochs)} it is {last:.2g}."
    return yes(text) if last > FAR_LAST and last > GROWS * second else no(text)


def _only_mean(facts: Facts) -> Answer:
    number = facts.number(*EPOCH_SETTINGS)
    if number is not None and number < MANY_EPOCHS:
        return no(f"An iteration has {number:.0f} epochs.")
    return unknown("The distance by epoch is not logged.", "kl/old_new_k2/epoch_1", f"config: {EPOCH_SETTINGS[0]}")


@sign("clip-grows-over-epochs")
def clip_grows_over_epochs(facts: Facts) -> Answer:
    """With five epochs or more, the last that is logged clips 10 % of the tokens and twice as many as the second."""
    epochs = [one for k in range(1, 9) if (one := reading(facts, f"clip/policy/epoch_{k}", least=3)) is not None]
    if not epochs:
        return _only_mean(facts)
    if len(epochs) < MANY_EPOCHS:
        return no(f"An iteration has {len(epochs)} epochs.")
    second, last = (float(np.median(one.values)) for one in (epochs[1], epochs[-1]))
    text = f"In the second epoch {second:.1%} of the tokens are clipped, in epoch {len(epochs)} {last:.1%}."
    return yes(text) if last > 0.1 and last > 2 * second else no(text)


@sign("many-epochs")
def many_epochs(facts: Facts) -> Answer:
    """Each batch of rollouts is gone over six times or more."""
    done, number = reading(facts, "optim/epochs_done/count", least=1), facts.number(*EPOCH_SETTINGS)
    if done is not None:
        number = float(np.median(done.values))
    if number is None:
        return unknown("The number of epochs is not known.", "optim/epochs_done/count", f"config: {EPOCH_SETTINGS[0]}")
    text = f"Each batch is gone over {number:.0f} times."
    return yes(text) if number >= 6 else no(text)


@sign("clipped-though-near")
def clipped_though_near(facts: Facts) -> Answer:
    """More than 15 % of the tokens are clipped, and the policy moves by less than 0.005 nats per token: the clip range
    is smaller than a usual step."""
    clipped, distance = reading(facts, *CLIPPED), reading(facts, *DISTANCE)
    if clipped is None or distance is None:
        return unknown("Clipped share and distance are not both logged.", CLIPPED[0], DISTANCE[0])
    share, moved = float(np.median(clipped.values)), float(np.median(distance.values))
    text = f"{share:.0%} of the tokens are clipped at a distance of {moved:.2g} nats per token."
    return yes(text) if share > TIGHT_CLIPPED and moved < TIGHT_DISTANCE else no(text)


@sign("clip-range-tight")
def clip_range_tight(facts: Facts) -> Answer:
    """The clip range is below 0.05; 0.1 to 0.3 are usual."""
    return _clip_range(facts, lambda value: value < TIGHT)


@sign("clip-range-wide")
def clip_range_wide(facts: Facts) -> Answer:
    """The clip range is above 0.6, where it no longer holds anything back."""
    return _clip_range(facts, lambda value: value > WIDE)


def _clip_range(facts: Facts, beyond: Callable[[float], bool]) -> Answer:
    value = facts.number(*CLIP_SETTINGS)
    if value is None:
        return unknown("The clip range is not known.", f"config: {CLIP_SETTINGS[0]}")
    return yes(f"The clip range is {value:.3g}.") if beyond(value) else no(f"The clip range is {value:.3g}.")


# What advantages are made of


def _whitened(facts: Facts) -> bool | None:
    value = facts.setting("ppo.whiten_advantages", "whiten_advantages", "normalize_advantage", "advantage_whitening")
    return value if isinstance(value, bool) else None


@sign("advantages-not-centred")
def advantages_not_centred(facts: Facts) -> Answer:
    """Advantages are said to be whitened, and over the response's tokens their mean is not 0 ± 0.05."""
    found = standard_of(facts)
    return found if isinstance(found, Answer) else _off(found[0], np.abs(found[0].values), MEAN_OFF, "mean")


@sign("advantages-not-scaled")
def advantages_not_scaled(facts: Facts) -> Answer:
    """Advantages are said to be whitened, and over the response's tokens their deviation is not 1 ± 0.1."""
    found = standard_of(facts)
    return found if isinstance(found, Answer) else _off(found[1], np.abs(found[1].values - 1), STD_OFF, "deviation")


def standard_of(facts: Facts) -> tuple[Reading, Reading] | Answer:
    """Mean and deviation of the advantages by step, over the response's tokens."""
    if _whitened(facts) is not True:
        return unknown("The configuration does not say that advantages are whitened.", "config: ppo.whiten_advantages")
    sample, found = facts.rollouts, facts.rollouts.per_token.get("advantages") if facts.rollouts is not None else None
    if sample is not None and found is not None:
        steps = sample.distinct_steps
        rows = np.searchsorted(steps, sample.steps[found.rows])
        count = np.maximum(np.bincount(rows, minlength=len(steps)), 1)
        means = np.bincount(rows, weights=found.values, minlength=len(steps)) / count
        squares = np.bincount(rows, weights=found.values**2, minlength=len(steps)) / count
        deviations = np.sqrt(np.maximum(squares - means**2, 0.0))
        return Reading("advantages", steps, means), Reading("advantages", steps, deviations)
    mean, deviation = reading(facts, NORMALISED), reading(facts, NORMALISED_STD)
    if mean is None or deviation is None:
        return unknown("The advantages are not recorded.", "rollouts: advantages", NORMALISED, NORMALISED_STD)
    return mean, deviation


def _off(of: Reading, off: Floats, limit: float, what: str) -> Answer:
    text = f"Over the tokens of the responses the {what} of the advantages is {np.median(of.values):.3g}."
    share = np.cumsum((off > limit)[::-1])[::-1] / np.arange(len(off), 0, -1)  # of the points from each one to the end
    since = np.flatnonzero((share > 0.6) & (off > limit))
    if not len(since) or len(off) - since[0] <= len(off) // 4:
        return no(text)
    onset = began(of, int(since[0]))
    return yes(text, onset, root=onset)


def _row_advantages(sample: RolloutSample) -> tuple[Floats, Floats, Floats] | None:
    """[N] mean, deviation and number of each response's advantages."""
    found = sample.per_token.get("advantages")
    if found is None:
        return None
    count = np.maximum(found.lengths, 1)
    mean = found.sums() / count
    square = np.bincount(found.rows, weights=found.values**2, minlength=len(count)) / count
    return mean, np.sqrt(np.maximum(square - mean**2, 0.0)), found.lengths.astype(np.float64)


@sign("advantages-centred-by-response")
def advantages_centred_by_response(facts: Facts) -> Answer:
    """The advantages of nearly every single response average 0, so none is better than another as a whole."""
    sample = facts.rollouts
    rows = _row_advantages(sample) if sample is not None else None
    if sample is None or rows is None:
        return unknown("The advantages are not recorded.", "rollouts: advantages")
    mean, deviation, length = rows
    long = (length >= 2) & (deviation > 1e-6)
    if long.sum() < 20:
        return unknown("Too few responses have several tokens with different advantages.", "rollouts: advantages")
    flat = np.abs(mean) < 1e-3
    steps, shares = sample.by_step(np.where(long, flat.astype(np.float64), np.nan))
    known = np.isfinite(shares)
    series = Reading("advantages", steps[known], shares[known])
    spell = lasting(series, lambda values: values > 0.8)
    text = f"{flat[long].mean():.0%} of the responses have advantages that average 0."
    if spell is None:
        return no(text)
    onset = began(series, spell.first)
    return yes(text, onset, root=onset)


@sign("credit-ignores-score")
def credit_ignores_score(facts: Facts) -> Answer:
    """Within prompts the response with the higher reward has the higher mean advantage in fewer than 60 % of the cases
    late in the run."""
    sample = facts.rollouts
    rows = _row_advantages(sample) if sample is not None else None
    if sample is None or rows is None or not sample.has("score"):
        return unknown("Scores and advantages are not both recorded.", "rollouts: score", "rollouts: advantages")
    reward = sample.per_token["rewards"].sums() if "rewards" in sample.per_token else sample.numbers["score"]
    every = np.ones(len(sample), dtype=bool)
    better, credit = sample.within_prompt(reward, every), sample.within_prompt(rows[0], every)
    known = np.isfinite(better) & np.isfinite(credit) & (np.abs(better) > 1e-9)
    if known.sum() < 40:
        return unknown("No prompt has several responses.", "rollouts: several responses to each prompt")
    agree = np.where(known, np.sign(better) == np.sign(credit), np.nan).astype(np.float64)
    late = sample.steps >= np.quantile(sample.distinct_steps, 0.6)
    share = float(np.nanmean(agree[late & known])) if (late & known).any() else float(np.nanmean(agree))
    text = f"The response with the higher reward gets the higher advantage in {share:.0%} of the cases."
    return yes(text) if share < 0.6 else no(text)


@sign("score-discounted-away")
def score_discounted_away(facts: Facts) -> Answer:
    """γ to the power of the mean length is below one half: the score at the end hardly counts at the first token."""
    gamma, length = facts.number("ppo.gamma", "gamma"), reading(facts, LENGTH, least=1)
    if gamma is None:
        return unknown("The discount is not known.", "config: ppo.gamma")
    if gamma >= 1:
        return no("There is no discount.")
    if length is None:
        return unknown("The length of the responses is not logged.", LENGTH)
    left = gamma ** float(np.median(length.values))
    text = (
        f"With γ = {gamma:.3g}, {left:.2g} of the score is left at the first of {np.median(length.values):.3g} tokens."
    )
    return yes(text) if left < FORGOTTEN else no(text)


@sign("credit-fades-before-start")
def credit_fades_before_start(facts: Facts) -> Answer:
    """(γλ) to the power of the mean length is below 0.05 while the value explains less than 30 % of the returns, so
    neither the score nor the value tells the first tokens anything."""
    gamma, lam = facts.number("ppo.gamma", "gamma"), facts.number("ppo.gae_lambda", "gae_lambda", "lam", "lambd")
    length, explained = reading(facts, LENGTH, least=1), reading(facts, "value/explained_variance/value", least=3)
    if gamma is None or lam is None or length is None:
        return unknown("γ, λ and length are not all known.", "config: ppo.gamma, ppo.gae_lambda", LENGTH)
    left = (gamma * lam) ** float(np.median(length.values))
    text = f"(γλ)^length is {left:.2g}"
    if left >= REACH:
        return no(text + ".")
    if explained is None:
        return unknown(text + ", and the value's explained variance is not logged.", "value/explained_variance/value")
    text += f", and the value explains {explained.end:.0%} of the returns."
    return yes(text) if explained.end < 0.3 else no(text)


@sign("returns-fade-towards-start")
def returns_fade_towards_start(facts: Facts) -> Answer:
    """In responses of four tokens or more the return at the first token is less than 0.6 of what it is at the last."""
    sample = facts.rollouts
    found = sample.per_token.get("returns") if sample is not None else None
    if found is None:
        return unknown("The returns are not recorded.", "rollouts: returns")
    long = np.flatnonzero(found.lengths >= 4)
    if len(long) < 40:
        return unknown("Too few responses have four tokens.", "rollouts: longer responses")
    first, last = (float(np.sqrt(np.mean(found.values[at] ** 2)))
                   for at in (found.offsets[long], found.offsets[long + 1] - 1))  # fmt: skip
    text = f"The return averages {first:.3g} in size at the first token and {last:.3g} at the last."
    return yes(text) if first < FADES * last else no(text)


# How much one update learns from


@sign("few-rollouts")
def few_rollouts(facts: Facts) -> Answer:
    """An update sees fewer than 16 responses."""
    number = rollouts_per_update(facts)
    if number is None:
        return unknown("The number of responses of an update is not known.", "data/prompts_seen/count",
                       "rollouts: one row per response", "config: ppo.batch_size")  # fmt: skip
    text = f"An update sees {number:.0f} responses."
    return yes(text) if number < FEW else no(text)


@sign("gain-within-noise")
def gain_within_noise(facts: Facts) -> Answer:
    """The standard error of the mean score of one update is a quarter of the score's gain over the run or more."""
    number, score = rollouts_per_update(facts), reading(facts, SCORE, least=6)
    deviation = reading(facts, SCORE_STD, least=1)
    if number is None or score is None or deviation is None:
        return unknown("Score, its spread and the number of responses are not all known.", SCORE, SCORE_STD,
                       "data/prompts_seen/count")  # fmt: skip
    won, error = max(0.0, gain(score)[0]), deviation.start / math.sqrt(number)
    text = f"The mean score of an update has a standard error of {error:.2g}; the whole gain is {won:.2g}."
    return yes(text) if error > NOISY * won else no(text)


def rollouts_per_update(facts: Facts) -> float | None:
    sample = facts.rollouts
    seen = reading(facts, "data/prompts_seen/count", least=3)
    if seen is not None and len(np.unique(np.diff(seen.steps))) == 1 and np.median(np.diff(seen.values)) > 0:
        return float(np.median(np.diff(seen.values) / np.diff(seen.steps)))
    if sample is not None:
        return float(np.median(np.unique(sample.steps, return_counts=True)[1]))
    return facts.number("ppo.batch_size", "rollout_batch_size", "train_batch_size")


@sign("noise-scaled-to-one")
def noise_scaled_to_one(facts: Facts) -> Answer:
    """The score's deviation fell below a tenth of its start, and advantages are still scaled to one: what is left of
    the differences, noise, is blown up."""
    spread = reading(facts, SCORE_STD, "group/reward_std/mean", least=8)
    if spread is None or spread.start <= 0:
        return unknown("The spread of the score is not logged.", SCORE_STD)
    text = f"The spread of the score goes from {spread.start:.3g} to {spread.end:.3g}"
    if spread.end >= SATURATED * spread.start:
        return no(text + ".")
    scaled = reading(facts, NORMALISED_STD)
    whole = scaled is not None and scaled.end > 0.7
    if scaled is None and _whitened(facts) is None and facts.setting("scale_rewards") is None:
        return unknown(text + ", and it is not known whether advantages are scaled.", NORMALISED_STD)
    if not (whole or _whitened(facts) or facts.setting("scale_rewards") not in (None, False, "none")):
        return no(text + ", and advantages shrink with it.")
    limit = SATURATED * spread.start
    spell = lasting(spread, lambda values: values < limit)
    return yes(text + ", and advantages are still scaled to one.", spell.onset if spell is not None else None)


@sign("kl-rises-after-saturation")
def kl_rises_after_saturation(facts: Facts) -> Answer:
    """When the score reached 95 % of its gain half of the run or more lay ahead, and the KL more than doubled since."""
    score, kl = reading(facts, SCORE, least=10), kl_per_sequence(facts, 10)
    if score is None or kl is None:
        return unknown("Score and KL are not both logged.", SCORE, KL_SEQUENCE[0])
    won, error = gain(score)
    if won <= 3 * error:
        return no("The score does not gain.")
    level = score.start + 0.95 * won
    reached = np.flatnonzero(score.values >= level)
    text = (
        f"95 % of the gain are reached at step {score.steps[reached[0]]}" if len(reached) else "The gain is not reached"
    )
    if not len(reached) or reached[0] > len(score.values) // 2:
        return no(text + ".")
    then = max(0.1, float(np.interp(score.steps[reached[0]], kl.steps, kl.values)))
    text += f"; from there the KL goes from {then:.3g} to {kl.end:.3g}."
    return yes(text) if kl.end > 2 * then else no(text)


@sign("worse-responses-grow")
def worse_responses_grow(facts: Facts) -> Answer:
    """Responses of below-average score of their prompt get longer over the run, the better ones do not: by three
    standard errors of the difference of the slopes and by a fifth of the length."""
    sample = facts.rollouts
    if sample is None or not sample.has("score", "length"):
        return unknown("Score and length of the responses are not recorded.", "rollouts: score", "rollouts: length")
    every = np.ones(len(sample), dtype=bool)
    better = sample.within_prompt(sample.numbers["score"], every)
    growth: list[tuple[float, float]] = []
    for rows in (better < 0, better > 0):
        steps, lengths = sample.by_step(np.where(rows, sample.numbers["length"], np.nan))
        known = np.isfinite(lengths)
        if known.sum() < 10:
            return unknown("No prompt has several responses.", "rollouts: several responses to each prompt")
        fit = stats.linregress(steps[known], lengths[known])  # pyright: ignore
        span = float(steps[known][-1] - steps[known][0])
        growth.append((float(fit.slope) * span, float(fit.stderr) * span))  # pyright: ignore
    (worse, worse_error), (good, good_error) = growth
    text = f"Over the run the worse responses grow by {worse:+.2g} tokens, the better ones by {good:+.2g}."
    mean = float(np.nanmean(sample.numbers["length"]))
    far = worse - good > max(3 * math.hypot(worse_error, good_error), 0.2 * mean) and good < 0.3 * worse
    return yes(text) if far else no(text)


# What the loss and the rate say by arithmetic


@dataclass(frozen=True)
class HiddenTerm:
    """A term of the policy's loss that is no surrogate.

    Attributes:
        of: the metric that it is a multiple of.
        weight: by which factor; its sign is that of the loss.
        loss: the series.
        onset: the first step at which it shows, and between which it began: after the last step at which the loss is
            known to be without it.
    """

    of: str
    weight: float
    loss: Reading
    onset: Onset


def hidden_term(facts: Facts) -> HiddenTerm | Answer:
    """What the policy's loss is a multiple of, beside the surrogate; the answer "no" or "unknown" where it is of none.

    Averaged over tokens, and with advantages that average 0, the surrogate is 0 at the first update of a batch and
    little below it later. Where the loss is more than 0.05 from 0 over at least eight points to the end, and divided by
    the entropy, or by the KL to the reference, it is the same number within 5 % (normal deviations, from the median
    absolute one; 15 % for nine points of ten), while the loss itself varies more, that number is the weight of a term.
    A declared entropy bonus of that weight is no hidden one.
    """
    loss, mean = reading(facts, LOSS, least=8), reading(facts, NORMALISED, least=8)
    if loss is None or mean is None:
        return unknown("The policy's loss and the mean of its advantages are not both logged.", LOSS, NORMALISED)
    text = f"The policy's loss ends at {loss.end:.2g}"
    spell = lasting(loss, lambda values: np.abs(values) > TERM)
    if spell is None:
        return no(text + ", as a surrogate does.")
    steps, values = loss.steps[spell.first :], loss.values[spell.first :]
    if len(values) < 8:
        return no(f"{text}, away from 0 for {len(values)} points only.")
    if np.abs(at(mean, steps)).max() > CENTRED:
        return no(text + ", and advantages that do not average 0 explain it.")
    others = [one for key in (ENTROPY, *DIVERGENCES) if (one := reading(facts, key, least=8)) is not None]
    if not others:
        return unknown("Neither entropy nor KL are logged beside the loss.", ENTROPY, DIVERGENCES[0])
    found: list[tuple[float, float, Reading]] = []
    for other in others:
        of = at(other, steps)
        if (np.abs(of) > 1e-6).all():
            ratio = values / of
            weight = float(np.median(ratio))
            if weight and float(np.quantile(np.abs(ratio / weight - 1), 0.9)) < FEW_OFF:
                found.append((_scatter(ratio), weight, other))
    steady = [one for one in found if one[0] <= min(STEADY, BETTER * _scatter(values))]
    if not steady:
        return no(text + ", and is a multiple of neither entropy nor KL.")
    _, weight, other = min(steady, key=lambda one: one[0])
    declared = facts.number(*ENTROPY_SETTINGS) if other.key == ENTROPY else None
    if declared and abs(weight / declared + 1) < 0.2:
        return no(f"{text}: it holds the entropy bonus of {declared:g} that is declared.")
    without = (np.abs(weight) * np.abs(at(other, loss.steps)) > 2 * TERM) & (np.abs(loss.values) < TERM)
    sure = np.flatnonzero(without[: spell.first])
    low = int(loss.steps[sure[-1]]) if len(sure) else 0
    first = int(loss.steps[spell.first])
    high = int(loss.steps[min(len(loss.steps) - 1, spell.first + 1)])
    return HiddenTerm(other.key, weight, loss, Onset(first, (min(low, first), high)))


def _scatter(values: Floats) -> float:
    """Normal deviation, from the median absolute one, as a share of the median."""
    middle = float(np.median(values))
    return 1.4826 * float(np.median(np.abs(values - middle))) / abs(middle) if middle else math.inf


def _term(facts: Facts, of: tuple[str, ...], side: Callable[[float], bool], what: str) -> Answer:
    found = hidden_term(facts)
    if isinstance(found, Answer):
        return found
    text = f"The policy's loss is {found.weight:.3g} times {found.of}"
    if found.of not in of or not side(found.weight):
        return no(text + ".")
    return yes(f"{text}: {what}.", found.onset, root=found.onset)


@sign("loss-punishes-entropy")
def loss_punishes_entropy(facts: Facts) -> Answer:
    """The policy's loss, less its surrogate, is a fixed positive multiple of the entropy: certainty is paid for."""
    return _term(facts, (ENTROPY,), lambda weight: weight > 0, "entropy is punished")


@sign("loss-rewards-entropy")
def loss_rewards_entropy(facts: Facts) -> Answer:
    """The policy's loss, less its surrogate, is a fixed negative multiple of the entropy: a bonus nobody declared."""
    return _term(facts, (ENTROPY,), lambda weight: weight < 0, "entropy has a bonus")


@sign("loss-holds-a-kl")
def loss_holds_a_kl(facts: Facts) -> Answer:
    """The policy's loss, less its surrogate, is a fixed multiple of the KL to the reference."""
    return _term(facts, DIVERGENCES, lambda weight: True, "the KL stands in the loss")


@sign("rate-jumps-above-its-peak")
def rate_jumps_above_its_peak(facts: Facts) -> Answer:
    """After it had stopped rising, the learning rate is suddenly more than twice as high as ever before, for three
    points or more. A schedule that begins again comes back to its peak and not above; a warm-up at a constant rate ends
    within the first fifth."""
    rate = reading(facts, RATE, least=6)
    if rate is None:
        return unknown("The learning rate is not logged.", RATE)
    values = rate.values
    at = np.arange(3, len(values) - 2)
    peak, least = (one.accumulate(values)[at - 1] for one in (np.maximum, np.minimum))
    lasts = (np.minimum(np.minimum(values[at], values[at + 1]), values[at + 2]) > JUMP * peak) & (peak > 0)
    warming = values[at - 1] > values[at - 2] * (1 + 1e-6)
    flat = (at <= len(values) / 5) & (peak - least <= 1e-6 * peak)
    jumps = np.flatnonzero(lasts & (values[at - 2] > 0) & ~warming & ~flat)
    if not len(jumps):
        return no("The learning rate does not jump.")
    index = int(at[jumps[0]])
    step, before = int(rate.steps[index]), int(rate.steps[index - 1])
    text = f"The learning rate is {values[index]:.2g} from step {step} on, {peak[jumps[0]]:.2g} at most before."
    onset = Onset(step, (before, step))
    return yes(text, onset, root=onset)


@dataclass(frozen=True)
class Outrun:
    """An update that is too large for its rate: when, its norm, and what three times the usual would be."""

    onset: Onset
    norm: float
    limit: float


def outrun(facts: Facts) -> Outrun | Answer:
    """The first of four steps in a row in which the norm of the update, over learning rate and number of updates, is
    three times its median of the eight steps before."""
    update, rate = reading(facts, UPDATE, least=10), reading(facts, RATE, least=10)
    if update is None or rate is None:
        return unknown("Norm of the update and learning rate are not both logged.", UPDATE, RATE)
    counts = reading(facts, UPDATES, least=1)
    due = at(rate, update.steps) * (at(counts, update.steps) if counts is not None else 1.0)
    known = (due > 0) & (update.values > 0)
    steps, norms, due = update.steps[known], update.values[known], due[known]
    ratio = norms / due
    for index in range(5, len(ratio) - PERSISTS + 1):
        usual = float(np.median(ratio[max(0, index - 8) : index]))
        if float(ratio[index : index + PERSISTS].min()) >= OUTRUN * usual:
            step, before = int(steps[index]), int(steps[index - 1])
            return Outrun(Onset(step, (before, step)), float(norms[index]), float(OUTRUN * usual * due[index]))
    return no("The weights change by what the learning rate says.")


@sign("update-outruns-its-rate")
def update_outruns_its_rate(facts: Facts) -> Answer:
    """The weights suddenly change three times as much for the same learning rate as in the eight steps before, and go
    on doing so: a rate of some weights was raised, or their gradients were."""
    found = outrun(facts)
    if isinstance(found, Answer):
        return found
    times = OUTRUN * found.norm / found.limit
    text = f"From step {found.onset.step} on the weights change {times:.1f} times as much for the same rate."
    return yes(text, found.onset, root=found.onset)
