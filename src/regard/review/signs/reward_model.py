"""What tells faults of the reward model apart: how good it is, what else its score follows, its scale, its parts."""

from typing import NamedTuple

import numpy as np

from regard.review.answers import answers_of
from regard.review.facts import Facts
from regard.review.outcome import Onset
from regard.review.ranking import Concordance, between_groups, concordance, start_rows
from regard.review.signs import Answer, no, sign, unknown, yes
from regard.review.signs.data import AGREEMENT, PAIRS, TEST, TRUSTED, accuracy_error, last
from regard.review.statistics import Reading, first_of, growth_in_a_step, smooth
from regard.runlog.sample import RolloutSample

TRAIN, SHORTER = "rm/accuracy_train/mean", "rm/accuracy_shorter_chosen/mean"
DATA, EPOCHS, LONGER = "data/pairs/count", "data/epochs/count", "data/pairs_chosen_longer/frac"
SCORE_STD, SCALE, RM_STD = "score/reward_model/std", "score/reward_scale/value", "rm/score/std"
MAIN = "score/main_component/mean"
NORMAL = 0.25, 2.5
"""Deviations of scores for which KL coefficients of the usual size are meant."""
UNANIMOUS = "data/pairs_unanimous/frac"
ALONE, ECE = "invariant/score_alone_max_diff/value", "rm/ece/value"


@sign("accuracy-far-below-raters")
def accuracy_far_below_raters(facts: Facts) -> Answer:
    """On held-out pairs the reward model is not even half as far above chance as two raters agree."""
    accuracy, agreement = last(facts.rm, *TEST), last(facts.rm, AGREEMENT)
    if accuracy is None or agreement is None:
        return unknown("There is no accuracy beside the raters' agreement.", AGREEMENT, TEST[0])
    text = f"Right on {accuracy:.2f} of the held-out pairs, where two raters agree on {agreement:.2f}."
    return yes(text) if agreement > 0.6 and accuracy < 0.5 + 0.5 * (agreement - 0.5) else no(text)


@sign("reward-model-weak")
def reward_model_weak(facts: Facts) -> Answer:
    """Right on fewer than 60 % of the held-out pairs, by trusted labels where there are any."""
    accuracy = last(facts.rm, TRUSTED, *TEST)
    if accuracy is None:
        return unknown("There is no accuracy on held-out pairs.", TRUSTED, *TEST)
    text = f"Right on {accuracy:.2f} of the held-out pairs."
    return yes(text) if accuracy < 0.6 else no(text)


@sign("few-training-pairs")
def few_training_pairs(facts: Facts) -> Answer:
    """The reward model saw fewer than 1,000 different comparisons."""
    pairs = last(facts.rm, DATA)
    if pairs is None:
        return unknown("The number of training pairs is not logged.", DATA)
    seen = pairs * min(1.0, last(facts.rm, EPOCHS) or 1.0)
    text = f"The reward model saw {seen:.0f} different comparisons."
    return yes(text) if seen < 1000 else no(text)


