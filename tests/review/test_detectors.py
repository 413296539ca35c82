"""Each detector fires, is clear, and cannot tell where it should; the numbers are chosen by hand, not by its code."""

import importlib
import math
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support_review import make_run

from regard.review import catalogue, review
from regard.review.outcome import CannotTell, Clear, Fired
from regard.review.statistics import smooth
from regard.runlog.reader import RunLog

NAN = float("nan")
KL_TOKEN, KL_SEQUENCE = "kl/policy_ref_k1/token_mean", "kl/policy_ref_k1/seq_sum"
KL_UNKNOWN = "kl/policy_ref_unknown/unknown"
ENTROPY, GRAD = "entropy/policy/token_mean", "optim/grad_norm/last"
LN2 = math.log(2)
TOLERANCE = [{"kind": "invariants", "tolerance": 1e-3}]


def noise(n: int, size: float, mean: float = 0.0, seed: int = 0) -> list[float]:
    return list(mean + size * np.random.default_rng(seed).standard_normal(n))


def ramp(start: float, end: float, n: int = 40) -> list[float]:
    return list(np.linspace(start, end, n))


def frozen(before: str, after: str) -> dict[str, Any]:
    return {"artifacts": {"reference": {"sha256_before": before, "sha256_after": after}}}


SPIKES = [1.0] * 60
for _at in (20, 35, 50):
    SPIKES[_at] = 40.0

