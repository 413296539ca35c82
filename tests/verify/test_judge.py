"""The judgement of an experiment on arms made up to have one known answer each."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from regard.verify.judge import ArmRun, difference, judge

PROMPTS = 200
SETTLED = np.concatenate([np.linspace(0, 8, 20), np.full(20, 8.0)])


def arm(
    name: str,
    gold: float,
    *,
    failed: bool | Sequence[bool] = False,
    kl: float = 8.0,
    curve: np.ndarray = SETTLED,
    gold_curve: np.ndarray | None = None,
    errors: frozenset[str] = frozenset(),
    collapsed: bool = False,
    perplexity: float = 1.0,
    distinct: float = 0.9,
    seeds: int = 3,
) -> list[ArmRun]:
    """Runs that share their prompts' difficulty, as paired runs do."""
    difficulty = np.random.default_rng(0).normal(0, 0.2, PROMPTS)
    failures = [failed] * seeds if isinstance(failed, bool) else list(failed)
    runs = []
    for seed in range(seeds):
        noise = np.random.default_rng([seed, len(name)]).normal(0, 0.05, PROMPTS)
        runs.append(
            ArmRun(name, seed, Path(name), gold + difficulty + noise, failures[seed], errors, collapsed, perplexity,
                   distinct, 10.0, kl, curve, np.full(len(curve), gold) if gold_curve is None else gold_curve)
        )  # fmt: skip
    return runs


def arms(**changed: list[ArmRun]) -> dict[str, list[ArmRun]]:
    """An experiment whose fix is proven, with some arms replaced."""
    return {
        "unchanged": arm("unchanged", 0.5, failed=True),
        "placebo": arm("placebo", 0.5, failed=True),
        "generic": arm("generic", 0.55),
        "fix": arm("fix", 0.65),
    } | changed


def test_a_fix_that_beats_every_control_is_proven() -> None:
    found = judge(arms())
    assert found.outcome == "proven" and not found.open
    assert found.against["generic"].mean == pytest.approx(0.1, abs=0.01)


def test_a_failure_that_does_not_come_again_decides_nothing() -> None:
    found = judge(arms(unchanged=arm("unchanged", 0.5, failed=[True, False, False])))
    assert found.outcome == "cannot be decided" and "1 of 3" in found.reasons[0]


WITHOUT_COST = {"generic": arm("generic", 0.5, failed=True), "fix": arm("fix", 0.5)}


def test_a_failure_that_costs_no_gold_is_cured_and_not_proven() -> None:
    found = judge(arms(**WITHOUT_COST))
    assert found.outcome == "not proven" and found.cured and found.open
    assert "gone with the change in every run and there in every control" in found.reasons[-1]


@pytest.mark.parametrize(
    "changed",
    [
        {"generic": arm("generic", 0.5, failed=[True, False, True])},
        {"placebo": arm("placebo", 0.5, failed=[True, True, False])},
        {"fix": arm("fix", 0.5, failed=[False, True, False])},
        {"generic": arm("generic", 0.6, failed=True)},
        {"fix": arm("fix", 0.5, errors=frozenset({"TXT002"}))},
    ],
)
def test_what_a_control_lacks_too_what_stays_and_what_costs_gold_is_no_cure(changed: dict[str, list[ArmRun]]) -> None:
    assert not judge(arms(**WITHOUT_COST | changed)).cured


def test_one_seed_and_a_change_of_speed_cure_nothing() -> None:
    failing = {name: arm(name, 0.5, failed=True, seeds=1) for name in ("unchanged", "placebo", "generic")}
    assert not judge(failing | {"fix": arm("fix", 0.5, seeds=1)}).cured
    assert not judge(arms(**WITHOUT_COST), ["ppo.learning_rate"]).cured


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"fix": arm("fix", 0.65, failed=[False, True, False])}, "still there in 1 of 3"),
        ({"generic": arm("generic", 0.65)}, "not surely better than in the arm 'generic'"),
        ({"placebo": arm("placebo", 0.66)}, "not surely better than in the arm 'placebo'"),
        ({"fix": arm("fix", 0.65, errors=frozenset({"TXT002"}))}, "new errors: TXT002"),
        ({"fix": arm("fix", 0.65, perplexity=1.6)}, "less fluent"),
        ({"fix": arm("fix", 0.65, distinct=0.4, collapsed=True)}, "less varied"),
        (
            {"fix": arm("fix", 0.65, kl=4.0, curve=np.linspace(0, 4, 40), gold_curve=np.full(40, 0.5))},
            "may only arrive later",
        ),
    ],
)
def test_each_condition_alone_withholds_the_proof(changed: dict[str, list[ArmRun]], reason: str) -> None:
    found = judge(arms(**changed))
    assert found.outcome == "not proven"
    assert any(reason in sentence for sentence in found.reasons), found.reasons


