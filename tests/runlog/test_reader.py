"""The reader: damaged, unfinished and foreign records."""

import json
from pathlib import Path

import numpy as np
import pytest

from regard.errors import RunLogError
from regard.runlog.reader import read_run
from regard.runlog.writer import RunWriter


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    with RunWriter(tmp_path / "run", config={"a": 1}, seed=0, argv=[]) as run:
        for stage in ("ppo", "eval", "sft", "zzz", "rm"):
            run.stage(stage).log(0, {"loss/total/mean": 1.0, "kl/coef/value": float("nan")})
        run.stage("ppo").event("checkpoint", step=0, path=Path("checkpoints/step-00000000"))
        run.stage("ppo").rollouts(0, [{"rollout_id": "a"}])
        run.stage("ppo").rollouts(1, [{"rollout_id": "b"}])
    return tmp_path / "run"


def test_stages_come_in_the_order_in_which_they_run(run_dir: Path) -> None:
    assert list(read_run(run_dir).stages) == ["sft", "rm", "ppo", "eval", "zzz"]


def test_what_is_there_is_read(run_dir: Path) -> None:
    (run_dir / "summary.json").write_text('{"verdict": "ok", "kl": {"per_sequence": NaN}}')
    log = read_run(run_dir)
    assert log.config == {"a": 1}
    assert log.lineage == {}
    assert np.isnan(log.summary["kl"]["per_sequence"])
    assert log.notes == []
    (event,) = log.stages["ppo"].events
    assert (event["kind"], event["step"], event["path"]) == ("checkpoint", 0, "checkpoints/step-00000000")


def test_every_prefix_of_a_metrics_file_is_readable(run_dir: Path) -> None:
    file = run_dir / "stages/ppo/metrics.jsonl"
    metrics = {"kl/coef/value": 0.0, "score/reward_model/std": float("inf")}
    rows = [{"step": n, "time": 1.5, "metrics": metrics | {"kl/coef/value": n / 3}} for n in range(4)]
    lines = [json.dumps(row) for row in rows]
    whole = "".join(line + "\n" for line in lines).encode()
    previous = 0
    for size in range(len(whole) + 1):
        file.write_bytes(whole[:size])
        stage = read_run(run_dir).stages["ppo"]
        series = stage.metrics.get("kl/coef/value")
        count = 0 if series is None else len(series.steps)
        assert count in (previous, previous + 1)
        if series is not None:
            assert series.values.tolist() == [n / 3 for n in range(count)]
        assert len(stage.notes) <= 1
        previous = count
    assert previous == 4


def test_lines_without_a_meaning_are_left_out_and_named(run_dir: Path) -> None:
    rows = [
        '{"step": 1, "metrics": {"kl/coef/value": 0.5}}',
        "garbage",
        '{"step": 2}',
        '{"step": "3", "metrics": {}}',
        '{"step": true, "metrics": {}}',
        '{"step": 4, "metrics": {"kl/coef/value": null, "loss/total/mean": "high", "made/up/mean": 7}}',
        '{"step": 5, "metrics": {"kl/coef/value": 1' + "0" * 400 + ', "optim/early_stopped/flag": true}}',
        '{"step": 6, "metrics": {"kl/coef/value": NaN}}',
        '{"step": 7, "met',
    ]
    (run_dir / "stages/ppo/metrics.jsonl").write_text("\n".join(rows))
    stage = read_run(run_dir).stages["ppo"]
    series = stage.metrics["kl/coef/value"]
    assert series.steps.tolist() == [1, 6]  # null is not NaN
    assert np.isnan(series.times).all()
    assert stage.metrics["made/up/mean"].values.tolist() == [7.0]
    assert "loss/total/mean" not in stage.metrics
    assert stage.notes == [
        "metrics.jsonl: 1 unreadable line(s) left out (line 2).",
        "metrics.jsonl: the last line is torn and was left out.",
        "metrics.jsonl: 3 line(s) without step and metrics left out (line 3).",
        "metrics.jsonl: kl/coef/value is not a number (line 6) and was left out.",
        "metrics.jsonl: loss/total/mean is not a number (line 6) and was left out.",
        "metrics.jsonl: optim/early_stopped/flag is not a number (line 7) and was left out.",
        "metrics.jsonl: made/up/mean is not a metric of this version.",
    ]


def test_two_calls_for_one_step_are_one_step(tmp_path: Path) -> None:
    with RunWriter(tmp_path, config={}, seed=0, argv=[]) as run:
        run.stage("sft").log(5, {"loss/sft/mean": 1.0})
        run.stage("sft").log(5, {"loss/sft_eval/mean": 2.0})
    stage = read_run(tmp_path).stages["sft"]
    assert stage.metrics["loss/sft/mean"].steps.tolist() == [5]
    assert stage.metrics["loss/sft_eval/mean"].values.tolist() == [2.0]
    assert stage.notes == []


def test_a_damaged_rollout_file_is_left_out_with_one_note(run_dir: Path) -> None:
    folder = run_dir / "stages/ppo/rollouts"
    (folder / "step-00000000.parquet").write_bytes(b"PAR1 broken")
    (folder / ".step-00000002.parquet.17.tmp").write_bytes(b"half")
    (folder / "mine.parquet").write_bytes(b"")
    stage = read_run(run_dir).stages["ppo"]
    assert stage.rollout_steps == [0, 1]
    for _ in range(2):
        assert stage.rollouts().column("rollout_id").to_pylist() == ["b"]
    assert len(stage.notes) == 1
    assert stage.notes[0].startswith("rollouts/step-00000000.parquet is unreadable")


def test_a_run_without_config_or_with_a_broken_summary_is_read_with_notes(run_dir: Path) -> None:
    (run_dir / "config.yaml").unlink()
    (run_dir / "summary.json").write_text("{")
    log = read_run(run_dir)
    assert (log.config, log.summary) == ({}, {})
    assert log.notes == ["config.yaml is missing.", "summary.json is unreadable and was left out."]


def test_reading_does_not_need_the_lock(tmp_path: Path) -> None:
    with RunWriter(tmp_path, config={}, seed=0, argv=[]) as run:
        run.stage("sft").log(0, {"loss/sft/mean": 1.0})
        assert read_run(tmp_path).stages["sft"].metrics["loss/sft/mean"].values.tolist() == [1.0]


@pytest.mark.parametrize("case", ["absent", "file", "empty", "damaged"])
def test_what_is_not_a_run_is_an_error_with_advice(tmp_path: Path, case: str) -> None:
    path = tmp_path / "x"
    if case == "file":
        path.write_text("")
    elif case != "absent":
        path.mkdir()
    if case == "damaged":
        (path / "run.json").write_text("[")
    with pytest.raises(RunLogError, match=r"\. .*--out\.$"):
        read_run(path)