CASES: list[tuple[str, type, str, RunLog]] = [
    ("INV001", Fired, "ratio off", make_run("ppo", {"invariant/ratio_max_deviation/value": [0.2]}, TOLERANCE)),
    ("INV001", Fired, "NaN", make_run("ppo", {"invariant/two_forwards_max_diff/value": [NAN]})),
    ("INV001", Fired, "hash", make_run("ppo", {"invariant/frozen_hashes_equal/flag": [0.0]})),
    ("INV001", Clear, "KL of a response has four tolerances",
     make_run("ppo", {"invariant/kl_ref/value": [3e-3]}, TOLERANCE)),
    ("INV001", CannotTell, "no tolerance", make_run("ppo", {"invariant/kl_ref/value": [3e-3]})),
    ("INV002", Fired, "changed", make_run("ppo", {ENTROPY: [3, 3]}, lineage=frozen("a", "b"))),
    ("INV002", Clear, "same", make_run("ppo", {ENTROPY: [3, 3]}, lineage=frozen("a", "a"))),
    ("INV002", CannotTell, "unfinished", make_run("ppo", {}, lineage={"artifacts": {"reference": {}}})),
    ("INV003", Fired, "entropy", make_run("ppo", {ENTROPY: [2, 1, -0.5]})),
    ("INV003", Fired, "k3", make_run("ppo", {"kl/policy_ref_k3/token_mean": [0.1, -0.2]})),
    ("INV003", Fired, "share", make_run("rm", {"rm/accuracy_val/mean": [67.0]})),
    ("INV003", Clear, "k1 may be negative", make_run("ppo", {KL_TOKEN: [-0.5], ENTROPY: [2.0]})),
    ("INV003", Clear, "rounding", make_run("ppo", {"kl/policy_ref_k3/token_mean": [-1e-5]})),
    ("INV003", CannotTell, "nothing bounded", make_run("ppo", {KL_TOKEN: [-0.5]})),
    ("NUM001", Fired, "loss", make_run("ppo", {"loss/policy/mean": [0.1, 0.2, NAN]})),
    ("NUM001", Fired, "infinite", make_run("ppo", {KL_TOKEN: [0.1, float("inf"), 0.2]})),
    ("NUM001", Clear, "never logged", make_run("ppo", {"value/explained_variance/value": [NAN, NAN], ENTROPY: [1]})),
    ("NUM001", Clear, "not yet logged", make_run("ppo", {ENTROPY: [NAN, NAN, 1, 1]})),
    ("NUM001", CannotTell, "empty", make_run("ppo", {})),
    ("NUM001", Clear, "measured every third step", make_run("ppo", {GRAD: [1.0, NAN, NAN] * 5})),
    ("NUM001", Fired, "two lost steps", make_run("ppo", {GRAD: [1.0] * 5 + [NAN] + [1.0] * 9 + [NAN] + [1.0]})),
    ("NUM002", Fired, "three spikes", make_run("ppo", {GRAD: SPIKES})),
    ("NUM002", Clear, "one spike", make_run("ppo", {GRAD: [1.0] * 30 + [40.0] + [1.0] * 30})),
    ("NUM002", Clear, "noisy level", make_run("ppo", {GRAD: list(np.exp(noise(200, 0.5)))})),
    ("NUM002", CannotTell, "short", make_run("ppo", {GRAD: [1, 40, 1, 40, 1, 40]})),
    ("KL001", Fired, "per token", make_run("ppo", {KL_TOKEN: ramp(0, 8)})),
    ("KL001", Clear, "per sequence", make_run("ppo", {KL_SEQUENCE: ramp(0, 8)})),
    ("KL001", CannotTell, "unit unknown", make_run("ppo", {KL_UNKNOWN: ramp(0, 8)})),
    ("KL001", Clear, "small in both units", make_run("ppo", {KL_UNKNOWN: ramp(0, 0.8)})),
    ("KL001", Fired, "large in both units", make_run("ppo", {KL_UNKNOWN: ramp(0, 400)})),
    ("KL001", Clear, "few tokens", make_run("ppo", {KL_TOKEN: ramp(0, 2.2), KL_SEQUENCE: ramp(0, 13)})),
    ("KL001", Fired, "many tokens", make_run("ppo", {KL_TOKEN: ramp(0, 2.6), KL_SEQUENCE: ramp(0, 36)})),
    ("KL001", Fired, "sum over 20 tokens",
     make_run("ppo", {KL_SEQUENCE: ramp(0, 80), "length/response_tokens/mean": [20.0] * 40})),
    ("KL001", Clear, "sum over 200 tokens",
     make_run("ppo", {KL_SEQUENCE: ramp(0, 80), "length/response_tokens/mean": [200.0] * 40})),
    ("KL001", Fired, "sum over an unknown length", make_run("ppo", {KL_SEQUENCE: ramp(0, 60)})),
    ("KL001", Clear, "one high point", make_run("ppo", {KL_TOKEN: [0.1] * 20 + [9.0] + [0.1] * 20})),
    ("KL001", CannotTell, "not logged", make_run("ppo", {ENTROPY: [1, 1, 1]})),
    ("KL002", Fired, "sustained", make_run("ppo", {KL_SEQUENCE: noise(40, 0.05, -0.4)})),
    ("KL002", Clear, "noise around 0", make_run("ppo", {KL_SEQUENCE: noise(40, 0.05, 0.0)})),
    ("KL002", CannotTell, "k3", make_run("ppo", {"kl/policy_ref_k3/token_mean": [0.1] * 40})),
    ("POL001", Fired, "large", make_run("ppo", {"kl/old_new_k2/mean": [0.01] * 10 + [0.3] * 10})),
    ("POL001", Fired, "large although diluted", make_run("ppo", {"kl/old_new_k2/unmasked_mean": [0.3] * 10})),
    ("POL001", Clear, "usual", make_run("ppo", {"kl/old_new_k2/mean": [0.008] * 20})),
    ("POL001", CannotTell, "diluted", make_run("ppo", {"kl/old_new_k2/unmasked_mean": [0.05] * 10})),
    ("POL001", CannotTell, "signed", make_run("ppo", {"kl/old_new_k1/mean": [0.3] * 10})),
    ("POL002", Fired, "collapse", make_run("grpo", {ENTROPY: ramp(3.0, 0.1)})),
    ("POL002", Clear, "usual fall", make_run("grpo", {ENTROPY: ramp(3.7, 2.4)})),
    ("POL002", CannotTell, "sum", make_run("grpo", {"entropy/policy_sampled/seq_sum": ramp(60, 1)})),
    ("POL002", CannotTell, "collapsed from the start", make_run("grpo", {ENTROPY: [0.0] * 20})),
    ("POL003", Fired, "dead", make_run("grpo", {"group/zero_std/frac": ramp(0.2, 0.9)})),
    ("POL003", Clear, "some", make_run("grpo", {"group/zero_std/frac": [0.4] * 20})),
    ("POL003", CannotTell, "not logged", make_run("grpo", {ENTROPY: [1] * 20})),
    ("POL004", Fired, "k3", make_run("ppo", {"kl/generator_trainer_k3/mean": ramp(1e-4, 0.05)})),
    ("POL004", Fired, "signed but large", make_run("ppo", {"kl/generator_trainer_k1/mean": [-0.3] * 9})),
    ("POL004", Clear, "rounding", make_run("ppo", {"kl/generator_trainer_k3/mean": [1e-3] * 9})),
    ("POL004", CannotTell, "signed and small", make_run("ppo", {"kl/generator_trainer_k1/mean": [1e-3] * 9})),
    ("RWD001", Fired, "over-optimised", make_run("ppo", {
        "gold/judge/mean": [a + b for a, b in zip([*ramp(0.5, 0.8), *ramp(0.8, 0.5)], noise(80, 0.02), strict=True)],
        "score/reward_model/mean": ramp(0, 4, 80)})),
    ("RWD001", Clear, "both fall", make_run("ppo", {
        "gold/judge/mean": [*ramp(0.5, 0.8), *ramp(0.8, 0.5)],
        "score/reward_model/mean": [*ramp(0, 4), *ramp(4, 0)]})),
    ("RWD001", Clear, "noise", make_run("ppo", {
        "gold/judge/mean": noise(80, 0.05, 0.6), "score/reward_model/mean": ramp(0, 4, 80)})),
    ("RWD001", Clear, "level", make_run("ppo", {
        "gold/judge/mean": [*ramp(0.5, 0.8), *[0.8] * 40], "score/reward_model/mean": ramp(0, 4, 80)})),
    ("RWD001", Fired, "checkpoints", make_run("ppo", {
        "gold/judge/mean": [0.75, 0.83, 0.77, 0.3], "score/reward_model/mean": [1.0, 1.2, 1.4, 1.7]})),
    ("RWD001", Clear, "checkpoints of a slow fall", make_run("ppo", {
        "gold/judge/mean": [0.75, 0.83, 0.80, 0.7], "score/reward_model/mean": [1.0, 1.2, 1.4, 1.7]})),
    ("RWD016", Fired, "lost with the score", make_run("ppo", {
        "gold/judge/mean": [*ramp(0.2, 0.5, 20), *ramp(0.5, 0.3, 20)]})),
    ("RWD016", Clear, "levels off in noise", make_run("ppo", {
        "gold/judge/mean": [0.5 - 0.3 * 0.9**n + 0.05 * (-1) ** n for n in range(40)]})),
    ("RWD016", Clear, "a little back", make_run("ppo", {
        "gold/judge/mean": [*ramp(0.2, 0.5, 30), *ramp(0.5, 0.44, 10)]})),
    ("RWD016", CannotTell, "no judge", make_run("ppo", {"score/reward_model/mean": ramp(0, 4, 40)})),
    ("RWD017", Fired, "half of what was gained is lost", make_run("ppo", {
        "score/reward_model/mean": [*ramp(0, 2, 20), *ramp(2, 0.5, 20)], "score/reward_model/std": [1.0] * 40})),
    ("RWD017", Clear, "levels off", make_run("ppo", {
        "score/reward_model/mean": [*ramp(0, 2, 20), *[2.0] * 20], "score/reward_model/std": [1.0] * 40})),
    ("RWD017", CannotTell, "no deviation", make_run("ppo", {
        "score/reward_model/mean": [*ramp(0, 2, 20), *ramp(2, 0.5, 20)]})),
    ("RWD001", CannotTell, "no judge", make_run("ppo", {"score/reward_model/mean": ramp(0, 4, 80)})),
    ("VAL001", Fired, "worse than a constant", make_run("ppo", {"value/explained_variance/value": [-0.6] * 40})),
    ("VAL001", Clear, "of no use", make_run("ppo", {"value/explained_variance/value": noise(40, 0.02)})),
    ("VAL001", Clear, "new head", make_run("ppo", {"value/explained_variance/value": ramp(-3, 0.5)})),
    ("VAL001", CannotTell, "not logged", make_run("ppo", {"loss/value/mean": [1.0] * 40})),
    ("TXT001", Fired, "cut", make_run("ppo", {"finish/truncated/frac": ramp(0.1, 0.8)})),
    ("TXT001", Clear, "goes away", make_run("ppo", {"finish/truncated/frac": ramp(0.35, 0.02)})),
    ("TXT001", CannotTell, "not logged", make_run("ppo", {ENTROPY: [1] * 9})),
    ("RMD001", Fired, "coin", make_run("rm", {"rm/accuracy_val/mean": [0.51]})),
    ("RMD001", Fired, "swapped", make_run("rm", {"rm/accuracy_val/mean": [0.28]})),
    ("RMD001", Fired, "cannot rank its own pairs", make_run("rm", {"rm/accuracy_train/mean": noise(50, 0.01, 0.5)})),
    ("RMD001", Clear, "usual", make_run("rm", {"rm/accuracy_val/mean": [0.71]})),
    ("RMD001", CannotTell, "training only", make_run("rm", {"rm/accuracy_train/mean": [0.9] * 50})),
    ("RMD002", Fired, "rises", make_run("rm", {"rm/loss_val/mean": [0.69, 0.6, 0.58, 0.66, 0.8]})),
    ("RMD002", Clear, "falls", make_run("rm", {"rm/loss_val/mean": [0.69, 0.6, 0.58, 0.585]})),
    ("RMD002", CannotTell, "once", make_run("rm", {"rm/loss_val/mean": [0.6]})),
    ("DPO001", Fired, "stuck", make_run("dpo", {"preference/loss/mean": [LN2] * 20})),
    ("DPO001", Clear, "learns", make_run("dpo", {"preference/loss/mean": ramp(LN2, 0.4)})),
    ("DPO001", Clear, "margin moves", make_run("dpo", {
        "preference/loss/mean": [LN2] * 20, "preference/margin/mean": ramp(0, 0.5, 20)})),
    ("DPO001", CannotTell, "short", make_run("dpo", {"preference/loss/mean": [LN2] * 3})),
    ("DPO002", Fired, "by heart", make_run("dpo", {
        "preference/accuracy/mean": ramp(0.5, 1.0), "preference/loss_val/mean": [0.69, 0.6, 0.7, 0.9]})),
    ("DPO002", Clear, "level", make_run("dpo", {
        "preference/accuracy/mean": ramp(0.5, 1.0), "preference/loss_val/mean": [0.69, 0.6, 0.59, 0.6]})),
    ("DPO002", CannotTell, "no held-out pairs", make_run("dpo", {"preference/accuracy/mean": ramp(0.5, 1.0)})),
]  # fmt: skip


