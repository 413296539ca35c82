"""Experiments on runs of other trainers: the plan in their keys, and the verdict on logs that come back.

The logs here are made up in the format of TRL's trainer to have one known answer each; `benchmarks/trl_verify.py` does
the same with real runs.
"""

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import regard

from regard.runlog.importers import read_any
from regard.verify.elsewhere import judge_plan, read_plan, write_plan

REAL = Path(__file__).parent.parent / "runlog" / "trl_healthy"
SETTINGS: dict[str, Any] = {
    "learning_rate": 5e-4,
    "beta": 0.001,
    "scale_rewards": "group",
    "num_iterations": 1,
    "per_device_train_batch_size": 64,
    "gradient_accumulation_steps": 1,
    "max_completion_length": 16,
    "temperature": 1.0,
    "seed": 4,
}
MAP = "keys: {rewards/judge/mean: gold/judge/mean}\n"


def trl_log(place: Path, *, runaway: bool, gold: float, seed: int, judge: bool = True, **settings: Any) -> Path:
    """60 steps of GRPO: KL settles at 0.1 nats per token, or climbs without end while the score is paid for it."""
    rng = random.Random(seed)
    rows = []
    for step in range(1, 61):
        part = step / 60
        noise = rng.gauss(0, 0.02)
        kl = 3.0 * part**1.5 if runaway else 0.1 * (1 - math.exp(-6 * part))
        quality = 0.4 + (gold - 0.4) * part + 0.005 * rng.gauss(0, 1)
        rows.append(
            {
                "step": step,
                "loss": 0.001 * rng.gauss(0, 1),
                "grad_norm": 0.5 + 0.05 * rng.random(),
                "learning_rate": settings.get("learning_rate", SETTINGS["learning_rate"]),
                "reward": (4 * part if runaway else 1 - math.exp(-6 * part)) + noise,
                "reward_std": 0.8 + 0.1 * rng.random(),
                "frac_reward_zero_std": 0.0,
                "kl": kl * (1 + 0.05 * rng.gauss(0, 1)),
                "entropy": 2.2 - (0.3 * part) + noise,
                "completions/mean_length": 9 + rng.gauss(0, 0.3),
                "completions/clipped_ratio": 0.02,
                "clip_ratio/region_mean": 0.0,
                **({"rewards/judge/mean": quality} if judge else {}),
            }
        )
    place.mkdir(parents=True, exist_ok=True)
    (place / "trainer_state.json").write_text(json.dumps({"global_step": 60, "log_history": rows}))
    (place / "training_args.json").write_text(json.dumps({**SETTINGS, **settings, "seed": seed}))
    return place


@pytest.fixture
def mapping(tmp_path: Path) -> Path:
    path = tmp_path / "map.yaml"
    path.write_text(MAP)
    return path


@pytest.fixture
def failed(tmp_path: Path) -> Path:
    return trl_log(tmp_path / "failed", runaway=True, gold=0.2, seed=4)


def bring_back(root: Path, *, fixed_gold: float = 0.7, fixed_runaway: bool = False, judge: bool = True) -> None:
    plan = read_plan(root)
    for arm, changes in plan.arms.items():
        for seed in plan.seeds:
            fix = arm == "fix"
            trl_log(
                plan.place(arm, seed),
                runaway=fixed_runaway if fix else arm != "generic",
                gold=fixed_gold if fix else 0.2 if arm != "generic" else 0.5,
                seed=seed,
                judge=judge,
                **{key: to for key, (_, to) in changes.items()},
            )


def test_a_plan_changes_the_trainers_own_keys_by_numbers(failed: Path, mapping: Path, tmp_path: Path) -> None:
    plan = write_plan(read_any(failed, None, mapping), tmp_path / "plan")
    assert plan.run["source"] == "trl-grpo" and plan.cause == "K1" and plan.seeds == (4, 5, 6)
    assert plan.arms == {
        "unchanged": {},
        "placebo": {"per_device_train_batch_size": (64, 32), "gradient_accumulation_steps": (1, 2)},
        "generic": {"learning_rate": (5e-4, 2.5e-4), "beta": (0.001, 0.002)},
        "fix": {"beta": (0.001, 0.29)},
    }
    assert yaml.safe_load((tmp_path / "plan/fix/patch.yaml").read_text()) == {"beta": 0.29}
    words = (tmp_path / "plan/PLAN.md").read_text()
    assert "`beta`: 0.001 → 0.29" in words and "fix/seed-4" in words and "regard verify --read" in words
    assert read_plan(tmp_path / "plan") == plan


