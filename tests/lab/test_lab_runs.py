"""Real lab runs: healthy ones learn, faults of each kind do what they say, and the record keeps the secret."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from support import metric_rows, read_json

from regard.errors import ConfigError
from regard.lab.controls import CONTROLS
from regard.lab.faults import FAULTS
from regard.lab.run import run_lab, truth_path
from regard.lab.setup import Setup
from regard.lab.workloads import WORKLOADS, workload_named
from regard.review.facts import Facts
from regard.review.signs import all_signs
from regard.runlog.reader import read_run


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lab-cache")


@pytest.fixture(scope="session")
def healthy(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    out = tmp_path_factory.mktemp("lab") / "run-1"
    run_lab("facts", 1, out=out, cache=cache)
    return out


def lab(tmp_path: Path, cache: Path, **more: Any) -> Path:
    out = tmp_path / "run-1"
    run_lab("facts", 1, out=out, cache=cache, **more)
    return out


def series(run: Path, key: str) -> list[float]:
    rows = metric_rows(run, "ppo")
    return [rows[step][key] for step in sorted(rows) if key in rows[step]]


def without_clock(run: Path) -> list[dict[str, Any]]:
    timed = ("time/", "throughput/", "memory/")
    lines = [json.loads(line) for f in sorted(run.glob("stages/*/metrics.jsonl")) for line in f.open(encoding="utf-8")]
    return [{k: v for k, v in line["metrics"].items() if not k.startswith(timed)} for line in lines]


def test_a_healthy_run_learns_what_is_wanted_and_keeps_its_leash(healthy: Path) -> None:
    summary = read_json(healthy / "summary.json")
    assert summary["gold"]["ci95"][0] > 0.1
    assert 0.5 < summary["kl"]["per_sequence"] < 15
    assert summary["truncated"]["policy"] < 0.1
    assert series(healthy, "entropy/policy/token_mean")[-1] > 0.3
    assert summary["reward_model"]["kept_rater_accuracy"] > 0.75


@pytest.mark.slow
@pytest.mark.parametrize("workload", sorted(WORKLOADS))
def test_no_workload_learns_its_examples_by_heart(workload: str, tmp_path: Path, cache: Path) -> None:
    """Or its controls are not healthy: a review that says so would be counted as wrong."""
    run_lab(workload, 1, out=tmp_path / "run", cache=cache)
    rows = metric_rows(tmp_path / "run", "sft")
    losses = [rows[step]["loss/sft_eval/mean"] for step in sorted(rows) if "loss/sft_eval/mean" in rows[step]]
    assert len(losses) >= 3 and losses[-1] < 1.05 * min(losses), losses


def test_the_record_is_whole_and_the_review_can_read_it(healthy: Path) -> None:
    run = read_run(healthy)
    assert list(run.stages) == ["pretrain", "sft", "rm", "ppo", "eval"]
    assert not run.notes and not any(stage.notes for stage in run.stages.values())
    assert all(facts["status"] == "done" for facts in run.run["stages"].values())
    steps = run.config["ppo"]["steps"]
    assert run.stages["ppo"].rollout_steps == list(range(1, steps + 1))
    artifacts = run.lineage["artifacts"]
    same = {name: part["sha256_before"] == part["sha256_after"] for name, part in artifacts.items()}
    assert same == {"policy": False, "value": False, "reference": True, "reward_model": True}
    assert artifacts["policy"]["sha256_before"] == artifacts["reference"]["sha256_before"]
    assert {"facts/sft", "facts/comparisons", "facts/prompts"} <= run.lineage["inputs"].keys()


def test_metrics_of_groups_reward_model_value_and_probe_are_there(healthy: Path) -> None:
    last = metric_rows(healthy, "ppo")[40]
    assert {"group/zero_std/frac", "group/reward_std/mean", "group/distinct_text/frac"} <= last.keys()
    assert {"optim/grad_norm_value/last", "optim/param_norm/value", "optim/update_norm/value"} <= last.keys()
    assert last["value/prediction/min"] <= last["value/prediction/mean"] <= last["value/prediction/max"]
    assert "eval/probe_nll/token_mean" in last
    rm = metric_rows(healthy, "rm")
    assert {"rm/accuracy_trusted/mean", "rm/ece/value", "rm/rater_agreement/mean"} <= rm[max(rm)].keys()
    assert sum("rm/accuracy_val/mean" in row and "rm/loss_val/mean" in row for row in rm.values()) == 8


@pytest.mark.slow
def test_the_same_seed_gives_the_same_record(healthy: Path, tmp_path: Path) -> None:
    again = lab(tmp_path, tmp_path / "another cache")
    assert without_clock(again) == without_clock(healthy)
    lineages = [read_json(run / "lineage.json") for run in (again, healthy)]
    assert lineages[0]["artifacts"] == lineages[1]["artifacts"]
    tables = [pq.read_table(run / "stages/ppo/rollouts/step-00000040.parquet") for run in (again, healthy)]
    assert tables[0].equals(tables[1])


def test_the_truth_stands_beside_the_record_and_not_in_it(tmp_path: Path, cache: Path) -> None:
    out = lab(tmp_path, cache, fault="H5", severity="severe", start="mid")
    truth = read_json(truth_path(out))
    onset = Setup(workload_named("facts"), 1, "severe", "mid").onset
    assert truth["control"] is None
    assert truth["faults"] == [
        {
            "id": "H5",
            "stage": "reward model",
            "severity": "severe",
            "start": "mid",
            "root_onset": {"stage": "ppo", "step": onset + 1},
        }
    ]
    assert 10 <= onset < 18
    secret = re.compile(r"\bH5\b|\bfaults?\b|inject|severe|truth|plant|marker", re.IGNORECASE)
    for path in out.rglob("*"):
        assert not secret.search(str(path.relative_to(out)))
        if path.is_file() and path.suffix in (".json", ".jsonl", ".yaml"):
            assert not secret.search(path.read_text(encoding="utf-8")), path


# One fault of each kind does what it says


@pytest.mark.slow
def test_configuration_fault_stands_in_the_configuration(tmp_path: Path, cache: Path, healthy: Path) -> None:
    out = lab(tmp_path, cache, fault="K1", severity="severe")
    assert read_run(out).config["ppo"]["kl_coef"] == 0
    assert (
        read_json(out / "summary.json")["kl"]["per_sequence"]
        > read_json(healthy / "summary.json")["kl"]["per_sequence"]
    )


@pytest.mark.slow
def test_a_paid_marker_earns_by_itself_what_gold_does_not_give(tmp_path: Path, cache: Path, healthy: Path) -> None:
    sign = all_signs()["phrase-pays-by-itself"]
    assert sign.ask(Facts(read_run(healthy))).holds is False
    out = lab(tmp_path, cache, fault="H5")
    (worth, *_) = read_json(out / "stages/eval/counterfactual.json")
    assert worth["phrase"] == workload_named("facts").phrases.marker
    assert worth["insert"]["score"]["mean"] > 1 > worth["insert"]["gold"]["mean"]
    assert sign.ask(Facts(read_run(out))).holds is True


@pytest.mark.slow
def test_data_fault_shows_by_trusted_labels_alone(tmp_path: Path, cache: Path) -> None:
    out = lab(tmp_path, cache, fault="D2", severity="severe")
    evaluation = read_json(out / "stages/rm/evaluation.json")
    assert evaluation["accuracy"] > 0.7 and evaluation["kept_rater_accuracy"] < 0.3
    assert read_json(out / "summary.json")["gold"]["ci95"][1] < 0


@pytest.mark.slow
def test_label_noise_lowers_agreement(tmp_path: Path, cache: Path, healthy: Path) -> None:
    out = lab(tmp_path, cache, fault="D1", severity="severe")
    ours, theirs = (read_json(run / "stages/rm/evaluation.json")["rater_agreement"] for run in (out, healthy))
    assert ours < 0.6 < 0.7 < theirs


def test_other_reference_breaks_the_first_invariant_and_the_run_goes_on(tmp_path: Path, cache: Path) -> None:
    out = lab(tmp_path, cache, fault="K3", severity="severe")
    assert metric_rows(out, "ppo")[0]["invariant/kl_ref/value"] > 0.5
    assert len(series(out, "kl/policy_ref_k1/seq_sum")) == 40
    artifacts = read_json(out / "lineage.json")["artifacts"]
    assert artifacts["policy"]["sha256_before"] != artifacts["reference"]["sha256_before"]


@pytest.mark.slow
def test_sampling_from_fewer_tokens_shows_as_mismatch(tmp_path: Path, cache: Path, healthy: Path) -> None:
    out = lab(tmp_path, cache, fault="G3", severity="severe")
    assert max(series(healthy, "kl/generator_trainer_k3/mean")) < 1e-6
    assert series(out, "kl/generator_trainer_k3/mean")[0] > 0.01


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "key"),
    [
        ("P1", "optim/learning_rate/last"),
        ("C2", "optim/grad_norm_value/last"),
        ("G8", "score/reward_model/std"),
        ("R5", "score/reward_model/std"),
        ("K1", "kl/coef/value"),
        ("N3", "optim/learning_rate/last"),
        ("G3", "kl/generator_trainer_k3/mean"),
    ],
)
def test_mid_run_fault_changes_nothing_before_its_onset(
    tmp_path: Path, cache: Path, healthy: Path, fault: str, key: str
) -> None:
    """The first iteration that differs is the one that the truth names."""
    out = lab(tmp_path, cache, fault=fault, severity="severe", start="mid")
    onset = read_json(truth_path(out))["faults"][0]["root_onset"]["step"]
    ours, theirs = metric_rows(out, "ppo"), metric_rows(healthy, "ppo")
    score = "score/reward_model/mean"
    assert all(ours[step][key] == theirs[step][key] for step in range(1, onset))
    assert all(ours[step][score] == theirs[step][score] for step in range(1, onset))
    assert any(ours[step][key] != theirs[step][key] for step in (onset, onset + 1))


@pytest.mark.slow
def test_two_faults_are_planted_together(tmp_path: Path, cache: Path) -> None:
    out = lab(tmp_path, cache, fault=("K1", "R5"))
    assert [one["id"] for one in read_json(truth_path(out))["faults"]] == ["K1", "R5"]
    assert read_run(out).config["ppo"]["kl_coef"] < 0.02
    assert series(out, "score/reward_model/std")[0] > 5


# Controls


@pytest.mark.slow
def test_measurement_oddity_changes_the_record_of_a_healthy_run(tmp_path: Path, cache: Path, healthy: Path) -> None:
    out = lab(tmp_path, cache, control="every-fourth-step")
    assert read_json(truth_path(out))["control"] == {"name": "every-fourth-step", "kind": "measurement oddity"}
    assert sorted(metric_rows(out, "ppo")) == list(range(0, 41, 4))
    assert read_json(out / "summary.json")["gold"] == read_json(healthy / "summary.json")["gold"]


@pytest.mark.slow
def test_restart_repeats_steps_with_the_same_numbers(tmp_path: Path, cache: Path, healthy: Path) -> None:
    out = lab(tmp_path, cache, control="restart-with-overlap")
    lines = (out / "stages/ppo/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 41 + 5
    assert metric_rows(out, "ppo").keys() == metric_rows(healthy, "ppo").keys()


def test_there_are_controls_of_four_kinds() -> None:
    kinds = {one.kind for one in CONTROLS.values()}
    assert kinds == {"healthy", "benign change", "odd but healthy", "measurement oddity"}


# Wrong requests


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"fault": "Z9"}, "No fault 'Z9'"),
        ({"fault": "K1", "severity": "awful"}, "no severity 'awful'"),
        ({"fault": "D1", "start": "mid"}, "no start 'mid'"),
        ({"control": "nothing"}, "No control 'nothing'"),
        ({"control": "healthy", "fault": "K1"}, "either a control or has a fault"),
    ],
)
def test_what_is_not_there_is_refused_before_anything_is_written(
    tmp_path: Path, request_: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        run_lab("facts", 1, out=tmp_path / "run", cache=tmp_path, **request_)
    assert not (tmp_path / "run").exists()


def test_every_fault_says_what_it_changes_and_names_a_known_stage() -> None:
    assert len(FAULTS) >= 11
    for one in FAULTS.values():
        assert one.summary.endswith("."), one.id
        assert one.severities and set(one.starts) <= {"start", "mid"}
        assert one.stage in {
            *("data", "sft", "reward model", "critic", "policy optimisation", "kl", "rollout", "infrastructure"),
            "measurement",
        }
