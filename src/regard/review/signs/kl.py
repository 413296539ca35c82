"""The leash: how strong it is beside the score, whether the KL is one, whether it is taken from the reward, to which
reference, and what steers it."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regard.review.facts import Facts
from regard.review.outcome import Onset
from regard.review.signs import Answer, no, sign, unknown, yes
from regard.review.statistics import Floats, Reading, first_of, lasting, smooth, start_length
from regard.runlog.sample import RolloutSample

SCORE, SCORE_STD = "score/reward_model/mean", "score/reward_model/std"
TOTAL, COEF = "score/total_reward/mean", "kl/coef/value"
KL_SEQUENCE = tuple(f"kl/policy_ref_{estimator}/seq_sum" for estimator in ("k1", "k3", "k2", "unknown"))
KL_TOKEN = tuple(f"kl/policy_ref_{estimator}/token_mean" for estimator in ("k1", "k3", "k2", "unknown"))
K1 = ("kl/policy_ref_k1/seq_sum", "kl/policy_ref_k1/token_mean", "kl/policy_ref_k1/unknown")
LENGTH = "length/response_tokens/mean"
COEF_SETTINGS = ("ppo.kl_coef", "kl_coef", "init_kl_coef", "beta")
TARGET_SETTINGS = ("ppo.kl_target", "target_kl", "kl_target", "kl_ctrl.target_kl")

LOOSE, SHORT = 80.0, 1.2
USUAL_NATS = 6.0
GROWTH = 0.15
CHEAP = 0.06
BELOW_ZERO, LEAST_NATS = 4.0, 0.02
NONE, SLOPE = 0.05, 0.5
SWING, TURNS = 3.0, 3
ONE_WAY, SPAN, GAIN = 0.9, 30.0, 0.05
UNIT = 20.0
SAME_TEXT_NATS = 0.05
OUTRUN = 3.0
FOLLOWS = 0.4


def reading(facts: Facts, *keys: str, least: int = 3) -> Reading | None:
    """The first of these metrics of stage 4 with so many finite points."""
    return first_of(facts.policy, keys, least) if facts.policy else None


def at(of: Reading, steps: NDArray[np.int64]) -> Floats:
    """The values of a series at other steps, linear between its points."""
    return np.interp(steps, of.steps, of.values)


def kl_per_sequence(facts: Facts, least: int = 3) -> Reading | None:
    """KL to the reference in nats per sequence: as logged, or per token times the length."""
    whole = reading(facts, *KL_SEQUENCE, least=least)
    if whole is not None:
        return whole
    per_token, length = reading(facts, *KL_TOKEN, least=least), reading(facts, LENGTH, least=1)
    if per_token is None or length is None:
        return None
    return Reading(per_token.key, per_token.steps, per_token.values * at(length, per_token.steps))


def coefficient(facts: Facts) -> float | None:
    """The weight of the KL term: its median over the last quarter, else as configured."""
    logged = reading(facts, COEF, least=1)
    if logged is None:
        return facts.number(*COEF_SETTINGS)
    return float(np.median(logged.values[-max(1, len(logged.values) // 4) :]))


def began(of: Reading, first: int) -> Onset:
    """When what holds from point `first` to the end began: from the start where nothing was seen without it."""
    steps = of.steps
    high = int(steps[min(len(steps) - 1, first + 1)])
    if first <= 1:
        return Onset(0, (0, high))
    return Onset(int(steps[first]), (int(steps[first - 2]), high))


def score_deviation(facts: Facts) -> float | None:
    """Standard deviation of the score over the first rollouts."""
    logged = reading(facts, SCORE_STD, "group/reward_std/mean", least=1)
    return logged.start if logged is not None else None


def weighed_deviation(facts: Facts) -> float | None:
    """Deviation of what the leash is weighed against: of the score, or 1 where the trainer divides by it
    (`scale_rewards` of TRL's GRPO)."""
    return 1.0 if facts.setting("scale_rewards") not in (None, False, "none") else score_deviation(facts)


def gain(of: Reading) -> tuple[float, float]:
    """Mean of the last fifth less that of the first points, and its standard error."""
    n = len(of.values)
    first, last = of.values[: start_length(n)], of.values[-max(3, n // 5) :]
    spread = float(np.std(np.diff(of.values), ddof=1) / math.sqrt(2)) if n > 3 else 0.0  # without the trend
    return float(last.mean() - first.mean()), spread * math.sqrt(1 / len(first) + 1 / len(last))


# How strong the leash is beside the score


@sign("leash-loose")
def leash_loose(facts: Facts) -> Answer:
    """The score's deviation is more than 80 times the KL coefficient, so that a nat costs next to nothing; or the
    coefficient fell within one step to half or less."""
    coef, deviation = coefficient(facts), weighed_deviation(facts)
    if coef is None:
        return unknown("The weight of the KL term is not known.", COEF, f"config: {COEF_SETTINGS[0]}")
    fell = _fell(facts)
    if fell is not None:
        return yes(f"The KL coefficient falls to {coef:.3g} at step {fell.step}.", fell, root=fell)
    root = Onset(0, (0, 0))
    if coef == 0:
        return yes("The KL coefficient is 0.", root=root)
    if deviation is None or deviation <= 0:
        return unknown("The spread of the score is not logged.", SCORE_STD)
    text = f"A deviation of the score, {deviation:.3g}, pays for {deviation / coef:.3g} nats at a weight of {coef:.3g}."
    return yes(text, root=root) if deviation / coef > LOOSE else no(text)


def _fell(facts: Facts) -> Onset | None:
    """Where the coefficient fell to half or less in one step, to stay there: no controller does that."""
    coef = reading(facts, COEF, least=6)
    if coef is None:
        return None
    least_before = np.minimum.accumulate(coef.values)[:-1]
    most_after = np.maximum.accumulate(coef.values[::-1])[::-1][1:]
    fell = np.flatnonzero((most_after <= 0.5 * least_before)[:-2] & (coef.values[:-3] > 0))
    if not len(fell):
        return None
    before, place = coef.steps[fell[0] : fell[0] + 2]
    return Onset(int(place), (int(before), int(place)))


def usual_leash(facts: Facts) -> float | None:
    """The coefficient whose best policy lies six nats per sequence from the reference, to two digits, and at least four
    times the present one; None where spread or coefficient are not known.

    For a normal score of deviation σ the optimum of score − β·KL has a KL of σ²/(2β²), so β = σ/√12. Six nats are the
    target of Ziegler et al. 2019 (arXiv 1909.08593), and what `ppo.kl_target` is changed to.
    """
    coef, deviation = coefficient(facts), weighed_deviation(facts)
    if coef is None or deviation is None or deviation <= 0:
        return None
    return float(f"{max(4 * coef, deviation / math.sqrt(2 * USUAL_NATS)):.2g}")


@sign("leash-short")
def leash_short(facts: Facts) -> Answer:
    """The KL coefficient is so large beside the score's deviation σ that the best policy gains less than about one: to
    second order the optimum of score − β·KL gains σ²/β at a KL of σ²/(2β²)."""
    coef, deviation = coefficient(facts), weighed_deviation(facts)
    if coef is None:
        return unknown("The weight of the KL term is not known.", COEF, f"config: {COEF_SETTINGS[0]}")
    if deviation is None or deviation <= 0:
        return unknown("The spread of the score is not logged.", SCORE_STD)
    ratio = deviation / coef if coef > 0 else math.inf
    text = f"At a weight of {coef:.3g} and a deviation of {deviation:.3g} the best gain is {ratio:.2g} deviations."
    return yes(text) if ratio < SHORT else no(text)


@sign("kl-still-rising")
def kl_still_rising(facts: Facts) -> Answer:
    """KL to the reference still rises in the last third (at least three points), by more than 15 % of its level and
    beyond its noise."""
    kl = kl_per_sequence(facts, 4)
    if kl is None:
        return unknown("There are not four values of the KL to the reference.", KL_SEQUENCE[0])
    last = kl.values[-max(3, len(kl.values) // 3) :]
    half = len(last) // 2
    before, after = float(last[:half].mean()), float(last[-half:].mean())
    noise = float(np.std(np.diff(last), ddof=1)) / math.sqrt(half) if len(last) > 5 else 0.0
    text = f"In the last third the KL goes from {before:.3g} to {after:.3g} nats per sequence."
    rises = after - before > max(GROWTH * abs(float(last.mean())), 3 * noise) and after > 0.3
    return yes(text) if rises else no(text)


@sign("kl-cheap-beside-gain")
def kl_cheap_beside_gain(facts: Facts) -> Answer:
    """What the KL costs is less than 6 % of what the score gained, and the KL is above a nat: at the optimum of a
    leash that holds, it costs about half of the gain."""
    kl, score, coef = kl_per_sequence(facts, 6), reading(facts, SCORE, least=6), coefficient(facts)
    if kl is None or score is None or coef is None:
        return unknown("Score, KL and its weight are not all logged.", SCORE, KL_SEQUENCE[0], COEF)
    won, error = gain(score)
    cost = coef * kl.end
    text = f"The score gained {won:.3g}, and the KL of {kl.end:.3g} nats costs {cost:.3g}."
    return yes(text) if won > 3 * error and kl.end > 1 and cost < CHEAP * won else no(text)


@sign("kl-costs-more-than-gain")
def kl_costs_more_than_gain(facts: Facts) -> Answer:
    """Weight · KL at the end is more than the whole gain of the score, and the KL is above a nat: no optimum of
    score − weight · KL is there, so that is not what is optimised."""
    kl, score, coef = kl_per_sequence(facts, 6), reading(facts, SCORE, least=6), coefficient(facts)
    if kl is None or score is None or coef is None:
        return unknown("Score, KL and its weight are not all logged.", SCORE, KL_SEQUENCE[0], COEF)
    won, error = gain(score)
    cost = coef * kl.end
    text = f"The score gained {won:.3g} ± {error:.2g}, and the KL of {kl.end:.3g} nats costs {cost:.3g}."
    return yes(text) if kl.end > 1 and cost > max(0.0, won) + 2 * error else no(text)


@sign("score-does-not-gain")
def score_does_not_gain(facts: Facts) -> Answer:
    """From its first to its last points the score gains less than three standard errors, or less than a fifth of the
    deviation of single scores."""
    score = reading(facts, SCORE, least=8)
    if score is None:
        return unknown("There are not eight values of the score.", SCORE)
    won, error = gain(score)
    deviation = score_deviation(facts) or 0.0
    text = f"The score gains {won:.3g} ± {error:.2g}."
    return yes(text) if won < max(3 * error, 0.2 * deviation) else no(text)


@sign("kl-stays-near-zero")
def kl_stays_near_zero(facts: Facts) -> Answer:
    """KL to the reference ends below 0.5 nats per sequence or below 0.02 per token."""
    whole, per_token = kl_per_sequence(facts), reading(facts, *KL_TOKEN)
    if whole is None and per_token is None:
        return unknown("The KL to the reference is not logged.", KL_SEQUENCE[0], KL_TOKEN[0])
    if whole is None:
        assert per_token is not None
        text = f"KL ends at {per_token.end:.3g} nats per token."
        return yes(text) if abs(per_token.end) < 0.02 else no(text)
    text = f"KL ends at {whole.end:.3g} nats per sequence."
    return yes(text) if abs(whole.end) < 0.5 else no(text)


# Whether the KL is one


def _own_kl(sample: RolloutSample) -> Floats | None:
    """[N] Σ (logprob − ref_logprob) of each response, from the per-token columns."""
    ours, theirs = sample.per_token.get("logprobs"), sample.per_token.get("ref_logprobs")
    if ours is None or theirs is None or not np.array_equal(ours.offsets, theirs.offsets):
        return None
    return ours.sums() - theirs.sums()


@sign("kl-in-first-rollouts")
def kl_in_first_rollouts(facts: Facts) -> Answer:
    """The rollouts of the first step, which the initial policy sampled, are a tenth of a nat or more from the
    reference."""
    kl = kl_per_sequence(facts, 1)
    if kl is None or kl.steps[0] > 1:
        return unknown("The KL of the first rollouts is not logged.", f"{KL_SEQUENCE[0]} at step 1")
    text = f"The first rollouts have a KL of {kl.values[0]:.3g} nats per sequence."
    return yes(text) if kl.values[0] > 0.1 else no(text)


@sign("k1-below-zero")
def k1_below_zero(facts: Facts) -> Answer:
    """The mean of log π − log π_ref over the responses of a fifth of the run lies four standard errors below 0, which
    cannot be if they were sampled from π."""
    sample = facts.rollouts
    kl = None
    if sample is not None:
        kl = _own_kl(sample)
        kl = sample.numbers["kl_sum"] if kl is None and sample.has("kl_sum") else kl
    if sample is not None and kl is not None:
        steps, values = sample.steps, kl
    else:
        series = reading(facts, *K1, least=10)
        if series is None:
            return unknown("There is no k1, neither per response nor per step.", "rollouts: kl_sum", K1[0])
        steps, values = series.steps, series.values
    finite = np.isfinite(values)
    steps, values = steps[finite], values[finite]
    lowest, since = 0.0, None
    for part in np.array_split(np.unique(steps), 5):
        own = values[np.isin(steps, part)]
        if len(own) < 3:
            continue
        error = float(own.std(ddof=1)) / math.sqrt(len(own))
        lowest = min(lowest, float(own.mean()))
        if since is None and own.mean() < -max(LEAST_NATS, BELOW_ZERO * error):
            since = (int(part[0]), int(part[-1]))
    text = f"Over a fifth of the run k1 averages {lowest:.3g} nats at the lowest."
    if since is None:
        return no(text)
    onset = Onset(since[0], (0 if since[0] <= 1 else since[0] - 1, since[1]))
    return yes(text, onset, root=_sampler_parts(facts))


def _sampler_parts(facts: Facts) -> Onset | None:
    """When sampler and trainer began to disagree, which is where a KL below 0 comes from."""
    gap = reading(facts, "kl/generator_trainer_k3/mean", "kl/generator_trainer_absdiff/mean", least=4)
    if gap is None:
        return None
    spell = lasting(gap, lambda values: values > 1e-3)
    return began(gap, spell.first) if spell is not None else None


@sign("logged-kl-counts-padding")
def logged_kl_counts_padding(facts: Facts) -> Answer:
    """The KL of a response as recorded is not the sum over its tokens, and what it is off by follows the number of pads
    (the longest response of its step less its length)."""
    sample = facts.rollouts
    own = _own_kl(sample) if sample is not None else None
    if sample is None or own is None or not sample.has("kl_sum", "length"):
        return unknown(
            "The KL of a response cannot be recomputed.", "rollouts: kl_sum", "rollouts: logprobs, ref_logprobs"
        )
    off = sample.numbers["kl_sum"] - own
    limit = np.maximum(0.02, 0.01 * np.abs(own))
    wrong = np.isfinite(off) & (np.abs(off) > limit)
    text = f"{wrong.mean():.0%} of the responses have another KL on record than their tokens add up to"
    if wrong.mean() < 0.05:
        return no(text + ".")
    where = sample.steps >= sample.steps[wrong].min()
    steps, place = np.unique(sample.steps, return_inverse=True)
    longest = np.zeros(len(steps))
    np.maximum.at(longest, place, np.nan_to_num(sample.numbers["length"]))
    pads = longest[place] - sample.numbers["length"]
    both = where & np.isfinite(off)
    follows = (
        abs(float(np.corrcoef(off[both], pads[both])[0, 1])) if pads[both].std() > 0 and off[both].std() > 0 else 0.0
    )
    text += f", by {np.abs(off[wrong]).mean():.3g} nats; correlation with the pads {follows:.2f}."
    onset = _first_step(sample, wrong)
    return yes(text, onset, root=onset) if follows > FOLLOWS else no(text)


def _first_step(sample: RolloutSample, rows: NDArray[np.bool_]) -> Onset:
    steps = sample.distinct_steps
    place = int(np.searchsorted(steps, np.min(sample.steps[rows])))
    before, after = steps[max(0, place - 1)], steps[min(len(steps) - 1, place + 1)]
    return Onset(int(steps[place]), (0 if place == 0 else int(before), int(after)))


@sign("kl-sums-disagree")
def kl_sums_disagree(facts: Facts) -> Answer:
    """KL per sequence is not KL per token times the mean length, by more than 5 % and 0.02 nats: not over the same
    tokens."""
    for estimator in ("k1", "k3"):
        whole = reading(facts, f"kl/policy_ref_{estimator}/seq_sum")
        per_token = reading(facts, f"kl/policy_ref_{estimator}/token_mean")
        length = reading(facts, LENGTH)
        if whole is None or per_token is None or length is None:
            continue
        same = np.isin(whole.steps, per_token.steps) & np.isin(whole.steps, length.steps)
        product = at(per_token, whole.steps) * at(length, whole.steps)
        off = np.abs(whole.values - product)[same] > np.maximum(0.02, 0.05 * np.abs(product[same]))
        series = Reading(whole.key, whole.steps[same], off.astype(np.float64))
        text = f"In {off.mean():.0%} of the steps KL per sequence is not KL per token times length."
        spell = lasting(series, lambda values: values > 0.5)
        if spell is None:
            return no(text)
        onset = began(series, spell.first)
        return yes(text, onset, root=onset)
    return unknown("KL is not logged both per sequence and per token.", KL_SEQUENCE[0], KL_TOKEN[0], LENGTH)


# Whether it is taken from the reward


@sign("kl-term-not-in-reward")
def kl_term_not_in_reward(facts: Facts) -> Answer:
    """Less than half of weight · KL is taken from the rewards of a response, or the opposite of it."""
    found = kl_term(facts)
    if isinstance(found, Answer):
        return found
    return yes(found.text, found.onset, root=found.onset) if found.share < SLOPE else no(found.text)


@sign("kl-term-added-to-reward")
def kl_term_added_to_reward(facts: Facts) -> Answer:
    """The rewards of a response sum to score + weight · KL: the sign of the penalty is flipped."""
    found = kl_term(facts)
    if isinstance(found, Answer):
        return found
    return yes(found.text, found.onset, root=found.onset) if found.share <= -SLOPE else no(found.text)


@dataclass(frozen=True)
class KLTerm:
    """Which share of weight · KL is taken from the reward late in the run: 1 as it should, 0 none, −1 added."""

    share: float
    text: str
    onset: Onset | None
    step: int
    metric: str


def kl_term(facts: Facts) -> KLTerm | Answer:
    """From the rewards per token where they are recorded, else from the sums that are logged. A weight that is only
    configured may have been another one in the run: then a share between none and half says nothing, nor does one that
    fell in the middle of the run, unless the term was added."""
    found = _kl_term(facts)
    if isinstance(found, Answer) or reading(facts, COEF, least=1) is not None:
        return found
    fell = found.onset is not None and found.onset.interval[0] > 0 and found.share > -SLOPE
    if not fell and not NONE < found.share < SLOPE:
        return found
    return unknown(f"{found.text[:-1]}, by the weight that is configured; the one that was used is not logged.", COEF)


def _kl_term(facts: Facts) -> KLTerm | Answer:
    logged, configured = reading(facts, COEF, least=1), facts.number(*COEF_SETTINGS)
    if logged is None and configured is None:
        return unknown("The weight of the KL term is not known.", COEF, f"config: {COEF_SETTINGS[0]}")
    if logged is None and facts.number(*TARGET_SETTINGS) is not None:
        return unknown("A controller moves the weight of the KL term, which is not logged.", COEF)
    if (coefficient(facts) or 0.0) <= 0:
        return unknown("The weight of the KL term is 0, so nothing is to be taken.", f"{COEF} above 0")
    sample = facts.rollouts
    rewards = sample.per_token.get("rewards") if sample is not None else None
    if sample is not None and rewards is not None and sample.has("score", "kl_sum"):
        weight = at(logged, sample.steps) if logged is not None else np.full(len(sample), configured)
        return _share(
            sample.steps,
            weight * sample.numbers["kl_sum"],
            sample.numbers["score"] - rewards.sums(),
            "rollouts: rewards",
        )
    total, score = reading(facts, TOTAL, least=4), reading(facts, SCORE, least=4)
    kl = kl_per_sequence(facts, 4)
    if total is None or score is None or kl is None:
        return unknown(
            "Rewards are recorded neither per token nor summed beside score and KL.", "rollouts: rewards", TOTAL
        )
    weight = at(logged, total.steps) if logged is not None else np.full(len(total.steps), configured)
    return _share(total.steps, weight * at(kl, total.steps), at(score, total.steps) - total.values, TOTAL)


def _share(steps: NDArray[np.int64], expected: Floats, taken: Floats, metric: str) -> KLTerm | Answer:
    finite = np.isfinite(expected) & np.isfinite(taken)
    steps, expected, taken = steps[finite], expected[finite], taken[finite]
    if not len(steps) or np.abs(expected).max() < 1e-9:
        return unknown("The KL is 0, so no term of it can be seen.", "kl/policy_ref_k1/seq_sum above 0")
    distinct, place = np.unique(steps, return_inverse=True)
    size = np.bincount(place, weights=expected**2)
    known = size > 1e-12
    if not known.any():
        return unknown("The KL is 0, so no term of it can be seen.", "kl/policy_ref_k1/seq_sum above 0")
    shares = np.bincount(place, weights=expected * taken)[known] / size[known]
    series = Reading(metric, distinct[known], shares)
    late = float(np.median(shares[-max(3, len(shares) // 4) :]))
    text = f"Of weight · KL, {late:+.2f} is taken from the reward at the end, where 1 is right."
    spell = lasting(series, lambda values: values < SLOPE) if late < SLOPE else None
    onset = began(series, spell.first) if spell is not None else None
    return KLTerm(late, text, onset, int(series.steps[-1]), metric)


@sign("kl-loss-without-pull")
def kl_loss_without_pull(facts: Facts) -> Answer:
    """The configuration puts the KL into the loss as k1, whose expected gradient is 0, or clamped k3."""
    kind = facts.setting("kl_loss_type", "kl_estimator_in_loss")
    on = facts.setting("use_kl_loss")
    if kind is None and on is None:
        return unknown(
            "The configuration does not say where the KL term is and which estimator.", "config: kl_loss_type"
        )
    text = f"KL in the loss: {on if on is not None else 'yes'}, estimator {kind}."
    return yes(text) if on is not False and str(kind).lower() in ("kl", "k1") else no(text)


# What steers it


@sign("controller-swings")
def controller_swings(facts: Facts) -> Answer:
    """The KL coefficient swings: three turns or more, each by a factor of three or more."""
    coef = _steered(facts)
    if isinstance(coef, Answer):
        return coef
    turns = _turns(np.log(np.maximum(coef.values, 1e-300)), math.log(SWING))
    text = f"The KL coefficient turns {turns} times by a factor of {SWING:.0f} or more."
    return yes(text) if turns >= TURNS else no(text)


def _steered(facts: Facts) -> Reading | Answer:
    coef = reading(facts, COEF, least=8)
    if coef is None:
        return unknown("The KL coefficient is not logged.", COEF)
    if len(np.unique(coef.values)) <= len(coef.values) // 3:
        return no("No controller moves the KL coefficient.")
    return coef


def _turns(values: Floats, least: float) -> int:
    """Changes of direction of a series, swings below `least` left out."""
    turns, direction, extreme = 0, 0, values[0]
    for value in values[1:]:
        if direction * (value - extreme) >= 0:
            if direction or abs(value - extreme) >= least:
                direction = direction or (1 if value > extreme else -1)
                extreme = value
        elif abs(value - extreme) >= least:
            turns, direction, extreme = turns + 1, -direction, value
    return turns


@sign("controller-runs-away")
def controller_runs_away(facts: Facts) -> Answer:
    """The KL coefficient moves in one direction in 90 % of the steps and by a factor of three in all, or it spans a
    factor of thirty: the controller never gets near its target, or overshoots it."""
    coef = _steered(facts)
    if isinstance(coef, Answer):
        return coef
    changes = np.diff(np.log(np.maximum(coef.values, 1e-300)))
    share = max(float((changes > 0).mean()), float((changes < 0).mean()))
    factor, span = coef.values[-1] / coef.values[0], coef.values.max() / max(float(coef.values.min()), 1e-300)
    text = (
        f"The KL coefficient goes from {coef.values[0]:.3g} to {coef.values[-1]:.3g}, {share:.0%} of the steps one way."
    )
    one_way = share >= ONE_WAY and not 1 / SWING < factor < SWING
    return yes(text) if one_way or span > SPAN else no(text)


@sign("controller-gain-high")
def controller_gain_high(facts: Facts) -> Answer:
    """One update changes the KL coefficient by more than 5 % in the median; 0.2·n/horizon is the most it should, which
    is 1 % for 512 responses and a horizon of 10,000."""
    coef = _steered(facts)
    if isinstance(coef, Answer):
        return coef
    change = float(np.median(np.abs(np.diff(np.log(np.maximum(coef.values, 1e-300))))))
    text = f"An update changes the KL coefficient by {change:.1%}."
    return yes(text) if change > GAIN else no(text)


@sign("controller-target-out-of-reach")
def controller_target_out_of_reach(facts: Facts) -> Answer:
    """In its later two thirds the KL that the controller is fed is 20 times its target, or a 20th: another unit."""
    target = facts.number(*TARGET_SETTINGS)
    logged = reading(facts, "kl/target/value", least=1)
    target = logged.values[-1] if target is None and logged is not None else target
    if target is None:
        coef = reading(facts, COEF, least=8)
        if coef is not None and np.ptp(coef.values) == 0:
            return no("The KL coefficient is constant.")
        return unknown("The target of the KL is not known.", "kl/target/value", f"config: {TARGET_SETTINGS[0]}")
    per_token = str(facts.setting("kl_target_unit") or "") == "nats/token"
    kl = reading(facts, *KL_TOKEN) if per_token else kl_per_sequence(facts)
    if kl is None or target <= 0:
        return unknown(
            "The KL that is fed to the controller is not logged.", (KL_TOKEN if per_token else KL_SEQUENCE)[0]
        )
    later = float(np.median(kl.values[len(kl.values) // 3 :]))
    text = f"The KL is {later:.3g} where the target is {target:.3g} {'nats per token' if per_token else 'nats'}."
    return yes(text) if later > UNIT * target or later < target / UNIT else no(text)


# To which reference


@sign("reference-moves")
def reference_moves(facts: Facts) -> Answer:
    """The same response to the same prompt gets another probability from the reference at a later step."""
    sample = facts.rollouts
    theirs = sample.per_token.get("ref_logprobs") if sample is not None else None
    if sample is None or theirs is None:
        return unknown("The reference's log-probabilities are not recorded.", "rollouts: ref_logprobs")
    sums, lengths = theirs.sums(), theirs.lengths
    seen: dict[tuple[int, str, int], int] = {}
    gaps: list[tuple[int, int, float]] = []
    for row, (prompt, text) in enumerate(zip(sample.prompt_codes.tolist(), sample.texts["response"], strict=True)):
        key = (prompt, text, int(lengths[row]))
        first = seen.setdefault(key, row)
        if sample.steps[first] != sample.steps[row]:
            gaps.append((int(sample.steps[first]), int(sample.steps[row]), abs(float(sums[row] - sums[first]))))
    if len(gaps) < 3:
        return unknown("Hardly a response occurs at two steps.", "rollouts: a few prompts, sampled again at each step")
    moved = [gap for gap in gaps if gap[2] > SAME_TEXT_NATS]
    text = f"Of {len(gaps)} responses that came again, {len(moved)} have another probability under the reference."
    if len(moved) < max(2, 0.05 * len(gaps)):
        return no(text)
    last = min(later for _, later, _ in moved)  # it has moved by then, and not before the latest pair that agrees
    first = max([later for _, later, gap in gaps if gap <= SAME_TEXT_NATS and later < last], default=0)
    onset = Onset((first + last + 1) // 2, (first, last))
    return yes(text, onset, root=onset)


def kl_falls(facts: Facts) -> NDArray[np.int64] | None:
    """Steps at which the KL falls at once to less than 0.15 of what it was, from a third of its usual height."""
    kl = kl_per_sequence(facts, 6)
    if kl is None:
        return None
    before, now = kl.values[:-1], kl.values[1:]
    high = before > max(0.1, 0.3 * float(np.quantile(kl.values, 0.75)))
    fair = kl.values.min() > -0.1  # a KL below 0 is another fault, and swings through 0 by itself
    return kl.steps[1:][high & (np.abs(now) < 0.15 * before) & fair]


@sign("kl-jumps")
def kl_jumps(facts: Facts) -> Answer:
    """Within one step the KL rises by 35 % of its highest level, and that is above ten nats per sequence."""
    kl = kl_per_sequence(facts, 6)
    if kl is None:
        return unknown("There are not six values of the KL to the reference.", KL_SEQUENCE[0])
    level = smooth(kl.values)
    rises = np.diff(kl.values)
    place, highest = int(np.argmax(rises)), float(level.max())
    text = f"The largest rise of the KL in one step is {rises[place]:.3g} nats, of {highest:.3g} at the highest."
    lasts = level[min(len(level) - 1, place + 2)] > kl.values[place] + 0.5 * rises[place]
    if highest <= 10 or rises[place] < 0.35 * highest or not lasts:
        return no(text)
    onset = Onset(int(kl.steps[place + 1]), (int(kl.steps[place]), int(kl.steps[place + 1])))
    root = Onset(0, (0, int(kl.steps[place + 1]))) if place <= 2 else onset
    return yes(text, onset, root=root)


@sign("kl-falls-to-zero")
def kl_falls_to_zero(facts: Facts) -> Answer:
    """KL to the reference falls within one step to nearly 0, for the reference has become the policy."""
    falls, kl = kl_falls(facts), kl_per_sequence(facts, 6)
    if falls is None or kl is None:
        return unknown("There are not six values of the KL to the reference.", KL_SEQUENCE[0])
    if not len(falls):
        return no(f"The KL never falls to a tenth in one step; it ends at {kl.end:.3g} nats.")
    step = int(falls[0])
    place = int(np.searchsorted(kl.steps, step))
    onset = Onset(step, (int(kl.steps[place - 1]), step))
    text = f"At step {step} the KL falls from {kl.values[place - 1]:.3g} to {kl.values[place]:.3g} nats"
    again = int(np.median(np.diff(falls))) if len(falls) > 1 else 0
    if again and step <= again + 2:  # the first of a rhythm that began with the run
        return yes(f"{text}, and so every {again} steps.", onset, root=Onset(0, (0, step)))
    return yes(text + ".", onset, root=onset)


@sign("score-outruns-kl")
def score_outruns_kl(facts: Facts) -> Answer:
    """The score gained three times more than a policy so near can: a mean moves by at most σ·√(2·KL) if the scores of
    the start are no wider than normal with deviation σ."""
    kl, score, deviation = kl_per_sequence(facts, 4), reading(facts, SCORE, least=4), score_deviation(facts)
    length = reading(facts, LENGTH, least=4)
    if kl is None or score is None:
        return unknown("Score and KL are not both logged.", SCORE, KL_SEQUENCE[0])
    largest = max(0.0, float(smooth(kl.values).max()))
    won, error = gain(score)
    if deviation is not None and deviation > 0:
        reach = deviation * math.sqrt(2 * largest)
        text = f"The score gained {won:.3g}; with a KL of {largest:.3g} nats {reach:.3g} are possible."
        return yes(text) if won - 3 * error > OUTRUN * reach and won > 0.3 * deviation else no(text)
    if length is None or length.start <= 0:
        return unknown("Neither spread of the score nor length is logged.", SCORE_STD, LENGTH)
    text = f"KL is at most {largest:.3g} nats, and the length goes from {length.start:.3g} to {length.end:.3g} tokens."
    return yes(text) if largest < 0.01 and not 0.7 < length.end / length.start < 1.4 else no(text)