def test_worse_gold_is_said_to_be_worse() -> None:
    assert judge(arms(fix=arm("fix", 0.3))).outcome == "made worse"


def test_a_rising_kl_beside_an_equal_one_is_not_late() -> None:
    assert judge(arms(fix=arm("fix", 0.65, curve=np.linspace(0, 9, 40)))).outcome == "proven"


def test_a_slow_rise_far_below_is_another_place() -> None:
    curve = np.concatenate([np.linspace(0, 0.8, 20), np.linspace(0.8, 1.2, 20)])  # at this pace 1.9 of 8 in the end
    assert judge(arms(fix=arm("fix", 0.65, curve=curve))).outcome == "proven"


@pytest.mark.parametrize(
    ("keys", "gold", "outcome"),
    [
        (["ppo.learning_rate"], 0.649, "not proven"),  # hardly what the unchanged run had at this KL
        (["ppo.learning_rate", "ppo.epochs"], 0.649, "not proven"),
        (["ppo.kl_coef"], 0.65, "proven"),
        (["ppo.learning_rate", "ppo.kl_coef"], 0.65, "proven"),
        (["ppo.learning_rate"], 0.75, "proven"),  # another way, not only less of the same
    ],
)
def test_a_shorter_step_must_be_better_at_equal_kl(keys: list[str], gold: float, outcome: str) -> None:
    """Gold is 0.7 − KL/40 on the way to a KL of 8; the fix settles at 2."""
    unchanged = arm("unchanged", 0.5, failed=True, gold_curve=0.7 - SETTLED / 40)
    curve = SETTLED / 4
    found = judge(arms(unchanged=unchanged, fix=arm("fix", 0.65, curve=curve, gold_curve=curve * 0 + gold)), keys)
    assert found.outcome == outcome
    assert (outcome == "proven") != any("earlier on the same way" in sentence for sentence in found.reasons)


def test_what_is_broken_without_the_change_too_is_allowed() -> None:
    bad = {"perplexity": 2.0, "distinct": 0.3, "errors": frozenset({"KL001"})}
    unchanged = arm("unchanged", 0.5, failed=True, **bad)
    assert judge(arms(unchanged=unchanged, fix=arm("fix", 0.65, **bad))).outcome == "proven"


def test_more_seeds_are_asked_for_only_while_they_can_change_the_answer() -> None:
    assert judge(arms(generic=arm("generic", 0.65))).open
    assert not judge(arms(fix=arm("fix", 0.65, failed=True))).open
    assert not judge(arms(fix=arm("fix", 0.65, perplexity=1.6))).open


def test_the_interval_covers_the_spread_between_seeds() -> None:
    """Three seeds that differ by +0.3, 0, −0.3 say nothing, however many prompts agree within each."""
    base = arm("unchanged", 0.5)
    shifted = [
        ArmRun(**{**vars(one), "arm": "fix", "gold": other.gold + shift})
        for one, other, shift in zip(arm("fix", 0.5), base, (0.3, 0.0, -0.3), strict=True)
    ]
    gap = difference(shifted, base)
    assert gap.mean == pytest.approx(0.0, abs=1e-9)
    assert gap.low < -0.25 and gap.high > 0.25


