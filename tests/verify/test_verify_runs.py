"""`regard verify` on a micro run trained for real."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support import metric_rows, read_json, regard

from regard.errors import ConfigError


def policy_hash(run: Path) -> str:
    return read_json(run / "lineage.json")["artifacts"]["policy"]["sha256_after"]


def test_an_unchanged_fork_from_the_middle_ends_with_the_same_weights_and_the_same_record(
    micro: Path, tmp_path: Path
) -> None:
    from regard.config import parse_config
    from regard.runlog.reader import read_run
    from regard.train.pipeline import run_recipe
    from regard.verify.experiment import forks

    run = read_run(micro)
    assert forks(micro) == [0, 1, 2, 3, 4, 5]
    fork = tmp_path / "fork"
    run_recipe(parse_config(run.config, "test"), fork, argv=[], start_from=micro, from_step=3, quiet=True)
    assert policy_hash(fork) == policy_hash(micro)
    assert read_json(fork / "summary.json")["gold"] == read_json(micro / "summary.json")["gold"]
    old, new = metric_rows(micro, "ppo"), metric_rows(fork, "ppo")
    assert set(old) == set(new)
    key = "kl/policy_ref_k1/seq_sum"
    assert [old[step][key] for step in range(1, 6)] == [new[step][key] for step in range(1, 6)]
    assert read_run(fork).stages["ppo"].rollout_steps == run.stages["ppo"].rollout_steps


@pytest.mark.parametrize(("stage", "adopted"), [("pretrain", []), ("sft", ["pretrain"]), ("rm", ["pretrain", "sft"])])
def test_an_unchanged_fork_at_an_earlier_stage_ends_with_the_same_weights(
    micro: Path, tmp_path: Path, stage: str, adopted: list[str]
) -> None:
    """Keeping checkpoints changes no weight, but the stage that would keep them is done again, with all after it."""
    from regard.config import changed_config, parse_config
    from regard.runlog.reader import read_run
    from regard.train.pipeline import run_recipe

    config = changed_config(parse_config(read_run(micro).config, "test"), {f"{stage}.keep_every": 1})
    fork = tmp_path / "fork"
    run_recipe(config, fork, argv=[], start_from=micro, quiet=True)
    stages = read_json(fork / "run.json")["stages"]
    assert [name for name, facts in stages.items() if "adopted_from" in facts] == adopted
    old, new = read_json(micro / "lineage.json"), read_json(fork / "lineage.json")
    assert new["artifacts"] == old["artifacts"]
    weights = [name for name in old["inputs"] if name.endswith(".safetensors")]
    assert len(weights) >= 3
    assert [new["inputs"][name] for name in weights] == [old["inputs"][name] for name in weights]


def test_a_fork_with_another_coefficient_starts_with_it_also_after_a_kill_before_stage_4(
    micro: Path, tmp_path: Path
) -> None:
    from regard.config import changed_config, parse_config
    from regard.runlog.reader import read_run
    from regard.train.pipeline import run_recipe

    config = changed_config(parse_config(read_run(micro).config, "test"), {"ppo.kl_coef": 0.7})
    run_recipe(config, tmp_path / "fork", argv=[], start_from=micro, only="rm", quiet=True)  # begun, no stage 4 yet
    run_recipe(config, tmp_path / "fork", argv=[], resume=True, start_from=micro, from_step=3, quiet=True)
    rows = metric_rows(tmp_path / "fork", "ppo")
    assert [rows[step]["kl/coef/value"] for step in (3, 4)] == [pytest.approx(0.1), pytest.approx(0.7)]


def test_a_killed_verification_goes_on_and_repeats_no_arm(micro: Path, tmp_path: Path) -> None:
    out = tmp_path / "verify"
    words = ("verify", str(micro), "--fix", "ppo.kl_coef=0.5", "--seeds", "1", "--max-seeds", "1", "--out", str(out))
    process = subprocess.Popen([sys.executable, "-m", "regard.cli.main", *words], stdout=subprocess.DEVNULL)
    end = time.monotonic() + 200
    while not list(out.glob("*/placebo/seed-*/stages/ppo/checkpoints/step-00000003")):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    (unchanged,) = out.glob("*/unchanged/seed-*/summary.json")
    assert not list(out.glob("*/placebo/seed-*/summary.json"))
    before = unchanged.stat().st_mtime_ns

    done = regard(*words, "--json", "--apply")
    assert done.returncode in (0, 1), done.stderr
    result = json.loads(done.stdout)
    (trial,) = result["trials"]
    assert unchanged.stat().st_mtime_ns == before
    assert trial["unchanged_is_bit_identical"] is True
    assert trial["changes"] == [{"key": "ppo.kl_coef", "from": 0.1, "to": 0.5}]
    assert set(trial["arms"]) == {"unchanged", "placebo", "generic", "fix"}
    assert result == read_json(out / "verify.json")
    assert (done.returncode == 0) == (result["outcome"] == "proven") == (result["applied"] is not None)
    assert_a_proven_fix_is_kept(micro, result)


def assert_a_proven_fix_is_kept(micro: Path, result: dict[str, Any]) -> None:
    from regard.verify.apply import keep_fixed

    proven = {"trials": [result["trials"][0] | {"outcome": "proven"}]}
    arm = Path(proven["trials"][0]["arms"]["fix"]["runs"][0]["path"])
    run = arm.parent / "run"  # so that RUN-fixed lies beside a path of this test's own
    kept = keep_fixed(run, proven)
    assert kept == {"run": f"{run}-fixed", "recipe": f"{run}-fixed/config.yaml"} == keep_fixed(run, proven)
    assert kept is not None
    fixed = Path(kept["run"])
    assert policy_hash(fixed) == policy_hash(arm) != policy_hash(micro)
    assert "kl_coef: 0.5" in (fixed / "config.yaml").read_text()
    assert read_json(fixed / "run.json")["stages"]["rm"]["adopted_from"] == str(micro)
    (fixed / "run.json").write_text("{}")
    with pytest.raises(ConfigError, match="is another run"):
        keep_fixed(run, proven)


def test_a_budget_that_does_not_suffice_is_undecided_and_says_so(micro: Path, tmp_path: Path) -> None:
    done = regard("verify", str(micro), "--fix", "ppo.kl_coef=0.5", "--budget", "0.1s", "--out", str(tmp_path / "v"))
    assert done.returncode == 1
    assert "CANNOT BE DECIDED" in done.stdout and "The budget ended after 0 seed(s)" in done.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--fix", "ppo.kl_coef=0.1"), "already has ppo.kl_coef=0.1"),
        (("--fix", "ppo.kl_cof=0.5"), "kl_coef"),
        (("--fix", "pro.kl_coef=0.5"), "pro"),
        (("--fix", "ppo.kl_coef.x=0.5"), "is a value, not a section"),
        (("--cause", "D1", "--fix", "ppo.kl_coef=0.5"), "Nothing to verify"),
        (("--fix", "ppo.kl_coef"), "has no '='"),
        (("--fix", "ppo.kl_coef=-1"), "kl_coef"),
        (("--budget", "soon"), "--budget takes"),
        (("--cause", "D1"), "Nothing to verify"),
    ],
)
def test_what_cannot_be_verified_is_one_sentence(micro: Path, words: tuple[str, ...], says: str) -> None:
    done = regard("verify", str(micro), *words)
    assert done.returncode == 2
    assert says in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("key", "step"),
    [("ppo.kl_coef", 2), ("ppo.steps", 0), ("ppo.max_response_tokens", 0), ("rm.epochs", 0), ("sft.steps", 0)],
)
def test_a_change_that_earlier_stages_read_begins_at_the_start(micro: Path, key: str, step: int) -> None:
    from regard.review.causes import all_causes
    from regard.review.diagnosis import Diagnosis
    from regard.review.outcome import Onset
    from regard.verify.experiment import Trial, fork_step

    onset = Onset(4, (3, 5))
    cause = Diagnosis(all_causes()["K1"], 1.0, "diagnosed", (), (), (), (), onset, onset, (), ())
    assert fork_step(micro, [Trial(cause, {key: 1})]) == step


def test_a_run_made_elsewhere_is_one_sentence(micro: Path, tmp_path: Path) -> None:
    copy = tmp_path / "foreign"
    shutil.copytree(micro, copy, ignore=shutil.ignore_patterns("stages", "verify"))
    (copy / "config.yaml").write_text("learning_rate: 0.1\n", encoding="utf-8")
    done = regard("verify", str(copy), "--fix", "ppo.kl_coef=0.5")
    assert done.returncode == 2 and "was not trained by regard" in done.stderr
