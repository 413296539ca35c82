"""Signs of the KL term and of policy optimisation: yes, no and unknown, on records made by hand."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support_policy import (
    CLIP,
    COEF,
    DISTANCE,
    ENTROPY,
    FIRST,
    HEALTHY,
    KL,
    KL_TOKEN,
    LENGTH,
    LOSS,
    MEAN,
    RATE,
    SCALED,
    SCORE,
    SEEN,
    STD,
    STEPS,
    TOTAL,
    UPDATE,
    UPDATES,
    WEIGHTS,
    alone,
    blind,
    fading,
    moving,
    negative,
    nothing,
    padded,
    plateau,
    ramp,
    shifted_advantages,
    stage_4,
    unpaid,
    worse_grow,
)

from regard.review.facts import Facts
from regard.review.signs import all_signs
from regard.review.signs.kl import usual_leash
from regard.review.signs.policy import HiddenTerm, hidden_term
from regard.runlog.reader import RunLog

Build = Callable[[Path], RunLog]
FLAT = {SCORE: [0.02 * (-1) ** n for n in range(STEPS)]}
NEAR = {KL: plateau(0.05), KL_TOKEN: plateau(0.008)}
EPOCHS = {f"kl/old_new_k2/epoch_{k}": [0.002 * 2**k] * STEPS for k in range(1, 7)}
CLIPS = {f"clip/policy/epoch_{k}": [0.05 * k] * STEPS for k in range(1, 7)}
SAW = {COEF: [0.05 * (5.0 if n // 3 % 2 else 1.0) * (1 + 0.01 * n) for n in range(STEPS)]}
AWAY = {COEF: [0.05 * 0.8**n for n in range(STEPS)]}
BENT, RISEN = ramp(2.6, 1.4), ramp(0.6, 3.0)
"""Entropy and KL per token of a run whose loss is a multiple of one of them."""
TERMS = {
    kind: {ENTROPY: BENT, KL_TOKEN: RISEN, LOSS: [weight * v - 0.004 for v in of]}
    for kind, weight, of in (("penalty", 0.15, BENT), ("bonus", -0.3, BENT), ("kl", 0.1, RISEN))
}
FASTER = {RATE: [*ramp(1e-3, 6e-4, 12), *ramp(5e-3, 1e-3, 12)]}
OUTRUNS = {RATE: [1e-3] * STEPS, UPDATE: [*[0.2, 0.21] * 6, *[0.8, 0.9] * 6]}
TEETH = {KL: [0.4 * (n % 6) for n in range(STEPS)]}

YES: dict[str, Build] = {
    "leash-loose": stage_4({COEF: [0.001] * STEPS}),
    "leash-short": stage_4({COEF: [3.0] * STEPS}),
    "kl-still-rising": stage_4({KL: ramp(0, 12)}),
    "kl-cheap-beside-gain": stage_4({COEF: [0.01] * STEPS}),
    "kl-costs-more-than-gain": stage_4({KL: plateau(40.0)}),
    "score-does-not-gain": stage_4(FLAT),
    "kl-stays-near-zero": stage_4(NEAR),
    "kl-in-first-rollouts": stage_4({KL: ramp(2.0, 4.0)}),
    "k1-below-zero": stage_4({}, negative),
    "logged-kl-counts-padding": stage_4({}, padded),
    "kl-sums-disagree": stage_4({KL: plateau(5.0)}),
    "kl-term-not-in-reward": stage_4({}, unpaid(0.0)),
    "kl-term-added-to-reward": stage_4({}, unpaid(-1.0)),
    "kl-loss-without-pull": stage_4(ppo={"use_kl_loss": True, "kl_loss_type": "k1"}),
    "controller-swings": stage_4(SAW),
    "controller-runs-away": stage_4(AWAY),
    "controller-gain-high": stage_4(AWAY),
    "controller-target-out-of-reach": stage_4(AWAY, ppo={"kl_target": 60.0, "kl_target_unit": "nats/token"}),
    "reference-moves": stage_4({}, moving),
    "kl-jumps": stage_4({KL: [0.1] * 10 + [60.0] * 14}),
    "kl-falls-to-zero": stage_4(TEETH),
    "score-outruns-kl": stage_4({KL: [0.001] * STEPS}),
    "one-step-moves-weights-far": stage_4({UPDATE: [3.0] * STEPS}),
    "far-in-first-pass": stage_4({FIRST: [0.2] * STEPS}),
    "score-falls-back": stage_4({SCORE: ramp(0, 2, 12) + ramp(2, -1, 12)}),
    "policy-hardly-moves": stage_4({DISTANCE: [1e-6] * STEPS, KL: [0.06] * STEPS}),
    "updates-fade-away": stage_4({RATE: [1e-3] * 12 + [1e-6] * 12}),
    "distance-grows-over-epochs": stage_4(EPOCHS),
    "clip-grows-over-epochs": stage_4(CLIPS),
    "many-epochs": stage_4({"optim/epochs_done/count": [8.0] * STEPS}),
    "clipped-though-near": stage_4({CLIP: [0.5] * STEPS, DISTANCE: [0.001] * STEPS}),
    "clip-range-tight": stage_4(ppo={"clip_range": 0.01}),
    "clip-range-wide": stage_4(ppo={"clip_range": 5.0}),
    "advantages-not-centred": stage_4({}, shifted_advantages),
    "advantages-not-scaled": stage_4({}, shifted_advantages),
    "advantages-centred-by-response": stage_4({}, alone),
    "credit-ignores-score": stage_4({}, blind),
    "score-discounted-away": stage_4(ppo={"gamma": 0.8}),
    "credit-fades-before-start": stage_4({"value/explained_variance/value": [0.0] * STEPS}, ppo={"gae_lambda": 0.3}),
    "returns-fade-towards-start": stage_4({}, fading),
    "few-rollouts": stage_4({SEEN: ramp(4, 4 * STEPS)}),
    "gain-within-noise": stage_4({SEEN: ramp(4, 4 * STEPS)}),
    "noise-scaled-to-one": stage_4({STD: [1.0] * 6 + [0.02] * 18}),
    "kl-rises-after-saturation": stage_4({KL: ramp(0, 20)}),
    "worse-responses-grow": stage_4({}, worse_grow),
    "loss-punishes-entropy": stage_4(TERMS["penalty"]),
    "loss-rewards-entropy": stage_4(TERMS["bonus"]),
    "loss-holds-a-kl": stage_4(TERMS["kl"]),
    "rate-jumps-above-its-peak": stage_4(FASTER),
    "update-outruns-its-rate": stage_4(OUTRUNS),
}
UNKNOWN: dict[str, Build] = dict.fromkeys(all_signs(), nothing)
"""Of an empty stage nothing is known; where more than that is interesting, it is below."""
LACKING: list[tuple[str, Build]] = [
    ("leash-short", stage_4(without=[STD])),
    ("kl-term-not-in-reward", stage_4(without=[TOTAL], drop=["rewards"])),
    ("kl-term-not-in-reward", stage_4({COEF: [0.0] * STEPS})),
    ("kl-term-not-in-reward", stage_4(without=[COEF], ppo={"kl_target": 6.0})),
    ("kl-term-not-in-reward", stage_4({}, unpaid(0.3), without=[COEF])),  # the weight may have been changed
    ("reference-moves", stage_4(drop=["ref_logprobs"])),
    ("logged-kl-counts-padding", stage_4(drop=["kl_sum"])),
    ("advantages-not-scaled", stage_4(without=["whiten_advantages"])),
    ("credit-fades-before-start", stage_4(without=["value/explained_variance/value"], ppo={"gae_lambda": 0.1})),
    ("one-step-moves-weights-far", stage_4(without=[WEIGHTS])),
    ("controller-target-out-of-reach", stage_4(AWAY)),
    ("gain-within-noise", stage_4(without=[STD])),
    ("loss-punishes-entropy", stage_4(TERMS["penalty"], without=[MEAN])),
    ("loss-punishes-entropy", stage_4(TERMS["penalty"], without=[ENTROPY, KL_TOKEN])),
    ("update-outruns-its-rate", stage_4(OUTRUNS, without=[RATE])),
]
LOGGED_ONLY: list[tuple[str, Build]] = [
    ("kl-term-added-to-reward", stage_4({TOTAL: [1.05 * v for v in plateau(1.5)], KL: plateau(1.5)}, rows=False)),
    ("kl-term-not-in-reward", stage_4({TOTAL: plateau(1.5)}, rows=False)),
    ("advantages-not-centred", stage_4({MEAN: [0.2] * STEPS}, rows=False)),
    ("advantages-not-scaled", stage_4({SCALED: [1.4] * STEPS}, rows=False)),
    ("score-outruns-kl", stage_4({KL: [0.0] * STEPS, LENGTH: ramp(6, 12)}, rows=False, without=[STD])),
]
MODULES = ("regard.review.signs.kl", "regard.review.signs.policy")
OURS = [one.name for one in all_signs().values() if one.ask.__module__ in MODULES]


def ask(name: str, make: Build, path: Path) -> bool | None:
    answer = all_signs()[name].ask(Facts(make(path)))
    assert answer.summary and (answer.holds is not None or answer.missing)
    for onset in (answer.onset, answer.root):
        assert onset is None or onset.interval[0] <= onset.step <= onset.interval[1]
    return answer.holds


def test_every_sign_has_a_yes() -> None:
    assert set(YES) == set(OURS)


@pytest.mark.parametrize("name", OURS)
def test_yes(name: str, tmp_path: Path) -> None:
    assert ask(name, YES[name], tmp_path) is True


@pytest.mark.parametrize("name", [name for name in OURS if name != "kl-loss-without-pull"])
def test_no_on_a_healthy_run(name: str, tmp_path: Path) -> None:
    assert ask(name, stage_4(), tmp_path) is False


def test_no_where_the_loss_has_a_pull(tmp_path: Path) -> None:
    assert ask("kl-loss-without-pull", stage_4(ppo={"use_kl_loss": True, "kl_loss_type": "k2"}), tmp_path) is False


@pytest.mark.parametrize("name", OURS)
def test_unknown_of_an_empty_record(name: str, tmp_path: Path) -> None:
    assert ask(name, nothing, tmp_path) is None


@pytest.mark.parametrize(("name", "make"), LACKING, ids=lambda x: x if isinstance(x, str) else "")
def test_unknown_without_what_decides(name: str, make: Build, tmp_path: Path) -> None:
    assert ask(name, make, tmp_path) is None


@pytest.mark.parametrize(("name", "make"), LOGGED_ONLY, ids=lambda x: x if isinstance(x, str) else "")
def test_metrics_decide_where_there_are_no_rollouts(name: str, make: Build, tmp_path: Path) -> None:
    assert ask(name, make, tmp_path) is True


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("policy-hardly-moves", stage_4({DISTANCE: [0.0] * STEPS, CLIP: [0.0] * STEPS})),
        ("controller-runs-away", stage_4({COEF: ramp(0.05, 0.08)})),
        ("controller-swings", stage_4({COEF: [0.05 + 0.005 * (-1) ** n for n in range(STEPS)]})),
        ("leash-loose", stage_4({COEF: [0.04] * STEPS})),
        ("updates-fade-away", stage_4({RATE: ramp(1e-3, 0.0)})),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_what_is_normal_is_no_sign(name: str, make: Build, tmp_path: Path) -> None:
    """A ratio of 1 with one update for each batch; a controller near its target; a rate that falls to 0 at the end."""
    assert ask(name, make, tmp_path) is False


def test_a_coefficient_that_falls_in_mid_run_dates_the_root(tmp_path: Path) -> None:
    run = stage_4({COEF: [0.05] * 12 + [0.005] * 12})(tmp_path)
    root = all_signs()["leash-loose"].ask(Facts(run)).root
    assert root is not None and root.interval == (11, 12)


def test_a_reference_that_moves_is_dated_by_the_texts_that_came_again(tmp_path: Path) -> None:
    root = all_signs()["reference-moves"].ask(Facts(stage_4({}, moving)(tmp_path))).root
    assert root is not None and root.interval == (12, 13)


def missing_since_step_16(row: dict, step: int, random: object) -> dict:  # type: ignore[type-arg]
    return unpaid(0.0)(row, step, random) if step > 15 else row  # type: ignore[arg-type]


def test_a_penalty_that_goes_missing_is_dated(tmp_path: Path) -> None:
    root = all_signs()["kl-term-not-in-reward"].ask(Facts(stage_4({}, missing_since_step_16)(tmp_path))).root
    assert root is not None and root.interval[0] <= 16 <= root.interval[1]


def test_a_penalty_may_go_missing_because_its_weight_was_changed(tmp_path: Path) -> None:
    answer = ask("kl-term-not-in-reward", stage_4({}, missing_since_step_16, without=[COEF]), tmp_path)
    assert answer is None


def test_healthy_series_are_of_one_length() -> None:
    assert {len(values) for values in HEALTHY.values()} == {STEPS}


@pytest.mark.parametrize(("coef", "deviation", "leash"), [(0.001, 1.0, 0.29), (0.5, 1.0, 2.0), (0.01, 3.0, 0.87)])
def test_the_usual_leash_has_its_optimum_at_six_nats(
    tmp_path: Path, coef: float, deviation: float, leash: float
) -> None:
    """By hand: σ/√12 = 0.2887 σ, but at least four times the present one."""
    run = stage_4({COEF: [coef] * STEPS, STD: [deviation] * STEPS})(tmp_path)
    assert usual_leash(Facts(run)) == pytest.approx(leash)


def test_a_hidden_term_is_found_with_its_weight_and_the_step_at_which_it_came(tmp_path: Path) -> None:
    late = {**TERMS["penalty"], LOSS: [-0.01] * 10 + TERMS["penalty"][LOSS][10:]}
    found = hidden_term(Facts(stage_4(late)(tmp_path)))
    assert isinstance(found, HiddenTerm)
    assert (found.of, found.weight) == (ENTROPY, pytest.approx(0.15, rel=0.02))
    assert found.onset.interval[0] <= 11 <= found.onset.interval[1] <= 13 and found.onset.interval[0] >= 9


def test_a_term_that_was_too_small_to_be_seen_may_have_been_there_from_the_start(tmp_path: Path) -> None:
    grows = ramp(0.05, 3.0)
    found = hidden_term(Facts(stage_4({KL_TOKEN: grows, LOSS: [0.06 * v for v in grows]})(tmp_path)))
    assert isinstance(found, HiddenTerm)
    assert found.onset.step > 5 and found.onset.interval[0] == 0


def test_updates_of_an_iteration_are_counted_before_one_is_called_too_large(tmp_path: Path) -> None:
    stopped = {RATE: [1e-3] * STEPS, UPDATES: [4.0] * 12 + [16.0] * 12, UPDATE: [0.2] * 12 + [0.8] * 12}
    assert ask("update-outruns-its-rate", stage_4(stopped), tmp_path / "counted") is False
    assert ask("update-outruns-its-rate", stage_4(stopped, without=[UPDATES]), tmp_path / "alone") is True


@pytest.mark.parametrize(
    ("name", "why", "metrics"),
    [
        ("loss-punishes-entropy", "advantages off centre", {**TERMS["penalty"], MEAN: [-0.3] * STEPS}),
        ("loss-punishes-entropy", "a large loss that follows nothing",
         {**TERMS["penalty"], LOSS: [0.1 + 0.4 * (n % 5) for n in range(STEPS)]}),
        ("loss-punishes-entropy", "it was there and went", {**TERMS["penalty"], LOSS: [0.3] * 12 + [0.0] * 12}),
        ("loss-holds-a-kl", "it is the entropy", TERMS["penalty"]),
        ("loss-punishes-entropy", "a few points", {**TERMS["penalty"], LOSS: [0.0] * 19 + TERMS["penalty"][LOSS][19:]}),
        ("loss-holds-a-kl", "all is still", {ENTROPY: [2.0] * STEPS, KL_TOKEN: [1.0] * STEPS, LOSS: [0.2] * STEPS}),
        ("rate-jumps-above-its-peak", "a constant warm-up", {RATE: [1e-4] * 4 + ramp(1e-3, 1e-4, 20)}),
        ("rate-jumps-above-its-peak", "one odd point", {RATE: [*ramp(1e-3, 6e-4, 12), 9e-3, *ramp(5e-4, 1e-4, 11)]}),
        ("rate-jumps-above-its-peak", "warm-up", {RATE: [1e-5 * 2.5**n for n in range(STEPS)]}),
        ("rate-jumps-above-its-peak", "a schedule that begins again", {RATE: ramp(1e-3, 1e-4, 12) * 2}),
        ("update-outruns-its-rate", "the rate says so", {RATE: [1e-3] * 12 + [4e-3] * 12, UPDATE: OUTRUNS[UPDATE]}),
        ("update-outruns-its-rate", "fresh moments fade", {RATE: [1e-3] * STEPS,
                                                          UPDATE: [0.2] * 12 + [0.7, 0.4] + [0.2] * 10}),
    ],
)  # fmt: skip
def test_what_looks_like_it_and_is_not(name: str, why: str, metrics: dict[str, list[float]], tmp_path: Path) -> None:
    assert ask(name, stage_4(metrics), tmp_path) is False, why


def test_a_declared_bonus_is_no_hidden_one(tmp_path: Path) -> None:
    said = stage_4(TERMS["bonus"], ppo={"entropy_coef": 0.3})
    assert ask("loss-rewards-entropy", said, tmp_path / "said") is False
    assert ask("loss-rewards-entropy", stage_4(TERMS["bonus"], ppo={"entropy_coef": 0.01}), tmp_path / "less") is True