def test_the_interval_has_its_coverage_on_draws_with_a_known_difference() -> None:
    """Eight seeds with a spread of 0.05 around a true difference of 0.1; a percentile bootstrap over eight clusters is
    a little too narrow, hence 85 % rather than 95 %."""
    inside = 0
    for draw in range(100):
        random = np.random.default_rng(draw)
        base, fix = arm("unchanged", 0.5, seeds=8), []
        for one in base:
            gold = one.gold + 0.1 + random.normal(0, 0.05) + random.normal(0, 0.1, PROMPTS)
            fix.append(ArmRun(**{**vars(one), "arm": "fix", "gold": gold}))
        gap = difference(fix, base)
        inside += gap.low <= 0.1 <= gap.high
    assert 85 <= inside <= 100


def test_means_alone_are_compared_by_students_t_over_seeds() -> None:
    """By hand: gaps 0.1, 0.2, 0.3 have mean 0.2 and deviation 0.1; t(0.975, 2) = 4.3027, so half the interval is
    4.3027 · 0.1 / √3 = 0.2484."""
    fix, control = arm("fix", 0.0), arm("unchanged", 0.0)
    fix = [replace(one, gold=np.array([0.5 + gap])) for one, gap in zip(fix, (0.1, 0.2, 0.3), strict=True)]
    control = [replace(one, gold=np.array([0.5])) for one in control]
    found = difference(fix, control)
    assert (found.mean, found.low, found.high) == pytest.approx((0.2, 0.2 - 0.2484, 0.2 + 0.2484), abs=1e-4)
    assert difference(fix[:1], control[:1]).low == -math.inf


def test_a_missing_control_is_no_control() -> None:
    three = arms()
    del three["placebo"]
    found = judge(three)
    assert found.outcome == "proven" and set(found.against) == {"unchanged", "generic"}


def test_words_are_no_value_that_a_re_run_could_take() -> None:
    from regard.config import load_recipe, value_at
    from regard.review.causes import all_causes
    from regard.verify.arms import executable

    config = load_recipe("tiny")
    plain = config.model_dump(mode="json")
    said = [change for cause in all_causes().values() for change in cause.changes if isinstance(change.to, str)]
    words = [{"key": one.key, "to": one.to} for one in said if " " in str(one.to)]
    assert any(one["key"] == "data.comparisons" for one in words)
    assert [one for one in words if executable(config, one)] == []
    assert executable(config, {"key": "ppo.kl_target_unit", "to": "nats/token"})
    assert not executable(config, {"key": "ppo.kl_coef", "to": value_at(plain, "ppo.kl_coef")})
    assert not executable(config, {"key": "code.loss", "to": 1.0})


def test_what_another_algorithm_does_not_allow_is_not_tried_and_its_defaults_are_its_own() -> None:
    from regard.config import changed_config, load_recipe
    from regard.verify.arms import executable

    groups = load_recipe("tiny", ["ppo.algorithm=grpo", "ppo.group_size=8"])
    assert not executable(groups, {"key": "ppo.whiten_advantages", "to": True})
    assert executable(groups, {"key": "ppo.kl_coef", "to": 0.3})
    back = changed_config(groups, {"ppo.algorithm": "ppo"})
    assert back.ppo.whiten_advantages
    assert not changed_config(back, {"ppo.algorithm": "rloo"}).ppo.whiten_advantages


def test_answers_to_a_narrow_task_may_be_alike() -> None:
    assert judge(arms(fix=arm("fix", 0.65, distinct=0.4))).outcome == "proven"
    assert judge(arms(fix=arm("fix", 0.65, collapsed=True))).outcome == "proven"  # the unchanged run's are no better


def test_a_kl_that_still_rises_is_no_matter_where_gold_is_higher_at_the_same_kl() -> None:
    rising = np.linspace(0, 4, 40)
    better, same = (arm("fix", 0.65, kl=4.0, curve=rising, gold_curve=np.full(40, gold)) for gold in (0.65, 0.5))
    assert judge(arms(fix=better)).outcome == "proven"
    assert "only arrive later" in " ".join(judge(arms(fix=same)).reasons)


def test_arms_with_other_numbers_of_held_out_prompts_share_the_first() -> None:
    short = [replace(one, gold=one.gold[:50]) for one in arm("unchanged", 0.5, failed=True)]
    whole = arm("fix", 0.65)
    assert difference(whole, short) == difference([replace(one, gold=one.gold[:50]) for one in whole], short)
