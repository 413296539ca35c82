"""What a few evaluated checkpoints say: logs of two to nineteen points, whose noise cannot be estimated.

Longer series are judged by the detectors and by the signs of their families.
"""

import numpy as np

from regard.review.facts import Facts
from regard.review.outcome import Onset
from regard.review.signs import Answer, no, sign, unknown, yes
from regard.review.signs.kl import COEF_SETTINGS, coefficient, score_deviation
from regard.review.statistics import Reading, first_of

FEW, MANY = 2, 20
KL = tuple(f"kl/policy_ref_{estimator}/seq_sum" for estimator in ("k1", "k3", "k2", "unknown"))
SCORE, LENGTH = ("score/reward_model/mean",), ("length/response_tokens/mean",)
LEAST_NATS, STEP = 0.1, 1.15
HARDLY_NATS, HARDLY_GAIN = 0.01, 0.02
GROWTH = 1.5
VIOLATION, REFUSAL = ("behaviour/violation/frac",), ("behaviour/refusal_on_unsafe/frac",)
WORSE = 0.1


def checkpoints(facts: Facts, keys: tuple[str, ...]) -> Reading | None:
    """A series of so few points that each is an evaluation rather than a step."""
    found = first_of(facts.policy, keys, FEW) if facts.policy else None
    return found if found is not None and len(found.values) < MANY else None


@sign("checkpoints-kl-climbs")
def kl_climbs(facts: Facts) -> Answer:
    """Over a few checkpoints the KL rises each time and by 15 % or more to the last one: it has found no level."""
    kl = checkpoints(facts, KL)
    if kl is None:
        return unknown("There are no two to nineteen checkpoints of a KL per sequence.", *KL[:1])
    rises = bool(np.all(np.diff(kl.values) > 0))
    end, before = float(kl.values[-1]), float(kl.values[-2])
    text = f"The KL goes from {kl.values[0]:.3g} over {before:.3g} to {end:.3g} nats."
    if not (rises and end > LEAST_NATS and end > STEP * before):
        return no(text)
    first = int(np.argmax(kl.values > LEAST_NATS))
    low, step = int(kl.steps[max(0, first - 1)]), int(kl.steps[first])
    return yes(text, Onset(step, (low, step)))


@sign("checkpoints-nothing-moves")
def nothing_moves(facts: Facts) -> Answer:
    """From the first checkpoint to the last the policy stays at the reference, and the score where it was."""
    kl, score = checkpoints(facts, KL), checkpoints(facts, SCORE)
    if kl is None or score is None:
        return unknown("There are no two to nineteen checkpoints of score and KL.", *SCORE, *KL[:1])
    gain = float(score.values[-1] - score.values[0])
    text = f"The KL ends at {kl.values[-1]:.3g} nats and the score {gain:+.3g} from its start."
    size = max(1e-12, abs(float(score.values[0])))
    return yes(text) if kl.values[-1] < HARDLY_NATS and gain < HARDLY_GAIN * size else no(text)


@sign("checkpoints-length-grows")
def length_grows(facts: Facts) -> Answer:
    """Responses at the last checkpoint are half as long again as at the first."""
    length = checkpoints(facts, LENGTH)
    if length is None:
        return unknown("There are no two to nineteen checkpoints of the length.", *LENGTH)
    start, end = float(length.values[0]), float(length.values[-1])
    text = f"The length goes from {start:.3g} to {end:.3g} tokens."
    return yes(text) if end > GROWTH * start else no(text)


@sign("checkpoints-behaviour-regresses")
def behaviour_regresses(facts: Facts) -> Answer:
    """Rules are broken, or unsafe requests answered, on ten points more of the cases than at the first checkpoint."""
    found = [(name, reading) for name, keys in (("violations", VIOLATION), ("refusals of unsafe requests", REFUSAL))
             if (reading := checkpoints(facts, keys)) is not None]  # fmt: skip
    if not found:
        return unknown("Rule-breaking and refusals were not measured.", *VIOLATION, *REFUSAL)
    text = "; ".join(f"{name} from {r.values[0]:.0%} to {r.values[-1]:.0%}" for name, r in found) + "."
    worse = any((r.values[-1] - r.values[0]) * (1 if name == "violations" else -1) > WORSE for name, r in found)
    return yes(text) if worse else no(text)


@sign("coefficient-above-one")
def coefficient_above_one(facts: Facts) -> Answer:
    """The KL coefficient is 1 or more. Asked only where the spread of the score, which it is to be held against, is not
    logged."""
    coef, deviation = coefficient(facts), score_deviation(facts)
    if coef is None or deviation is not None:
        return unknown(
            "The coefficient is not known, or the score's spread is and decides.", f"config: {COEF_SETTINGS[0]}"
        )
    text = f"The KL coefficient is {coef:.3g}; 0.01 to 0.2 is usual."
    return yes(text, root=Onset(0, (0, 0))) if coef >= 1 else no(text)