@sign("training-accuracy-far-above-held-out")
def training_accuracy_far_above_held_out(facts: Facts) -> Answer:
    """The reward model is right on its training pairs by 12 points more than on others, and by 3 SE."""
    train = first_of(facts.rm, (TRAIN,), 8) if facts.rm else None
    held_out, error = last(facts.rm, *TEST), accuracy_error(facts)
    if train is None or held_out is None or error is None:
        return unknown("There is no accuracy on training pairs beside that on others.", TRAIN, TEST[0], PAIRS)
    late = float(train.values[-max(4, len(train.values) // 4) :].mean())
    text = f"Right on {late:.2f} of the training pairs at the end, on {held_out:.2f} of others."
    return yes(text) if late - held_out > max(0.12, 3 * error) else no(text)


@sign("labels-surer-than-raters")
def labels_surer_than_raters(facts: Facts) -> Answer:
    """More than 95 % of the training labels leave no doubt, though two raters agree on fewer than 90 % of the pairs."""
    unanimous, agreement = last(facts.rm, UNANIMOUS), last(facts.rm, AGREEMENT)
    if unanimous is None or agreement is None:
        return unknown("The record does not say how sure labels and raters are.", UNANIMOUS, AGREEMENT)
    text = f"{unanimous:.0%} of the training labels leave no doubt; two raters agree on {agreement:.0%} of the pairs."
    return yes(text) if unanimous > 0.95 and agreement < 0.9 else no(text)


@sign("reward-model-miscalibrated")
def reward_model_miscalibrated(facts: Facts) -> Answer:
    """Stated and observed preference differ by more than 7.5 points on average (expected calibration error)."""
    value = last(facts.rm, ECE)
    if value is None:
        return unknown("The calibration of the reward model is not logged.", ECE)
    text = f"Expected calibration error {value:.3f} on held-out pairs."
    return yes(text) if value > 0.075 else no(text)


# What the score follows


def _of_score(facts: Facts, column: str) -> Concordance | None:
    sample = facts.rollouts
    if sample is None or not sample.has("score", column):
        return None
    return concordance(sample, sample.numbers["score"], sample.numbers[column], start_rows(sample))


@sign("score-worse-than-its-test")
def score_worse_than_its_test(facts: Facts) -> Answer:
    """On the first rollouts the score orders pairs as gold does less often than it did on the test pairs, by 10 points
    and 3 SE: between its test and stage 4 something happens to the score, or to what is scored."""
    trusted, error, agreement = last(facts.rm, TRUSTED), accuracy_error(facts), _of_score(facts, "gold")
    if trusted is None or error is None:
        return unknown("There is no accuracy by trusted labels with its number of pairs.", TRUSTED, PAIRS)
    if agreement is None or not agreement.within_prompts:
        return unknown("No prompt has several responses that a judge scored too.", "rollouts: gold")
    text = f"On the first rollouts score and judge order {agreement} of the pairs alike, on test pairs {trusted:.2f}."
    noise = (error**2 + agreement.error**2) ** 0.5
    return yes(text) if trusted - agreement.share > max(0.1, 3 * noise) else no(text)


@sign("score-follows-length")
def score_follows_length(facts: Facts) -> Answer:
    """On the first rollouts the score prefers the longer response in more pairs than gold does, by 20 points and 2 SE,
    and in more than 60 %. Healthy reward models of the lab do by up to 18."""
    by_score, sample = _of_score(facts, "length"), facts.rollouts
    if sample is None or by_score is None:
        return unknown("The first rollouts have no score with a length.", "rollouts: length")
    gold = sample.numbers["gold"]
    by_gold = concordance(sample, gold, sample.numbers["length"], start_rows(sample)) if sample.has("gold") else None
    if by_score.share <= 0.6:
        return no(f"On the first rollouts the score prefers the longer response in {by_score} of the pairs.")
    if by_gold is None:
        return unknown("The score prefers the longer response, and no judge says whether that is right.",
                       "rollouts: gold")  # fmt: skip
    text = f"The score prefers the longer response in {by_score} of the first pairs, gold in {by_gold}."
    return yes(text) if by_score.share - by_gold.share > max(0.2, 2 * by_score.error) else no(text)


@sign("shorter-chosen-misranked")
def shorter_chosen_misranked(facts: Facts) -> Answer:
    """Of the held-out pairs whose chosen text is the shorter, the reward model ranks fewer than half right, and 15
    points fewer than of all."""
    shorter, all_pairs = last(facts.rm, SHORTER), last(facts.rm, *TEST)
    if shorter is None or all_pairs is None:
        return unknown("Accuracy on pairs whose chosen text is the shorter is not logged.", SHORTER)
    text = f"Right on {shorter:.2f} of the pairs whose chosen text is the shorter, on {all_pairs:.2f} of all."
    return yes(text) if shorter < min(0.5, all_pairs - 0.15) else no(text)


@sign("chosen-mostly-longer")
def chosen_mostly_longer(facts: Facts) -> Answer:
    """In more than 65 % of the training pairs the chosen text is the longer."""
    value = last(facts.rm, LONGER)
    if value is None:
        return unknown("The lengths of the training pairs are not logged.", LONGER)
    text = f"In {value:.0%} of the training pairs the chosen text is the longer."
    return yes(text) if value > 0.65 else no(text)


@sign("score-depends-on-prompt")
def score_depends_on_prompt(facts: Facts) -> Answer:
    """On the first rollouts more than 45 % of the variance of the score lies between prompts, and at least 30 points
    more than of gold's."""
    sample = facts.rollouts
    if sample is None or not sample.has("score"):
        return unknown("The rollouts have no score.", "rollouts: score")
    rows = start_rows(sample)
    of_score = between_groups(sample, sample.numbers["score"], rows)
    if of_score is None:
        return unknown("No prompt has several responses in a step.", "rollouts: prompt_id")
    if of_score <= 0.45:
        return no(f"{max(0.0, of_score):.0%} of the variance of the first scores lies between prompts.")
    of_gold = between_groups(sample, sample.numbers["gold"], rows) if sample.has("gold") else None
    if of_gold is None:
        return unknown("The score differs between prompts, and no judge says whether it should.", "rollouts: gold")
    text = (
        f"{of_score:.0%} of the variance of the first scores lies between prompts, of gold's {max(0.0, of_gold):.0%}."
    )
    return yes(text) if of_score - of_gold > 0.3 else no(text)


@sign("score-changes-when-alone")
def score_changes_when_alone(facts: Facts) -> Answer:
    """A response scored alone gets another score than among the batch, by a tenth of the scores' deviation."""
    value = last(facts.policy, ALONE)
    if value is None:
        return unknown("No response of the first batch was scored again alone.", ALONE)
    text = f"Alone, a response's score differs by {value:.2g} deviations from its score in the batch."
    return yes(text) if value > 0.1 else no(text)


# Scale


def spread_of_score(facts: Facts, least: int = 1) -> Reading | None:
    """Deviation of the scores by step, as stage 4 logs it; of a score that is a sum with its parts recorded, of the
    main part, on the steps that are looked at."""
    sample = facts.rollouts
    main = sample.numbers["main_score"] if sample is not None and sample.has("score", "main_score") else None
    if sample is None or main is None or not (np.abs(sample.numbers["score"] - main) > 1e-6).any():
        return first_of(facts.policy, (SCORE_STD,), least) if facts.policy else None
    steps, means = sample.by_step(main)
    _, squares = sample.by_step(main**2)
    known = np.isfinite(means)
    spread = np.sqrt(np.maximum(squares[known] - means[known] ** 2, 0.0))
    return Reading("rollouts: main_score", steps[known], spread) if len(spread) >= least else None


@sign("score-deviation-off")
def score_deviation_off(facts: Facts) -> Answer:
    """The first scores spread more than 2.5 times as wide as the reward model's on its test texts, or less than a
    quarter."""
    first, made = spread_of_score(facts), last(facts.rm, RM_STD)
    scale = last(facts.policy, SCALE)
    if first is not None and made is None and NORMAL[0] <= (own := float(np.median(first.values[:3]))) <= NORMAL[1]:
        return no(f"The first scores have a deviation of {own:.2g}, as scores have that were brought to one.")
    if first is None or made is None or scale is None or made <= 0:
        return unknown("The spread of the scores is not logged both for the test texts and in stage 4.",
                       RM_STD, SCORE_STD)  # fmt: skip
    value = float(np.median(first.values[:3])) * scale / made
    text = f"The first scores spread {value:.2f} times as wide as the reward model's on its test texts."
    if NORMAL[0] <= value <= NORMAL[1]:
        return no(text)
    return yes(text, Onset(int(first.steps[0]), (0, int(first.steps[0]))), root=Onset(0, (0, int(first.steps[0]))))


@sign("score-deviation-jumps")
def score_deviation_jumps(facts: Facts) -> Answer:
    """From one step to the next the spread of the scores grows to more than 2.5 times what it was, and stays there."""
    reading = spread_of_score(facts, 12)
    if reading is None:
        return unknown("The spread of the scores is not logged for twelve steps.", SCORE_STD)
    before, after = growth_in_a_step(smooth(reading.values), 8, 4)
    factors = np.divide(after, before, out=np.zeros_like(after), where=before > 0)
    where = int(np.argmax(factors))
    best = float(factors[where])
    text = f"At most the scores' spread grows {best:.2f}-fold within a step, at step {reading.steps[where]}."
    if best <= 2.5:
        return no(text)
    low, high = reading.steps[max(0, where - 2)], reading.steps[min(len(factors) - 1, where + 1)]
    onset = Onset(int(reading.steps[where]), (int(low), int(high)))
    return yes(text, onset, root=onset)


# Components


class Parts(NamedTuple):
    """Whether the bonuses of a score that is a sum outweigh its main part.

    Attributes:
        value, least: of the bonuses, and from which value on they do.
        at_first: whether `value` is of the first responses; else of the last.
    """

    dominated: bool
    text: str
    value: float
    least: float
    at_first: bool = False


def parts_of_score(facts: Facts, sample: RolloutSample) -> Parts:
    """Whether bonuses outweigh the task: by what the score gained, or else by what moves it from the first step on.

    Within prompts, where the optimiser compares, the bonuses of the first responses differ at least as much as the main
    part does (standard deviations), a response with more bonus has less of the main part (over the run, t below -3),
    and from its first tenth to the last the main part gains less than one deviation of the first responses. A format
    that a right answer needs, or that has nothing to do with it, does not go against the main part, whatever it weighs.
    """
    found, answers = parts_of_gain(sample), answers_of(facts.policy)
    if found.dominated or answers is None:
        return found
    main, bonus = sample.numbers["main_score"], sample.numbers["score"] - sample.numbers["main_score"]
    spread, of_main = (float(np.nanstd(answers.centre(x, answers.early))) for x in (bonus, main))
    price = answers.price(bonus, answers.standardised("main_score", np.isfinite(main)), np.isfinite(main))
    _, by_step = sample.by_step(main)
    tenths = [float(part.mean()) for part in np.array_split(by_step[np.isfinite(by_step)], 10) if len(part)]
    stands = tenths[-1] - tenths[0] < float(np.nanstd(main[answers.early]))
    if price is None or not (spread >= of_main > 0) or price.t >= -3 or not stands:
        return found
    text = (
        f"Within prompts the bonuses of the first responses differ by {spread:.2f}, the main part by {of_main:.2f}; "
        f"over the run a response with 1 more of bonus has {price.slope:.2f} deviations of the main part."
    )
    return Parts(True, text, spread, of_main, at_first=True)


def parts_of_gain(sample: RolloutSample) -> Parts:
    """Whether bonuses pay for the rise of the score at the expense of the task, in tenths of the steps.

    Either more than 70 % of the gain from the first tenth to the last is not of the main part, which gained less than a
    quarter of its first deviation, or more than 90 % and less than half; or the main part has lost a quarter of that
    deviation since its best tenth, and the bonuses gained as much or more.
    """
    score, main = sample.numbers["score"], sample.numbers["main_score"]
    spread, of_score = (float(np.nanstd(x[sample.early()])) for x in (main, score))
    totals, mains = ([float(part.mean()) for part in np.array_split(sample.by_step(x)[1], 10) if len(part)]
                     for x in (score, main))  # fmt: skip
    gain, of_main = totals[-1] - totals[0], mains[-1] - mains[0]
    best = int(np.argmax(mains))
    lost, bonus = mains[best] - mains[-1], (totals[-1] - mains[-1]) - (totals[best] - mains[best])
    little = max(0.25 * spread, min(0.1 * gain, 0.5 * spread))
    if gain > 0.25 * of_score and of_main < little and gain - of_main > 0.7 * gain:
        return Parts(True, f"From the first tenth to the last the score gains {gain:.2f}, its main part {of_main:.2f}.",
                     gain - of_main, 0.7 * gain)  # fmt: skip
    text = f"Since its best tenth, number {best + 1}, the main part lost {lost:.2f} and the bonuses gained {bonus:.2f}."
    return Parts(lost > 0.25 * spread and bonus >= lost, text, bonus, lost)


def one_part(facts: Facts) -> bool:
    """Whether the score is no sum: our own trainer would have recorded its main part in rollouts and metrics."""
    sample, policy = facts.rollouts, facts.policy
    recorded = sample is None or policy is None or "source" in facts.run.run or MAIN in policy.metrics
    return not recorded and sample is not None and not np.isfinite(sample.numbers["main_score"]).any()


@sign("bonus-drives-score")
def bonus_drives_score(facts: Facts) -> Answer:
    """The score is a sum, and its bonuses are what it gains while the part that measures the task stands still or falls
    from its best; or between the first responses they differ more than that part does, and go against it."""
    sample = facts.rollouts
    if one_part(facts):
        return no("The score is no sum: no main part is recorded.")
    if sample is None or not sample.has("score", "main_score"):
        return unknown("The parts of the score are not recorded.", "rollouts: main_score")
    found = parts_of_score(facts, sample)
    if not found.dominated:
        return no(found.text)
    paid = sample.steps[np.abs(sample.numbers["score"] - sample.numbers["main_score"]) > 1e-6]
    steps = sample.distinct_steps
    first = int(np.flatnonzero(steps == paid.min())[0])
    low = 0 if first == 0 else int(steps[first - 1])
    return yes(found.text, root=Onset(0 if first == 0 else int(steps[first]), (low, int(steps[first]))))
