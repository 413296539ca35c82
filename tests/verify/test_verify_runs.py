"""`regard verify` on a micro run trained for real."""

import json
import shutil
from pathlib import Path

import pytest
from support import MICRO, metric_rows, micro_run, read_json, regard

SETS = [word for override in MICRO for word in ("--set", override)]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A micro run that keeps every checkpoint of stage 4."""
    out = tmp_path_factory.mktemp("verify") / "run"
    done = micro_run(out, "--set", "ppo.keep_every=1")
    assert done.returncode == 0, done.stderr
    return out


def policy_hash(run: Path) -> str:
    return read_json(run / "lineage.json")["artifacts"]["policy"]["sha256_after"]


def test_an_unchanged_fork_from_the_middle_ends_with_the_same_weights_and_the_same_record(
    kept: Path, tmp_path: Path
) -> None:
    from regard.config import parse_config
    from regard.runlog.reader import read_run
    from regard.train.pipeline import run_recipe
    from regard.verify.experiment import forks

    run = read_run(kept)
    assert forks(kept) == [0, 1, 2, 3, 4, 5]
    fork = tmp_path / "fork"
    run_recipe(parse_config(run.config, "test"), fork, argv=[], start_from=kept, from_step=3, quiet=True)
    assert policy_hash(fork) == policy_hash(kept)
    assert read_json(fork / "summary.json")["gold"] == read_json(kept / "summary.json")["gold"]
    old, new = metric_rows(kept, "ppo"), metric_rows(fork, "ppo")
    assert set(old) == set(new)
    key = "kl/policy_ref_k1/seq_sum"
    assert [old[step][key] for step in range(1, 6)] == [new[step][key] for step in range(1, 6)]
    assert read_run(fork).stages["ppo"].rollout_steps == run.stages["ppo"].rollout_steps


def test_a_fork_with_another_coefficient_starts_with_it_also_after_a_kill_before_stage_4(
    kept: Path, tmp_path: Path
) -> None:
    from regard.config import parse_config
    from regard.runlog.reader import read_run
    from regard.train.pipeline import run_recipe
    from regard.verify.arms import changed_config

    config = changed_config(parse_config(read_run(kept).config, "test"), {"ppo.kl_coef": 0.7})
    run_recipe(config, tmp_path / "fork", argv=[], start_from=kept, only="rm", quiet=True)  # begun, no stage 4 yet
    run_recipe(config, tmp_path / "fork", argv=[], resume=True, start_from=kept, from_step=3, quiet=True)
    rows = metric_rows(tmp_path / "fork", "ppo")
    assert [rows[step]["kl/coef/value"] for step in (3, 4)] == [pytest.approx(0.1), pytest.approx(0.7)]


def test_verify_runs_every_arm_and_repeats_none(kept: Path, tmp_path: Path) -> None:
    out = tmp_path / "verify"
    words = ("verify", str(kept), "--fix", "ppo.kl_coef=0.5", "--seeds", "1", "--max-seeds", "1", "--out", str(out))
    done = regard(*words, "--json")
    assert done.returncode in (0, 1), done.stderr
    result = json.loads(done.stdout)
    (trial,) = result["trials"]
    assert trial["unchanged_is_bit_identical"] is True
    assert trial["changes"] == [{"key": "ppo.kl_coef", "from": 0.1, "to": 0.5}]
    assert set(trial["arms"]) == {"unchanged", "placebo", "generic", "fix"}
    assert result == read_json(out / "verify.json")
    assert (done.returncode == 0) == (result["outcome"] == "proven")

    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("summary.json")}
    assert len(stamps) == 4
    half_done = next(path for path in stamps if "placebo" in str(path))
    half_done.unlink()  # as a kill before the end of this arm leaves it
    again = json.loads(regard(*words, "--json").stdout)
    assert again["trials"] == result["trials"]
    changed = [path for path in out.rglob("summary.json") if path.stat().st_mtime_ns != stamps[path]]
    assert changed == [half_done]


def test_a_budget_that_does_not_suffice_is_undecided_and_says_so(kept: Path, tmp_path: Path) -> None:
    done = regard("verify", str(kept), "--fix", "ppo.kl_coef=0.5", "--budget", "0.1s", "--out", str(tmp_path / "v"))
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
def test_what_cannot_be_verified_is_one_sentence(kept: Path, words: tuple[str, ...], says: str) -> None:
    done = regard("verify", str(kept), *words)
    assert done.returncode == 2
    assert says in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("key", "step"),
    [("ppo.kl_coef", 2), ("ppo.steps", 0), ("ppo.max_response_tokens", 0), ("rm.epochs", 0), ("sft.steps", 0)],
)
def test_a_change_that_earlier_stages_read_begins_at_the_start(kept: Path, key: str, step: int) -> None:
    from regard.review.causes import all_causes
    from regard.review.diagnosis import Diagnosis
    from regard.review.outcome import Onset
    from regard.verify.experiment import Trial, fork_step

    onset = Onset(4, (3, 5))
    cause = Diagnosis(all_causes()["K1"], 1.0, "diagnosed", (), (), (), (), onset, onset, (), ())
    assert fork_step(kept, [Trial(cause, {key: 1})]) == step


def test_a_run_made_elsewhere_is_one_sentence(kept: Path, tmp_path: Path) -> None:
    copy = tmp_path / "foreign"
    shutil.copytree(kept, copy, ignore=shutil.ignore_patterns("stages", "verify"))
    (copy / "config.yaml").write_text("learning_rate: 0.1\n", encoding="utf-8")
    done = regard("verify", str(copy), "--fix", "ppo.kl_coef=0.5")
    assert done.returncode == 2 and "was not trained by regard" in done.stderr
