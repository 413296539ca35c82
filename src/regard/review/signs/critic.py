"""What tells a value that learns nothing from one that runs away, and both from a policy that is updated too hard."""

import numpy as np

from regard.review.facts import Facts
from regard.review.outcome import Onset
from regard.review.signs import Answer, no, sign, unknown, yes
from regard.review.statistics import Reading, first_of, smooth, windows_before
from regard.runlog.reader import StageLog
from regard.runlog.sample import Floats, Ints

LOSS, EXPLAINED = "loss/value/mean", "value/explained_variance/value"
PREDICTION, RETURNS, SPREAD = "value/prediction/mean", "value/returns/mean", "value/returns/std"
VALUE_MIN, VALUE_MAX = "value/prediction/min", "value/prediction/max"
SCORE, SCORE_MIN, SCORE_MAX = "score/reward_model/mean", "score/reward_model/min", "score/reward_model/max"
CLIPPED = "clip/value/frac"
MOVED = ("kl/old_new_k2/mean", "kl/old_new_k2/unmasked_mean")
LEAST = 10
WRONG_AT_FIRST = 1.5
"""A head that starts at one level is at 1."""
SPARE = 0.15
"""The first share of a run, in which every new value head is wrong."""


def together(stage: StageLog | None, *keys: str) -> tuple[Ints, list[Floats]] | None:
    """(steps, values of each metric) at the steps at which all of them are finite; None below ten such steps."""
    series = [stage.metrics.get(key) for key in keys] if stage else []
    if not series or any(one is None for one in series):
        return None
    tables = [dict(zip(one.steps.tolist(), one.values.tolist(), strict=True)) for one in series if one is not None]
    steps = [s for s in tables[0] if all(np.isfinite(table.get(s, np.nan)) for table in tables)]
    if len(steps) < LEAST:
        return None
    return np.array(steps, dtype=np.int64), [np.array([table[s] for s in steps]) for table in tables]


def _settled(values: Floats) -> Floats:
    return values[int(len(values) * SPARE) :]


