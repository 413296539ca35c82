"""Detectors of value, sampler, grader, number formats, restarts and DPO: fired, clear and cannot tell."""

from pathlib import Path

import pytest
from support_sampler import Build, drawn, ramp, stage_4, wobble
from test_signs_generation import (
    CHANGED,
    CHOSEN,
    EMPTY,
    GRAD,
    LOSS,
    MISMATCH,
    NO_SAMPLER,
    QUIET,
    RATE,
    REJECTED,
    RESUMED,
    SAME,
    SPREAD,
    STEP,
    UPDATE,
    dpo,
    first_values,
)

from regard.review import catalogue
from regard.review.outcome import CannotTell, Clear, Fired

MARGIN, LOGPROBS = "preference/margin/mean", "preference/logprobs_chosen/seq_sum"
PREDICTION = "value/prediction/mean"
INF = float("inf")


def outage(first: int, last: int) -> Build:
    def rows(step: int) -> list[dict[str, object]]:
        made = drawn()(step)
        return [row | {"score": 0.0} for row in made] if first <= step <= last else made

    return stage_4(rows=rows)


def runs_away(off: float) -> Build:
    return stage_4({LOSS: ramp(40, 30), SPREAD: [1.0] * 40, PREDICTION: [4.0, -4.0] * 20}, rows=first_values(off))


CASES: list[tuple[str, type, str, Build]] = [
    ("VAL002", Fired, "random", stage_4({LOSS: [6.0] * 40, SPREAD: [1.0] * 40})),
    ("VAL002", Fired, "by scores", stage_4({LOSS: [9.0] * 40, "score/reward_model/std": [1.0] * 40})),
    ("VAL002", Clear, "new head", stage_4({LOSS: ramp(6, 0.1), SPREAD: [1.0] * 40})),
    ("VAL002", Clear, "scores become all the same", stage_4({LOSS: ramp(0.3, 0.002), SPREAD: ramp(1, 0.001)})),
    ("VAL002", CannotTell, "no spread", stage_4({LOSS: [6.0] * 40})),
    ("VAL003", Fired, "runs away and comes back", stage_4({LOSS: ramp(40, 0.1), SPREAD: [1.0] * 40,
                                                           PREDICTION: [4.0, -4.0] * 20})),
    ("VAL003", Clear, "swings, and was as wrong at first", runs_away(6.0)),
    ("VAL003", Fired, "runs away in its first update", runs_away(0.0)),
    ("VAL003", Clear, "wrong and still", stage_4({LOSS: [40.0] * 40, SPREAD: [1.0] * 40, PREDICTION: [8.0] * 40})),
    ("VAL003", Clear, "a new head far off", stage_4({LOSS: [40.0, 8.0, *[0.4] * 38], SPREAD: [1.0] * 40,
                                                     PREDICTION: [0.0, 6.0, *[8.0] * 38]})),
    ("VAL003", CannotTell, "no mean value", stage_4({LOSS: [6.0] * 40, SPREAD: [1.0] * 40})),
    ("GEN001", Fired, "cold", stage_4(rows=drawn("cold"))),
    ("GEN001", Fired, "top", stage_4(rows=drawn("top", since=12))),
    ("GEN001", Clear, "same", stage_4(rows=SAME)),
    ("GEN001", Clear, "noise", stage_4(rows=drawn("noisy"))),
    ("GEN001", Clear, "old weights", stage_4(rows=drawn("old"))),
    ("GEN001", CannotTell, "", stage_4(rows=NO_SAMPLER)),
    ("GEN002", Fired, "outage", outage(9, 13)),
    ("GEN002", Clear, "two steps", outage(9, 10)),
    ("GEN002", Clear, "coarse and always the same", outage(0, 99)),
    ("GEN002", CannotTell, "", EMPTY),
    ("GEN003", Fired, "mid-run", stage_4({MISMATCH: [7e-14] * 20 + [6e-4] * 20})),
    ("GEN003", Clear, "never", stage_4({MISMATCH: [7e-14] * 40})),
    ("GEN003", CannotTell, "", EMPTY),
    ("NUM001", Fired, "infinite at once", stage_4({GRAD: [INF, 1.0, 1.0]})),
    ("NUM003", Fired, "", stage_4({**QUIET, CHANGED: [0.2] * 40})),
    ("NUM003", Clear, "", stage_4({**QUIET, CHANGED: [0.97] * 40})),
    ("NUM003", Clear, "no gradient", stage_4({GRAD: [0.0] * 40, RATE: [1e-3] * 40, CHANGED: [0.0] * 40})),
    ("NUM003", CannotTell, "", stage_4(QUIET)),
    ("NUM004", Fired, "schedule", stage_4({RATE: [*ramp(1e-3, 5e-4, 21), *ramp(1e-3, 5e-4, 20)]}, events=RESUMED)),
    ("NUM004", Fired, "moments", stage_4({
        UPDATE: [*wobble(0.1, 0.005, 21), 0.4, *wobble(0.1, 0.005, 19)],
        STEP: [*wobble(0.01, 0.001, 21), 0.09, *wobble(0.01, 0.001, 19)]}, events=RESUMED)),
    ("NUM004", Clear, "one alone", stage_4(
        {UPDATE: [*wobble(0.1, 0.005, 21), 0.4, *wobble(0.1, 0.005, 19)]}, events=RESUMED)),
    ("NUM004", Clear, "unbroken", stage_4({RATE: ramp(1e-3, 1e-4)}, events=RESUMED)),
    ("NUM004", CannotTell, "", stage_4({RATE: ramp(1e-3, 1e-4)}, events={})),
    ("DPO003", Fired, "", dpo(**{CHOSEN: ramp(0, -4), REJECTED: ramp(0, -9), MARGIN: ramp(0, 5)})),
    ("DPO003", Fired, "by a third", dpo(**{CHOSEN: ramp(0, -4), MARGIN: ramp(0, 5), LOGPROBS: ramp(-90, -130)})),
    ("DPO003", Clear, "slightly", dpo(**{CHOSEN: ramp(0, -0.5), MARGIN: ramp(0, 5), LOGPROBS: ramp(-90, -95)})),
    ("DPO003", Clear, "rises", dpo(**{CHOSEN: ramp(0, 1), MARGIN: ramp(0, 5)})),
    ("DPO003", CannotTell, "", dpo(**{MARGIN: ramp(0, 5)})),
]  # fmt: skip


