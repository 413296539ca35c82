"""The contract of the run directory, on a real run of all stages."""

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from support import metric_rows, micro_run, read_json, regard

from regard.runlog.metrics import METRICS


def test_every_stage_ends_and_the_report_is_one_file(micro: Path) -> None:
    stages = read_json(micro / "run.json")["stages"]
    assert [stages[s]["status"] for s in ("pretrain", "sft", "rm", "ppo", "eval")] == ["done"] * 5
    html = (micro / "report.html").read_text(encoding="utf-8")
    assert "<html" in html and 'src="http' not in html and 'href="http' not in html


def test_summary_holds_what_the_contract_names(micro: Path) -> None:
    summary = read_json(micro / "summary.json")
    assert {"gold", "score", "kl", "perplexity", "length", "seconds", "reward_model", "verdict"} <= summary.keys()
    gold = summary["gold"]
    assert gold["n"] == 16
    assert gold["difference"] == pytest.approx(gold["policy"] - gold["sft"], abs=1e-12)
    assert gold["ci95"][0] <= gold["difference"] <= gold["ci95"][1]
    assert summary["kl"]["unit"] == "nats"


def test_frozen_models_are_the_same_before_and_after_and_trained_ones_are_not(micro: Path) -> None:
    artifacts = read_json(micro / "lineage.json")["artifacts"]
    same = {name: part["sha256_before"] == part["sha256_after"] for name, part in artifacts.items()}
    assert same == {"policy": False, "value": False, "reference": True, "reward_model": True}


def test_only_declared_metrics_are_logged_and_every_step_is_there(micro: Path) -> None:
    for stage, last in (("pretrain", 6), ("sft", 6), ("rm", 5), ("ppo", 5)):
        rows = metric_rows(micro, stage)
        assert {step for step in rows if step} == set(range(1, last + 1))
        assert {key for row in rows.values() for key in row} <= set(METRICS)


def test_step_0_invariants_are_recorded_and_hold(micro: Path) -> None:
    start = metric_rows(micro, "ppo")[0]
    assert start["invariant/two_forwards_max_diff/value"] == 0.0
    assert start["invariant/frozen_hashes_equal/flag"] == 1.0
    assert start["invariant/ratio_max_deviation/value"] < 1e-3
    assert abs(start["invariant/kl_ref/value"]) < 1e-4
    assert start["invariant/padding_max_diff/value"] < 1e-3
    assert start["invariant/generator_trainer_max_diff/value"] < 1e-3


def test_rollout_ids_are_never_reused_and_carry_the_policy_version(micro: Path) -> None:
    tables = [pq.read_table(p) for p in sorted((micro / "stages/ppo/rollouts").glob("*.parquet"))]
    ids = [i for table in tables for i in table["rollout_id"].to_pylist()]
    versions = [set(table["policy_version"].to_pylist()) for table in tables]
    assert len(ids) == len(set(ids)) == 5 * 8
    assert all(len(v) == 1 for v in versions)
    assert sorted(versions, key=min) == versions and versions[0] == {0} and len({min(v) for v in versions}) == 5


def test_per_token_rewards_are_the_score_at_the_end_minus_beta_times_kl(micro: Path) -> None:
    """Recomputed from the stored arrays alone, in plain Python."""
    rows = [r for p in (micro / "stages/ppo/rollouts").glob("*.parquet") for r in pq.read_table(p).to_pylist()]
    for row in rows:
        kl = [a - b for a, b in zip(row["logprobs"], row["ref_logprobs"], strict=True)]
        expected = [-0.1 * k for k in kl]
        expected[-1] += row["score"]
        assert row["rewards"] == pytest.approx(expected, abs=1e-4)
        assert row["kl_sum"] == pytest.approx(sum(kl), abs=1e-4)
        assert len(row["tokens"]) == row["length"] and row["finished"] != row["truncated"]


def test_a_finished_run_is_not_run_again_and_not_overwritten(micro: Path) -> None:
    before = (micro / "stages/ppo/metrics.jsonl").read_bytes()
    again = micro_run(micro)
    assert again.returncode == 2 and "--resume" in again.stderr and "Traceback" not in again.stderr
    resumed = micro_run(micro, "--resume")
    assert resumed.returncode == 0
    assert (micro / "stages/ppo/metrics.jsonl").read_bytes() == before


def test_a_record_of_before_a_key_is_resumed_and_one_of_another_setting_is_not(micro: Path, tmp_path: Path) -> None:
    shutil.copytree(micro, tmp_path / "run")
    path = tmp_path / "run" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    del config["ppo"]["lora_layers"]
    path.write_text(yaml.safe_dump(config))
    resumed = micro_run(tmp_path / "run", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    other = micro_run(tmp_path / "run", "--resume", "--set", "ppo.gamma=0.5")
    assert other.returncode == 2 and "ppo.gamma" in other.stderr


def test_a_stage_is_refused_before_what_it_needs(tmp_path: Path) -> None:
    early = regard("train", "ppo", "tiny", "--out", str(tmp_path / "run"))
    assert early.returncode == 2 and "needs" in early.stderr and "Traceback" not in early.stderr
