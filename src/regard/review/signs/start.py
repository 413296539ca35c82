"""What the checks before the first update say, one by one: the triage of step 0."""

from regard.review.facts import Facts
from regard.review.sampler_gap import gaps
from regard.review.signs import Answer, no, sign, unknown, yes
from regard.runlog.invariants import INVARIANTS, recorded_tolerance


def invariant(facts: Facts, key: str) -> Answer:
    """Whether one of the checks before the first update is broken."""
    spec = next(one for one in INVARIANTS if one.key == key)
    stage = facts.policy
    series = stage.metrics.get(key) if stage else None
    tolerance = recorded_tolerance(stage) if stage else None
    limit = 0.0 if spec.multiple == 0 else None if tolerance is None else tolerance * spec.multiple
    if series is None or limit is None:
        return unknown("The log has no such check from before the first update.", key)
    value = float(series.values[0])
    text = f"{spec.label}: off by {value:.3g} {spec.unit}, allowed {limit:.3g}."
    return no(text) if abs(value) <= limit else yes(text)


@sign("kl-not-zero-at-start")
def kl_not_zero_at_start(facts: Facts) -> Answer:
    """KL to the reference is not 0 before the first update."""
    return invariant(facts, "invariant/kl_ref/value")


@sign("ratio-not-one-at-start")
def ratio_not_one_at_start(facts: Facts) -> Answer:
    """The ratio of new to old policy is not 1 before the first update."""
    return invariant(facts, "invariant/ratio_max_deviation/value")


@sign("forwards-differ")
def forwards_differ(facts: Facts) -> Answer:
    """Two identical forward passes give different log-probabilities."""
    return invariant(facts, "invariant/two_forwards_max_diff/value")


@sign("padding-changes-logprobs")
def padding_changes_logprobs(facts: Facts) -> Answer:
    """Padding or the other rows of a batch change a log-probability."""
    keys = ("invariant/padding_max_diff/value", "invariant/microbatch_max_diff/value")
    answers = [invariant(facts, key) for key in keys]
    return next((answer for answer in answers if answer.holds), answers[0])


@sign("sampler-differs-at-start")
def sampler_differs_at_start(facts: Facts) -> Answer:
    """Sampler and trainer disagree on log-probabilities before the first update, by the trainer's own check or on the
    first rollouts."""
    answer = invariant(facts, "invariant/generator_trainer_max_diff/value")
    pair = gaps(facts) if answer.holds is None else None
    if pair is None:
        return answer
    text = f"On the first rollouts sampler and trainer differ by {pair[0].size:.2g} nats per token."
    return yes(text) if pair[0].there else no(text)