def test_a_fix_that_worked_is_proven(failed: Path, mapping: Path, tmp_path: Path) -> None:
    root = tmp_path / "plan"
    planned = regard("verify", str(failed), "--plan", str(root), "--map", str(mapping))
    assert planned.returncode == 0, planned.stderr
    assert "4 arms × 3 seeds" in planned.stdout
    bring_back(root)
    done = regard("verify", "--read", str(root), "--map", str(mapping))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PROVEN" in done.stdout and "K1: beta 0.001 → 0.29" in done.stdout
    assert "<svg" in (root / "verify.html").read_text()
    assert json.loads((root / "verify.json").read_text())["outcome"] == "proven"


@pytest.mark.parametrize(
    ("gold", "runaway", "outcome", "says"),
    [
        (0.7, True, "not proven", "still there in"),
        (0.5, False, "not proven", "not surely better than in the arm 'generic'"),
        (0.0, False, "made worse", "Gold is worse than unchanged"),
    ],
)
def test_a_fix_that_did_not_is_not(
    failed: Path, mapping: Path, tmp_path: Path, gold: float, runaway: bool, outcome: str, says: str
) -> None:
    plan = write_plan(read_any(failed, None, mapping), tmp_path / "plan")
    bring_back(plan.path, fixed_gold=gold, fixed_runaway=runaway)
    result, _ = judge_plan(plan, mapping)
    assert result["outcome"] == outcome
    assert says in " ".join(result["trials"][0]["reasons"])


def test_without_gold_or_without_the_logs_nothing_is_decided(failed: Path, mapping: Path, tmp_path: Path) -> None:
    plan = write_plan(read_any(failed, None, mapping), tmp_path / "plan")
    result, _ = judge_plan(plan, mapping)
    assert result["outcome"] == "cannot be decided"
    assert "0 of 3 seeds" in result["trials"][0]["reasons"][0] and "12 logs are missing" in str(result["trials"])
    bring_back(plan.path, judge=False)
    result, _ = judge_plan(plan, mapping)
    assert result["outcome"] == "cannot be decided"
    assert "12 of the logs have no gold/judge/mean" in result["trials"][0]["reasons"][0]
    assert "runs unchanged and in 0 with" in result["trials"][0]["reasons"][1]


def test_one_seed_alone_decides_nothing(failed: Path, mapping: Path, tmp_path: Path) -> None:
    plan = write_plan(read_any(failed, None, mapping), tmp_path / "plan", seeds=1)
    bring_back(plan.path)
    result, _ = judge_plan(plan, mapping)
    assert result["outcome"] == "cannot be decided" and "without two" in str(result["trials"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--read", "{tmp}/none"), "holds no plan.json"),
        (("{healthy}", "--plan", "{tmp}/p", "--fix", "kl_coef=0.2"), "finds nothing wrong"),
        (("{healthy}", "--plan", "{tmp}/p"), "No cause has a fix"),
        (("{failed}", "--plan", "{tmp}/p", "--cause", "D1"), "does not list D1"),
        (("{failed}",), "--plan DIR"),
        (("{failed}", "--read", "{tmp}/p"), "--read takes what the plan says"),
        ((), "Verify what?"),
    ],
)
def test_what_cannot_be_planned_is_one_sentence(
    failed: Path, tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    filled = [word.format(tmp=tmp_path, healthy=REAL / "ppo-1", failed=failed) for word in words]
    done = regard("verify", *filled)
    assert done.returncode == 2
    assert says in done.stderr and "Traceback" not in done.stderr


def test_another_plan_is_never_overwritten_and_a_damaged_one_is_refused(failed: Path, tmp_path: Path) -> None:
    run = read_any(failed)
    plan = write_plan(run, tmp_path / "plan", fix={"beta": 0.1})
    assert write_plan(run, tmp_path / "plan", fix={"beta": 0.1}) == plan
    again = regard("verify", str(failed), "--plan", str(tmp_path / "plan"), "--fix", "beta=0.2")
    assert again.returncode == 2 and "holds another plan" in again.stderr
    (tmp_path / "plan/plan.json").write_text('{"run": {}, "arms": {}}')
    damaged = regard("verify", "--read", str(tmp_path / "plan"))
    assert damaged.returncode == 2 and "is damaged" in damaged.stderr


def test_a_cure_is_said_of_the_runs_of_others_too(failed: Path, mapping: Path, tmp_path: Path) -> None:
    """The failure goes away, and gold stays where it was."""
    plan = write_plan(read_any(failed, None, mapping), tmp_path / "plan", seeds=2)
    for arm, changes in plan.arms.items():
        for seed in plan.seeds:
            settings = {key: to for key, (_, to) in changes.items()}
            trl_log(plan.place(arm, seed), runaway=arm != "fix", gold=0.4, seed=20 + seed, **settings)
    result, _ = judge_plan(read_plan(tmp_path / "plan"), mapping)
    assert result["outcome"] == "not proven" and result["trials"][0]["cured"], result["trials"][0]["reasons"]