@pytest.mark.parametrize(("code", "expected", "case", "run"), CASES, ids=lambda x: x if isinstance(x, str) else "")
def test_outcome(code: str, expected: type, case: str, run: RunLog) -> None:
    (stage,) = run.stages.values()
    outcome = catalogue()[code].check(run, stage)
    assert type(outcome) is expected, outcome


def test_every_detector_has_a_case_of_each_outcome() -> None:
    """Here, or in the file of a family."""
    files = sorted(Path(__file__).parent.glob("test_detectors*.py"))
    cases = [case for file in files for case in getattr(importlib.import_module(file.stem), "CASES", ())]
    have = {(case[0], case[1]) for case in cases}
    assert [(c, o) for c in catalogue() for o in (Fired, Clear, CannotTell) if (c, o) not in have] == []


def test_noise_around_zero_is_no_negative_kl() -> None:
    kl = catalogue()["KL002"]
    runs = [make_run("ppo", {KL_SEQUENCE: noise(200, 0.05, 0.0, seed)}) for seed in range(200)]
    fired = [isinstance(kl.check(run, run.stages["ppo"]), Fired) for run in runs]
    assert sum(fired) <= 1  # one in a thousand by construction


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 9])
def test_smoothing_is_the_median_of_neighbours(n: int) -> None:
    values = np.array(noise(n, 1.0))
    slow = [statistics.median(values[max(0, i - 1) : i + 2]) for i in range(n)]
    assert list(smooth(values)) == pytest.approx(slow, abs=1e-15)


@pytest.mark.parametrize("jump", [10, 25, 33])
@pytest.mark.parametrize("seed", range(5))
def test_onset_lies_in_its_interval(jump: int, seed: int) -> None:
    """A level that jumps at a known step, in noise."""
    values = noise(jump, 0.3, 1.0, seed) + noise(40 - jump, 0.3, 6.0, seed + 1)
    run = make_run("ppo", {KL_TOKEN: values})
    (finding,) = review(run).findings
    low, high = finding.fired.onset.interval
    assert low <= jump <= high and high - low <= 4
    assert finding.fired.until == 39


def test_values_that_are_not_finite_decide_nothing_but_their_own_detector() -> None:
    clean = [0.1] * 40
    holes = list(clean)
    holes[7] = holes[21] = NAN
    codes = [f.detector.code for f in review(make_run("ppo", {KL_TOKEN: holes})).findings]
    assert codes == ["NUM001"]
