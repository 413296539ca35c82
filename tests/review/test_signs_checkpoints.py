"""Signs of a few evaluated checkpoints, and of one stage about another: a yes, a no and an unknown of each."""

from typing import Any

import pytest
from support_review import make_run

from regard.review.facts import Facts
from regard.review.signs import all_signs
from regard.review.signs import checkpoints as checkpoint_signs
from regard.review.signs import cross_stage as cross_signs
from regard.runlog.reader import RunLog

KL, SCORE, LENGTH = "kl/policy_ref_k1/seq_sum", "score/reward_model/mean", "length/response_tokens/mean"
HELD_OUT, ON_POLICY = "rm/accuracy_val/mean", "rm/accuracy_policy_pairs/mean"


def run(metrics: dict[str, list[float]], rm: dict[str, list[float]] | None = None, **config: Any) -> RunLog:
    made = make_run("ppo", metrics)
    made.config.update({"ppo": config} if config else {})
    if rm:
        made.stages["rm"] = make_run("rm", rm).stages["rm"]
    return made


CASES = [
    ("checkpoints-kl-climbs", True, run({KL: [0.0, 0.1, 0.4, 1.5]})),
    ("checkpoints-kl-climbs", False, run({KL: [0.0, 0.5, 0.9, 0.95]})),
    ("checkpoints-kl-climbs", None, run({KL: [0.1 * step for step in range(40)]})),
    ("checkpoints-nothing-moves", True, run({KL: [0.0, 0.0], SCORE: [0.95, 0.955]})),
    ("checkpoints-nothing-moves", False, run({KL: [0.0, 0.15], SCORE: [0.95, 1.2]})),
    ("checkpoints-nothing-moves", None, run({KL: [0.0, 0.0]})),
    ("checkpoints-length-grows", True, run({LENGTH: [40, 50, 90]})),
    ("checkpoints-length-grows", False, run({LENGTH: [40, 50, 55]})),
    ("checkpoints-length-grows", None, run({KL: [0.0, 0.1]})),
    ("checkpoints-behaviour-regresses", True, run({"behaviour/violation/frac": [0.02, 0.1, 0.3]})),
    ("checkpoints-behaviour-regresses", True, run({"behaviour/refusal_on_unsafe/frac": [0.96, 0.8, 0.4]})),
    ("checkpoints-behaviour-regresses", False, run({"behaviour/violation/frac": [0.02, 0.03, 0.04]})),
    ("checkpoints-behaviour-regresses", None, run({LENGTH: [40, 50]})),
    ("coefficient-above-one", True, run({KL: [0.0, 0.0]}, kl_coef=50.0)),
    ("coefficient-above-one", False, run({KL: [0.0, 0.0]}, kl_coef=0.05)),
    ("coefficient-above-one", None, run({KL: [0.0, 0.0], "score/reward_model/std": [1.0, 1.0]}, kl_coef=50.0)),
    ("rm-loses-on-policy-pairs", True, run({}, {HELD_OUT: [0.7, 0.78], ON_POLICY: [0.66, 0.16]})),
    ("rm-loses-on-policy-pairs", False, run({}, {HELD_OUT: [0.7, 0.78], ON_POLICY: [0.7, 0.76]})),
    ("rm-loses-on-policy-pairs", None, run({}, {HELD_OUT: [0.7, 0.78]})),
    ("kl-uneven-over-prompts", True,
     run({"kl/policy_ref_k1/slice_max": [0.0, 1.77], "kl/policy_ref_k1/slice_min": [0.0, 1.24]})),
    ("kl-uneven-over-prompts", False,
     run({"kl/policy_ref_k1/slice_max": [0.0, 0.21], "kl/policy_ref_k1/slice_min": [0.0, 0.145]})),
    ("kl-uneven-over-prompts", None, run({KL: [0.0, 0.1]})),
]  # fmt: skip


@pytest.mark.parametrize(("name", "holds", "made"), CASES, ids=lambda x: x if isinstance(x, str) else "")
def test_answer(name: str, holds: bool | None, made: RunLog) -> None:
    answer = all_signs()[name].ask(Facts(made))
    assert answer.holds is holds, answer.summary
    assert bool(answer.missing) is (holds is None)


def test_every_sign_of_these_files_has_a_case_of_each_answer() -> None:
    modules = {checkpoint_signs.__name__, cross_signs.__name__}
    ours = {name for name, one in all_signs().items() if one.ask.__module__ in modules}
    assert ours == {name for name, _, _ in CASES}
    assert {(name, holds) for name in ours for holds in (True, False, None)} == {(n, h) for n, h, _ in CASES}
