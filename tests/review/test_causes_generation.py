"""Each cause of critic, generation, numerics and DPO: its evidence ranks it first, and without what decides no other is
diagnosed in its place."""

from pathlib import Path
from typing import Any

import pytest
from support_record import make_record
from support_sampler import EXACT, drawn, ramp, wobble

from regard.review import catalogue, review
from regard.review.causes import all_causes
from regard.review.signs import all_signs

FAMILY = ["C1", "C2", *(f"G{n}" for n in range(1, 9)), "N1", "N2", "N3", "X1"]
N = 40
VALUE: dict[str, list[float]] = {
    "value/explained_variance/value": ramp(0, 0.7), "loss/value/mean": ramp(0.5, 0.1), "clip/value/frac": ramp(0.2, 0),
    "value/prediction/mean": ramp(0, 1), "value/returns/mean": ramp(0, 1), "value/returns/std": [1.0] * N,
    "value/prediction/min": [-2.0] * N, "value/prediction/max": [2.0] * N,
}  # fmt: skip
HEALTHY: dict[str, list[float]] = VALUE | {
    "score/reward_model/mean": ramp(0, 1), "score/reward_model/std": [1.0] * N, "score/reward_model/min": [-2.0] * N,
    "score/reward_model/max": [3.0] * N, "kl/policy_ref_k1/seq_sum": ramp(0, 3),
    "kl/old_new_k2/mean": wobble(0.01, 1e-3),
    "kl/generator_trainer_k3/mean": [1e-13] * N, "finish/truncated/frac": [0.02] * N,
    "length/response_tokens/mean": [7.0] * N, "optim/grad_norm/last": wobble(1, 0.05),
    "optim/learning_rate/last": ramp(1e-3, 1e-4), "optim/update_norm/value": wobble(0.1, 0.005),
    "optim/param_norm/value": [50.0] * N, "optim/weights_changed/frac": [1.0] * N,
    "optim/nonfinite_grads/count": [0.0] * N, "invariant/two_forwards_max_diff/value": [0.0],
    "invariant/padding_max_diff/value": [1e-6], "invariant/ratio_max_deviation/value": [1e-6],
    "invariant/kl_ref/value": [0.0], "invariant/generator_trainer_max_diff/value": [1e-6],
}  # fmt: skip
WHOLE = [{"kind": "rendered", "responses": [[5, 10 + n, 1] for n in range(16)]}]
ENDLESS = [{"kind": "rendered", "responses": [[5, 6, 10 + n] for n in range(16)]}]
RESUME = {"kind": "resume", "step": 20}
INF = float("inf")
OFF = {"invariant/ratio_max_deviation/value": [0.4], "invariant/generator_trainer_max_diff/value": [0.4]}
SWING = [8.0 * (-1) ** n for n in range(N)]
CASES: list[tuple[str, dict[str, list[float]], Any, dict[str, Any], tuple[str, ...], tuple[str, ...]]] = [
    ("C1", {"value/explained_variance/value": [-2.0] * N, "loss/value/mean": [8.0] * N,
            "value/prediction/mean": [4.0] * N, "value/prediction/max": [12.0] * N}, drawn(), {},
     tuple(VALUE), ()),
    ("C2", {"value/explained_variance/value": [0.6] * 20 + [-3.0] * 20, "loss/value/mean": [0.1] * 20 + [9.0] * 20,
            "value/prediction/mean": [1.0] * 20 + SWING[:20], "value/prediction/max": [2.0] * 20 + [12.0] * 20,
            "clip/value/frac": [0.1] * 20 + [0.6] * 20}, drawn(), {}, tuple(VALUE), ()),
    ("G1", {"length/response_tokens/mean": [14.0] * N, "finish/truncated/frac": [0.3] * N}, drawn(),
     {"sft": ENDLESS}, ("length/response_tokens/mean", "finish/truncated/frac"), ()),
    ("G2", {"finish/truncated/frac": [0.35] * N}, drawn(
        truncated=lambda row, random: row["length"] > 9, finished=lambda row, random: row["length"] <= 9,
        length=lambda row, random: min(int(row["length"]), 9)), {"cap": 7},
     ("finish/truncated/frac",), ("finished", "length")),
    ("G3", {"invariant/generator_trainer_max_diff/value": [0.9], "kl/generator_trainer_k3/mean": [0.08] * N},
     drawn("cold"), {}, (), ("generator_logprobs",)),
    ("G4", {"invariant/generator_trainer_max_diff/value": [0.4], "kl/generator_trainer_k3/mean": [0.006] * N},
     drawn("noisy"), {}, (), ("generator_logprobs",)),
    ("G5", {"kl/generator_trainer_k3/mean": [1e-13] * 2 + ramp(0.004, 0.1, 38)}, drawn("old"), {}, (),
     ("generator_logprobs", "policy_version")),
    ("G6", {**OFF, "invariant/two_forwards_max_diff/value": [0.4], "invariant/padding_max_diff/value": [0.4]},
     drawn("noisy"), {}, ("invariant/two_forwards_max_diff/value",), ()),
    ("G7", {**OFF, "invariant/padding_max_diff/value": [0.8]}, drawn("padded"), {},
     ("invariant/padding_max_diff/value",), ("generator_logprobs",)),
    ("G8", {}, lambda step: [row | {"score": 0.0} if 9 <= step <= 14 else row for row in drawn()(step)], {}, (),
     ("score",)),
    ("N1", {"optim/grad_norm/last": [1.0] * 20 + [INF] * 3 + [1.0] * 17,
            "optim/nonfinite_grads/count": [0.0] * 20 + [4.0] * 3 + [0.0] * 17,
            "optim/update_norm/value": [0.1] * 20 + [0.0] * 3 + [0.1] * 17}, drawn(), {},
     ("optim/grad_norm/last", "optim/nonfinite_grads/count"), ()),
    ("N2", {"optim/weights_changed/frac": ramp(0.3, 0.02)}, drawn(), {}, ("optim/weights_changed/frac",), ()),
    ("N3", {"optim/learning_rate/last": [*ramp(1e-3, 5e-4, 21), *ramp(1e-3, 5e-4, 19)],
            "optim/update_norm/value": [*wobble(0.1, 0.005, 21), 0.4, *wobble(0.1, 0.005, 18)],
            "kl/old_new_k2/mean": [*wobble(0.01, 0.001, 21), 0.09, *wobble(0.01, 0.001, 18)]}, drawn(),
     {"ppo": [RESUME]}, ("optim/learning_rate/last", "optim/update_norm/value", "kl/old_new_k2/mean"), ()),
]  # fmt: skip
"""Cause, series that differ from a healthy run, rollouts, events and cap, and what decides: series and columns."""