@sign("value-explains-nothing")
def value_explains_nothing(facts: Facts) -> Answer:
    """In the last half of the run the value explains less than 5 % of the variance of the returns."""
    reading = first_of(facts.policy, (EXPLAINED,), LEAST) if facts.policy else None
    if reading is None:
        return unknown("Explained variance is not logged.", EXPLAINED)
    late = float(np.median(reading.values[len(reading.values) // 2 :]))
    text = f"Explained variance is {late:.2g} in the last half of the run."
    return yes(text) if late < 0.05 else no(text)


def first_errors(facts: Facts) -> tuple[float, float] | None:
    """Of the first responses, which no update has seen: (mean square of value − return, its variance), each in
    variances of the return; None where they are not recorded, or the returns hardly vary."""
    sample = facts.rollouts
    if sample is None or not sample.has("values", "returns") or sample.steps[0] > 1:
        return None
    values, returns = sample.per_token["values"], sample.per_token["returns"]
    if len(values.values) != len(returns.values):
        return None
    there = sample.steps[values.rows] == sample.steps[0]
    there &= np.isfinite(values.values) & np.isfinite(returns.values)
    returned, error = returns.values[there], (values.values - returns.values)[there]
    if not len(returned) or np.std(returned) <= 1e-3 * np.abs(returned).mean():
        return None
    return float((error**2).mean() / returned.var()), float(error.var() / returned.var())


@sign("value-wrong-at-first")
def value_wrong_at_first(facts: Facts) -> Answer:
    """On the first responses, before any update, return less value varies more than 1.5 times as much as the return
    alone: the value is no head that starts at zero, nor at any one level."""
    errors = first_errors(facts)
    if errors is None:
        return unknown("The first values and returns are not recorded.", "rollouts: values", "rollouts: returns")
    text = f"The first values miss the returns with {errors[1]:.2g} times the returns' own variance."
    return yes(text) if errors[1] > WRONG_AT_FIRST else no(text)


@sign("value-off-level")
def value_off_level(facts: Facts) -> Answer:
    """In most steps after the first the mean value is further from the mean return than the returns spread."""
    found = together(facts.policy, PREDICTION, RETURNS, SPREAD)
    if found is None:
        return unknown("Mean value, mean return and their spread are not logged.", PREDICTION, RETURNS, SPREAD)
    value, returns, spread = (_settled(one) for one in found[1])
    off = float((np.abs(value - returns) > spread).mean())
    text = f"In {off:.0%} of the steps the mean value is off by more than the spread of the returns."
    return yes(text) if off > 0.5 else no(text)


@sign("value-beyond-scores")
def value_beyond_scores(facts: Facts) -> Answer:
    """In at least three steps after the first, values lie three times as far from the mean score as any score does."""
    found = together(facts.policy, VALUE_MIN, VALUE_MAX, SCORE, SCORE_MIN, SCORE_MAX)
    if found is None:
        return unknown("The range of values and scores is not logged.", VALUE_MIN, VALUE_MAX, SCORE_MIN, SCORE_MAX)
    low, high, mean, worst, best = (_settled(one) for one in found[1])
    reach = np.maximum(np.abs(high - mean), np.abs(low - mean))
    scores = np.maximum(np.maximum(best - mean, mean - worst), 1e-9)
    factor = reach / np.maximum(scores, np.median(scores))
    far = int((factor > 3).sum())
    text = (
        f"Values lie up to {factor.max():.1f} times as far from the mean score as any score; in {far} steps beyond 3."
    )
    return yes(text) if far >= 3 else no(text)


@sign("value-swings")
def value_swings(facts: Facts) -> Answer:
    """After the first steps, in at least three, the mean value moves from one step to the next by more than 0.4 of the
    range that values have within a step, and by more than the returns spread."""
    found = together(facts.policy, PREDICTION, VALUE_MIN, VALUE_MAX, SPREAD)
    if found is None:
        return unknown("Mean and range of the value are not logged.", PREDICTION, VALUE_MIN, VALUE_MAX, SPREAD)
    mean, low, high, spread = (_settled(one) for one in found[1])
    moved = np.abs(np.diff(mean))
    wide = (moved > 0.4 * (high - low)[1:]) & (moved > spread[1:])
    text = f"The mean value moves by up to {moved.max():.2g} from one step to the next, far in {int(wide.sum())} steps."
    return yes(text) if wide.sum() >= 3 else no(text)


@sign("value-clip-binds")
def value_clip_binds(facts: Facts) -> Answer:
    """After the first steps the clip of the value loss holds back more than half of the tokens, so the value cannot
    reach the returns."""
    reading = first_of(facts.policy, (CLIPPED,), LEAST) if facts.policy else None
    if reading is None:
        return unknown("The share of clipped values is not logged.", CLIPPED)
    late = float(np.median(_settled(reading.values)))
    text = f"{late:.0%} of the values are clipped."
    return yes(text) if late > 0.4 else no(text)


def first_jump(reading: Reading, least: float = 0.0, deviations: float = 8.0, factor: float = 3.0) -> int | None:
    """Index of the first value above `least` and above 8 deviations (MAD) and 3 times the median of the up to twenty,
    at least six, before it; None where there is none."""
    values = reading.values[6:]
    before = windows_before(reading.values, 20)[6:]
    median = np.nanmedian(before, axis=1)
    deviation = np.nanmedian(np.abs(before - median[:, None]), axis=1)
    jumps = np.flatnonzero(values > np.maximum(np.maximum(least, median + deviations * deviation), factor * median))
    return int(jumps[0]) + 6 if len(jumps) else None


@sign("value-loss-grows")
def value_loss_grows(facts: Facts) -> Answer:
    """The value loss ends, or lies for ten steps, more than ten times above its own calmest stretch before."""
    reading = first_of(facts.policy, (LOSS,), 2 * LEAST) if facts.policy else None
    if reading is None:
        return unknown("The value loss is not logged.", LOSS)
    level = smooth(smooth(reading.values))
    calmest = np.minimum.accumulate(np.maximum(level, 1e-12))
    factor = level / calmest
    high = factor > 10
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[False], high, [False]]).astype(int))))[::2]
    lasting = bool(high[-3:].all() or (len(runs) and runs.max() >= 10))
    text = f"The value loss rises to {factor.max():.1f} times its calmest level before."
    if not lasting:
        return no(text)
    at = int(np.argmax(high))
    first = max(0, at - 2)
    return yes(text, Onset(int(reading.steps[at]), (int(reading.steps[first]), int(reading.steps[at]))))


@sign("value-loss-jumps-first")
def value_loss_jumps_first(facts: Facts) -> Answer:
    """The value loss jumps above its own past, and above what a constant would cost, before the distance of old to new
    policy jumps."""
    stage = facts.policy
    loss = first_of(stage, (LOSS,), LEAST) if stage else None
    moved = first_of(stage, MOVED, LEAST) if stage else None
    if loss is None or moved is None:
        return unknown("Value loss and the distance of old to new policy are not both logged.", LOSS, MOVED[0])
    spread = first_of(stage, (SPREAD, "score/reward_model/std"), LEAST) if stage else None
    constant = 0.5 * float(np.median(spread.values)) ** 2 if spread else 0.0
    value, policy = first_jump(loss, least=constant), first_jump(moved)
    if value is None:
        return no("The value loss makes no jump.")
    step = int(loss.steps[value])
    text = f"The value loss jumps at step {step}"
    if policy is None:
        return yes(f"{text}, the policy does not.", Onset(step, (int(loss.steps[value - 1]), step)))
    other = int(moved.steps[policy])
    text += f", the policy's step length at {other}."
    return yes(text, Onset(step, (int(loss.steps[value - 1]), step))) if step < other else no(text)
