"""Signs of value, sampler, number formats, restarts and DPO: yes, no and unknown."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support_record import Row, make_record
from support_sampler import Build, drawn, ramp, stage_4, wobble

from regard.review.facts import Facts
from regard.review.signs import all_signs

INF = float("inf")
LOSS, EV, MEAN, RETURNS = (
    "loss/value/mean", "value/explained_variance/value", "value/prediction/mean", "value/returns/mean"
)  # fmt: skip
SPREAD, LOW, HIGH, CLIP = "value/returns/std", "value/prediction/min", "value/prediction/max", "clip/value/frac"
SCORE, WORST, BEST = "score/reward_model/mean", "score/reward_model/min", "score/reward_model/max"
STEP, GRAD, RATE, SKIPPED = (
    "kl/old_new_k2/mean", "optim/grad_norm/last", "optim/learning_rate/last", "optim/nonfinite_grads/count"
)  # fmt: skip
UPDATE, WEIGHTS, CHANGED = "optim/update_norm/value", "optim/param_norm/value", "optim/weights_changed/frac"
KL, MISMATCH, CUT, LENGTH = (
    "kl/policy_ref_k1/seq_sum", "kl/generator_trainer_k3/mean", "finish/truncated/frac", "length/response_tokens/mean"
)  # fmt: skip
CHOSEN, REJECTED, PAIR_LOSS = "preference/reward_chosen/mean", "preference/reward_rejected/mean", "preference/loss/mean"
PAIR_RIGHT, PAIR_VAL = "preference/accuracy/mean", "preference/loss_val/mean"
SAME, NO_SAMPLER = drawn(), drawn(drop=["generator_logprobs"])
CONFIG = {"sft": {"batch_size": 10, "max_response_tokens": 30}, "ppo": {"max_response_tokens": 30}}
TAUGHT = {"sft": {"data/tokens/count": [60.0] * 10}}
RESUMED = {"ppo": [{"kind": "resume", "step": 20}]}
JUMP = [0.1] * 20 + [3.0] * 20


def sft(metrics: dict[str, list[float]], cap: int = 30, answers: list[list[int]] | None = None) -> Build:
    config = CONFIG | {"ppo": {"max_response_tokens": cap}}
    events = {"sft": [{"kind": "rendered", "responses": answers}]} if answers else None
    return lambda path: make_record(path, {**TAUGHT, "ppo": metrics}, config=config, events=events)


def dpo(**metrics: list[float]) -> Build:
    return lambda path: make_record(path, {"dpo": metrics})


def ended(share: float, rate: float) -> Build:
    """A cap of 12; a share of the responses is cut, the others end late at this rate."""

    def length(row: dict[str, object], random: np.random.Generator) -> int:
        return 12 if row["truncated"] else 5 if random.random() > rate else int(random.integers(7, 12))

    cut = {"truncated": lambda row, random: bool(random.random() < share)}
    return stage_4(rows=drawn(**cut, finished=lambda row, random: not row["truncated"], length=length))


def end_at_cap(logprob: float) -> Build:
    def last(row: dict[str, object], random: np.random.Generator) -> list[float]:
        values = list(row["logprobs"])  # type: ignore[call-overload]
        return [*values[:-1], logprob if len(values) == 11 else -1.0]

    return stage_4(rows=drawn(logprobs=last))


def first_values(off: float, level: float = 0.0) -> Callable[[int], list[Row]]:
    """Values that are `level`, and at random off by so many deviations of the returns, at first, and right later."""

    def values(row: Row, random: np.random.Generator) -> list[float]:
        return (
            (level + off * random.normal(size=row["length"])).tolist() if row["policy_version"] == 1 else row["returns"]
        )

    return drawn(returns=lambda row, random: random.normal(size=row["length"]).tolist(), values=values)


def default(share: float) -> Build:
    return stage_4(rows=drawn(score=lambda row, random: 0.0 if random.random() < share else row["score"]))


EMPTY = stage_4()
QUIET = {GRAD: [1.0] * 40, RATE: [1e-3] * 40}
CASES: list[tuple[str, bool | None, str, Build]] = [
    ("value-explains-nothing", True, "", stage_4({EV: [0.0] * 40})),
    ("value-explains-nothing", False, "", stage_4({EV: ramp(0, 0.7)})),
    ("value-explains-nothing", None, "never logged", stage_4({EV: [float("nan")] * 40})),
    ("value-wrong-at-first", True, "", stage_4(rows=first_values(2.0))),
    ("value-wrong-at-first", False, "a head at zero", stage_4(rows=first_values(0.0))),
    ("value-wrong-at-first", False, "off as a whole", stage_4(rows=first_values(0.0, level=9.0))),
    ("value-wrong-at-first", None, "", stage_4(rows=SAME)),
    ("value-off-level", True, "", stage_4({MEAN: [5.0] * 40, RETURNS: [1.0] * 40, SPREAD: [1.0] * 40})),
    ("value-off-level", False, "", stage_4({MEAN: ramp(0, 1), RETURNS: [1.0] * 40, SPREAD: [1.0] * 40})),
    ("value-off-level", None, "", stage_4({MEAN: [5.0] * 40})),
    ("value-beyond-scores", True, "", stage_4({
        LOW: [-9.0] * 40, HIGH: [2.0] * 40, SCORE: [0.0] * 40, WORST: [-2.0] * 40, BEST: [2.0] * 40})),
    ("value-beyond-scores", False, "", stage_4({
        LOW: [-2.0] * 40, HIGH: [2.0] * 40, SCORE: [0.0] * 40, WORST: [-2.0] * 40, BEST: [2.0] * 40})),
    ("value-beyond-scores", None, "", stage_4({LOW: [-2.0] * 40})),
    ("value-swings", True, "", stage_4({
        MEAN: [8.0 * (-1) ** n for n in range(40)], LOW: [-9.0] * 40, HIGH: [9.0] * 40, SPREAD: [1.0] * 40})),
    ("value-swings", False, "wrong but steady", stage_4({
        MEAN: wobble(5, 1), LOW: [-9.0] * 40, HIGH: [9.0] * 40, SPREAD: [1.0] * 40})),
    ("value-swings", None, "", stage_4({MEAN: wobble(5, 1)})),
    ("value-clip-binds", True, "", stage_4({CLIP: [0.7] * 40})),
    ("value-clip-binds", False, "at first", stage_4({CLIP: ramp(0.5, 0.0)})),
    ("value-clip-binds", None, "", EMPTY),
    ("value-loss-grows", True, "", stage_4({LOSS: JUMP})),
    ("value-loss-grows", False, "", stage_4({LOSS: ramp(1, 0.1)})),
    ("value-loss-grows", None, "", EMPTY),
    ("value-loss-jumps-first", True, "", stage_4({LOSS: JUMP, STEP: wobble(0.01, 1e-3)})),
    ("value-loss-jumps-first", False, "policy leads", stage_4({LOSS: JUMP, STEP: [0.01] * 15 + [0.5] * 25})),
    ("value-loss-jumps-first", False, "below a constant", stage_4({
        LOSS: [0.01] * 20 + [0.08] * 20, STEP: wobble(0.01, 1e-3), SPREAD: [1.0] * 40})),
    ("value-loss-jumps-first", None, "", stage_4({LOSS: JUMP})),
    ("sampler-differs-at-start", True, "rollouts", stage_4(rows=drawn("cold"))),
    ("sampler-differs-at-start", False, "rollouts", stage_4(rows=drawn("old"))),
    ("sampler-differs-at-start", None, "", stage_4(rows=NO_SAMPLER)),
    ("sampler-gap-at-end", True, "", stage_4(rows=drawn("noisy", since=12))),
    ("sampler-gap-at-end", False, "", stage_4(rows=SAME)),
    ("sampler-gap-at-end", None, "", stage_4(rows=NO_SAMPLER)),
    ("sampler-slope-off", True, "cold", stage_4(rows=drawn("cold"))),
    ("sampler-slope-off", True, "mid", stage_4(rows=drawn("cold", since=12))),
    ("sampler-slope-off", False, "noise", stage_4(rows=drawn("noisy"))),
    ("sampler-slope-off", False, "old weights", stage_4(rows=drawn("old"))),
    ("sampler-slope-off", None, "", stage_4(rows=NO_SAMPLER)),
    ("agreement-lost", True, "", stage_4({MISMATCH: [7e-14] * 20 + [6e-4] * 20})),
    ("sampler-is-an-older-policy", False, "far at once", stage_4(
        {MISMATCH: [7e-14] * 12 + [6e-3] * 28}, rows=drawn("noisy", since=12))),
    ("sampler-gap-is-noise", True, "far at once", stage_4(
        {MISMATCH: [7e-14] * 12 + [6e-3] * 28}, rows=drawn("noisy", since=12))),
    ("sampler-is-an-older-policy", True, "at once, and close behind", stage_4(
        {MISMATCH: [7e-14] + [6e-3] * 39}, rows=drawn("old"))),
    ("agreement-lost", False, "never", stage_4({MISMATCH: [7e-14] * 40})),
    ("agreement-lost", False, "another number format from the start", stage_4({MISMATCH: [6e-4] * 40})),
    ("agreement-lost", False, "one step alone", stage_4({MISMATCH: [*[7e-14] * 20, 6e-4, *[7e-14] * 19]})),
    ("agreement-lost", None, "", EMPTY),
    ("sampler-mass-missing", True, "", stage_4(rows=drawn("top"))),
    ("sampler-mass-missing", False, "noise", stage_4(rows=drawn("noisy"))),
    ("sampler-mass-missing", None, "", stage_4(rows=NO_SAMPLER)),
    ("sampler-is-an-older-policy", True, "", stage_4(rows=drawn("old"))),
    ("sampler-is-an-older-policy", False, "noise", stage_4(rows=drawn("noisy", since=12))),
    ("sampler-is-an-older-policy", False, "cold", stage_4(rows=drawn("cold", since=12))),
    ("sampler-is-an-older-policy", None, "", stage_4(rows=NO_SAMPLER)),
    ("sampler-gap-is-noise", True, "", stage_4(rows=drawn("noisy"))),
    ("sampler-gap-is-noise", False, "none", stage_4(rows=SAME)),
    ("sampler-gap-is-noise", False, "cold", stage_4(rows=drawn("cold"))),
    ("sampler-gap-is-noise", False, "old", stage_4(rows=drawn("old"))),
    ("sampler-gap-is-noise", None, "", stage_4(rows=NO_SAMPLER)),
    ("sampler-gap-builds-up", True, "", stage_4({MISMATCH: [1e-7] * 10 + ramp(0.001, 0.1, 30)})),
    ("sampler-gap-builds-up", False, "at once", stage_4({MISMATCH: [1e-7] * 10 + [0.1] * 30})),
    ("sampler-gap-builds-up", None, "", EMPTY),
    ("weights-not-sent", True, "", stage_4(rows=drawn(policy_version=lambda row, random: 3))),
    ("weights-not-sent", True, "logged", stage_4({"policy/staleness/mean": ramp(0, 30)})),
    ("weights-not-sent", False, "", stage_4(rows=SAME)),
    ("weights-not-sent", None, "", EMPTY),
    ("gap-grows-with-padding", True, "", stage_4(rows=drawn("padded"))),
    ("gap-grows-with-padding", False, "", stage_4(rows=drawn("noisy"))),
    ("gap-grows-with-padding", None, "", stage_4(rows=drawn("padded", drop=["prompt_tokens"]))),
    ("cut-from-the-start", True, "", stage_4({CUT: [0.3] * 5})),
    ("cut-from-the-start", False, "", stage_4({CUT: [0.05] * 5})),
    ("cut-from-the-start", None, "", EMPTY),
    ("longer-than-sft-answers", True, "", sft({LENGTH: [12.0] * 5})),
    ("longer-than-sft-answers", False, "", sft({LENGTH: [6.0] * 5})),
    ("longer-than-sft-answers", None, "", stage_4({LENGTH: [6.0] * 5})),
    ("sft-labels-lack-an-end", True, "", sft({}, answers=[[5, 6, 10 + n] for n in range(16)])),
    ("sft-labels-lack-an-end", False, "", sft({}, answers=[[5, 10 + n, 1] for n in range(16)])),
    ("sft-labels-lack-an-end", None, "cut", sft({}, answers=[[5] * 30] * 16)),
    ("cap-near-sft-length", True, "", sft({}, cap=7)),
    ("cap-near-sft-length", False, "", sft({})),
    ("cap-near-sft-length", None, "", EMPTY),
    ("would-end-under-a-longer-cap", True, "", ended(0.3, 1.0)),
    ("would-end-under-a-longer-cap", False, "never", ended(0.9, 0.0)),
    ("would-end-under-a-longer-cap", False, "not cut", ended(0.02, 1.0)),
    ("would-end-under-a-longer-cap", None, "", stage_4(rows=drawn(drop=["finished"]))),
    ("end-is-forced", True, "", end_at_cap(-12.0)),
    ("end-is-forced", False, "", end_at_cap(-1.5)),
    ("end-is-forced", None, "", stage_4(rows=drawn(drop=["logprobs"]))),
    ("one-score-for-many-texts", True, "", default(0.3)),
    ("one-score-for-many-texts", False, "", stage_4(rows=SAME)),
    ("one-score-for-many-texts", None, "coarse", stage_4(
        rows=drawn(score=lambda row, random: float(row["gold"] > 0)))),
    ("default-score-hides-quality", True, "", default(0.3)),
    ("default-score-hides-quality", False, "", stage_4(rows=SAME)),
    ("default-score-hides-quality", None, "", stage_4(rows=drawn(drop=["gold"]))),
    ("gradients-not-finite", True, "", stage_4({GRAD: [INF, 1.0, 1.0]})),
    ("gradients-not-finite", True, "counted", stage_4({SKIPPED: [0.0, 1.0, 1.0]})),
    ("gradients-not-finite", True, "none ever was", stage_4({GRAD: [INF, INF, INF]})),
    ("gradients-not-finite", None, "never logged", stage_4({GRAD: [float("nan")] * 3})),
    ("gradients-not-finite", False, "", stage_4(QUIET)),
    ("gradients-not-finite", None, "", EMPTY),
    ("ratio-explodes-before-nan", True, "", stage_4({GRAD: [1.0] * 9 + [500.0, INF]})),
    ("ratio-explodes-before-nan", False, "", stage_4({GRAD: [1.0] * 10 + [INF]})),
    ("ratio-explodes-before-nan", None, "", stage_4({SKIPPED: [0.0, 1.0, 1.0]})),
    ("updates-skipped", True, "", stage_4({SKIPPED: [0.0, 1.0, 0.0], UPDATE: [0.1, 0.0, 0.1]})),
    ("updates-skipped", False, "", stage_4({SKIPPED: [0.0, 1.0, 0.0], UPDATE: [0.1, 0.1, 0.1]})),
    ("updates-skipped", None, "", stage_4({SKIPPED: [0.0, 1.0, 0.0]})),
    ("updates-vanish", True, "", stage_4({**QUIET, UPDATE: [0.0] * 40, WEIGHTS: [9.0] * 40})),
    ("updates-vanish", False, "", stage_4({**QUIET, UPDATE: [0.1] * 40, WEIGHTS: [9.0] * 40})),
    ("updates-vanish", None, "", stage_4(QUIET)),
    ("fewer-weights-move-at-lower-rate", True, "", stage_4({CHANGED: ramp(0.4, 0.05), RATE: ramp(1e-3, 1e-4)})),
    ("fewer-weights-move-at-lower-rate", False, "", stage_4({CHANGED: [1.0] * 40, RATE: ramp(1e-3, 1e-4)})),
    ("fewer-weights-move-at-lower-rate", None, "", stage_4(QUIET)),
    ("learning-rate-restarts", True, "", stage_4(
        {RATE: [*ramp(1e-3, 5e-4, 21), *ramp(1e-3, 5e-4, 20)]}, events=RESUMED)),
    ("learning-rate-restarts", False, "", stage_4({RATE: ramp(1e-3, 1e-4)}, events=RESUMED)),
    ("learning-rate-restarts", None, "", stage_4({RATE: ramp(1e-3, 1e-4)}, events={})),
    ("prompts-start-over-after-resume", True, "", stage_4(
        rows=drawn(prompt_id=lambda row, random: str(int(row["prompt_id"]) % 320)), events=RESUMED)),
    ("prompts-start-over-after-resume", False, "", stage_4(rows=SAME, events=RESUMED)),
    ("prompts-start-over-after-resume", None, "", stage_4(events={})),
    ("kl-falls-to-zero-at-resume", True, "", stage_4({KL: [*ramp(0, 4, 21), *ramp(0, 2, 20)]}, events=RESUMED)),
    ("kl-falls-to-zero-at-resume", False, "", stage_4({KL: ramp(0, 4)}, events=RESUMED)),
    ("kl-falls-to-zero-at-resume", None, "", stage_4(events=RESUMED)),
    ("both-responses-less-likely", True, "", dpo(**{CHOSEN: ramp(0, -4), REJECTED: ramp(0, -9)})),
    ("both-responses-less-likely", False, "", dpo(**{CHOSEN: ramp(0, 1), REJECTED: ramp(0, -2)})),
    ("both-responses-less-likely", None, "", dpo(**{CHOSEN: ramp(0, 1)})),
    ("training-pairs-without-error", True, "", dpo(**{
        PAIR_LOSS: ramp(0.69, 0.01), PAIR_RIGHT: [0.7] * 20 + [1.0] * 20})),
    ("training-pairs-without-error", False, "", dpo(**{PAIR_LOSS: ramp(0.69, 0.4), PAIR_RIGHT: ramp(0.5, 0.8)})),
    ("training-pairs-without-error", None, "", dpo(**{PAIR_LOSS: ramp(0.69, 0.4)})),
    ("held-out-preference-loss-rises", True, "", dpo(**{PAIR_VAL: [0.69, 0.6, 0.7, 0.9]})),
    ("held-out-preference-loss-rises", False, "", dpo(**{PAIR_VAL: [0.69, 0.6, 0.58]})),
    ("held-out-preference-loss-rises", None, "", dpo(**{PAIR_LOSS: ramp(0.69, 0.4)})),
]  # fmt: skip
FAMILIES = ("critic", "generation", "numerics", "preference")


@pytest.mark.parametrize(("name", "holds", "case", "make"), CASES, ids=lambda x: x if isinstance(x, str) else "")
def test_answer(name: str, holds: bool | None, case: str, make: Build, tmp_path: Path) -> None:
    answer = all_signs()[name].ask(Facts(make(tmp_path)))
    assert answer.holds is holds, answer
    assert bool(answer.missing) == (holds is None)


def test_every_sign_has_a_case_of_each_answer() -> None:
    own = [name for name, one in all_signs().items() if one.ask.__module__.rpartition(".")[2] in FAMILIES]
    have = {(name, holds) for name, holds, _, _ in CASES}
    assert [(name, holds) for name in own for holds in (True, False, None) if (name, holds) not in have] == []