def record(path: Path, changes: dict[str, list[float]], rows: Any, more: dict[str, Any], without: tuple[str, ...] = (),
           drop: tuple[str, ...] = ()) -> Any:  # fmt: skip
    def kept(step: int) -> list[dict[str, Any]]:
        return [{key: value for key, value in row.items() if key not in drop} for row in rows(step)]

    metrics = {key: values for key, values in (HEALTHY | changes).items() if key not in without}
    events = {"ppo": [*EXACT, *more.get("ppo", [])], "sft": more.get("sft", WHOLE)}
    taught = {} if "finish/truncated/frac" in without else {"data/tokens/count": [70.0] * 10}
    config = {"sft": {"batch_size": 10, "max_response_tokens": 30}, "ppo": {"max_response_tokens": more.get("cap", 30)}}
    events["sft"] = [] if not taught else events["sft"]
    stages = {"sft": taught, "ppo": metrics}
    return review(make_record(path, stages, rollouts=kept, steps=24, events=events, config=config))


def test_the_healthy_record_is_healthy(tmp_path: Path) -> None:
    result = record(tmp_path, {}, drawn(), {})
    assert [one.detector.code for one in result.findings] == []
    assert result.verdict == "healthy" and not result.causes


@pytest.mark.parametrize(("cause", "changes", "rows", "more", "series", "columns"), CASES, ids=[c[0] for c in CASES])
def test_decisive_evidence_ranks_the_cause_first(
    cause: str, changes: Any, rows: Any, more: Any, series: Any, columns: Any, tmp_path: Path
) -> None:
    result = record(tmp_path, changes, rows, more)
    ranked = list(result.posterior.causes.items())
    assert ranked[0][0] == cause, ranked[:4]


@pytest.mark.parametrize(("cause", "changes", "rows", "more", "series", "columns"), CASES, ids=[c[0] for c in CASES])
def test_without_what_decides_no_other_cause_is_diagnosed(
    cause: str, changes: Any, rows: Any, more: Any, series: Any, columns: Any, tmp_path: Path
) -> None:
    result = record(tmp_path, changes, rows, more, without=series, drop=columns)
    wrong = [(one.cause.id, one.probability) for one in result.causes if one.status == "diagnosed"]
    assert [one for one, _ in wrong if one != cause] == [], wrong


def test_displaced_preference_ranks_first(tmp_path: Path) -> None:
    series = {
        "preference/reward_chosen/mean": ramp(0, -4), "preference/reward_rejected/mean": ramp(0, -9),
        "preference/margin/mean": ramp(0, 5), "preference/loss/mean": ramp(0.69, 0.02),
        "preference/accuracy/mean": [0.7] * 20 + [1.0] * 20, "preference/loss_val/mean": [0.69, 0.6, 0.7, 0.9],
    }  # fmt: skip
    result = review(make_record(tmp_path, {"dpo": series}))
    assert next(iter(result.posterior.causes)) == "X1"


@pytest.mark.parametrize("one", FAMILY)
def test_an_entry_is_whole(one: str) -> None:
    cause = all_causes()[one]
    known = {*catalogue(), *all_signs()}
    assert cause.decided_by and set(cause.decided_by) <= set(cause.predicts)
    assert [name for name in (*cause.predicts, *cause.decided_by) if name not in known] == []
    assert cause.look_alikes and cause.changes and cause.why and cause.would_overturn