@pytest.mark.parametrize(("code", "expected", "case", "make"), CASES, ids=lambda x: x if isinstance(x, str) else "")
def test_outcome(code: str, expected: type, case: str, make: Build, tmp_path: Path) -> None:
    run = make(tmp_path)
    outcome = catalogue()[code].check(run, next(iter(run.stages.values())))
    assert type(outcome) is expected, outcome


@pytest.mark.parametrize(("code", "make", "truth"), [
    ("GEN001", stage_4(rows=drawn("cold", since=12)), 12),
    ("GEN002", outage(9, 13), 9),
    ("NUM004", stage_4({RATE: [*ramp(1e-3, 5e-4, 21), *ramp(1e-3, 5e-4, 20)]}, events=RESUMED), 21),
    ("GEN003", stage_4({MISMATCH: [7e-14] * 20 + [6e-4] * 20}), 20),
    ("GEN003", stage_4({MISMATCH: [*[7e-14] * 5, 6e-4, *[7e-14] * 14, *[6e-4] * 20]}), 20),
])  # fmt: skip
def test_onset_lies_in_its_interval(code: str, make: Build, truth: int, tmp_path: Path) -> None:
    run = make(tmp_path)
    outcome = catalogue()[code].check(run, run.stages["ppo"])
    assert isinstance(outcome, Fired)
    low, high = outcome.onset.interval
    assert low <= truth <= high and high - low <= 2
