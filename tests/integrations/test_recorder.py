"""Our record out of another loop: what the three calls write, and what a review reads of it."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli.test_core_without_torch import BLOCKER

from regard.errors import ConfigError, DataError, RunLogError
from regard.integrations import Recorder
from regard.review import review
from regard.runlog.reader import RunLog, StageLog, read_run


def events(log: StageLog, kind: str) -> list[dict[str, Any]]:
    return [event for event in log.events if event["kind"] == kind]


def only(run: RunLog) -> StageLog:
    (log,) = run.stages.values()
    return log


def test_five_lines_make_a_run_that_a_review_reads(tmp_path: Path) -> None:
    with Recorder(tmp_path / "run", stage="grpo", source="trl-grpo", config={"beta": 0.04}, seed=3) as recorder:
        for step in range(30):
            recorder.log_step(step, {"kl": 0.1 * step, "entropy": 2.0})
            recorder.log_rollouts(step, [{"prompt": "a", "response": "b", "score": 1.0}])
        recorder.log_event("checkpoint", step=29, path=Path("c"))
    run = read_run(tmp_path / "run")
    log = only(run)
    assert run.run["seed"] == 3 and run.run["source"] == "trl-grpo" and run.config == {"beta": 0.04}
    assert run.run["stages"]["grpo"]["status"] == "done"
    assert log.rollout_steps == list(range(30)) and events(log, "checkpoint")[0]["path"] == "c"
    assert [(f.detector.code, f.stage, f.severity) for f in review(run).findings] == [("KL001", "grpo", "error")]


def test_keys_of_ours_of_the_source_and_of_the_mapping(tmp_path: Path) -> None:
    mapping = {"my/len": "length/response_tokens/mean"}
    recorder = Recorder(tmp_path, source="trl-rloo", mapping=mapping)
    recorder.log_step(1, {"kl": 0.5, "my/len": 9, "kl/coef/value": 0.1, "nested": {"reward": 2.0}, "train/reward": 3.0})
    recorder.close()
    values = {key: float(series.values[0]) for key, series in only(read_run(tmp_path)).metrics.items()}
    assert values == {
        "kl/policy_ref_k1/token_mean": 0.5,
        "length/response_tokens/mean": 9.0,
        "kl/coef/value": 0.1,
        "score/reward_model/mean": 3.0,
    }


def test_what_is_not_understood_is_kept_and_listed_once(tmp_path: Path) -> None:
    with Recorder(tmp_path, source="trl-grpo") as recorder:
        for step in range(3):
            recorder.log_step(step, {"secret/number": 4.0, "epoch": 0.5, "kl": "high", "entropy": None, "reward": 1.0})
    lines = [json.loads(line) for line in (tmp_path / "stages/grpo/metrics.jsonl").read_text().splitlines()]
    assert [line["other"] for line in lines] == [{"secret/number": 4.0, "epoch": 0.5, "kl": "high"}] * 3
    log = only(read_run(tmp_path))
    assert set(log.metrics) == {"score/reward_model/mean"}
    assert [event["keys"] for event in events(log, "unknown_keys")] == [["secret/number"]]
    assert any("1 key(s) are not understood: secret/number." in note for note in log.notes)
    assert [event["keys"] for event in events(log, "not_numbers")] == [["kl"]]


def test_a_bare_kl_is_of_unknown_unit(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder:
        for step in range(30):
            recorder.log_step(step, {"kl": 8.0})
    result = review(read_run(tmp_path))
    assert result.findings == () and "KL001" in {one.detector.code for one in result.not_checked}


def test_numbers_of_any_library_and_those_that_are_none(tmp_path: Path) -> None:
    with Recorder(tmp_path, source="trl-ppo", config={"kl_estimator": "k3"}) as recorder:
        recorder.log_step(np.int64(7), {"objective/kl": np.float32(1.5), "objective/scores": np.array([2.0])})
        recorder.log_step(8, {"objective/kl": math.nan, "objective/scores": math.inf, "lr": np.zeros(3)})
    log = only(read_run(tmp_path))
    kl, score = log.metrics["kl/policy_ref_k3/seq_sum"], log.metrics["score/reward_model/mean"]
    assert list(kl.steps) == [7, 8] and kl.values[0] == 1.5 and math.isnan(kl.values[1])
    assert list(score.values) == [2.0, math.inf]
    assert "optim/learning_rate/last" not in log.metrics and events(log, "not_numbers")[0]["keys"] == ["lr"]


def test_rollouts_of_a_step_are_put_together_and_nothing_of_them_is_lost(tmp_path: Path) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}]
    with Recorder(tmp_path, stage="grpo") as recorder:
        recorder.log_rollouts(4, [{"prompt": messages, "completion": [{"role": "assistant", "content": "Hi"}]}])
        row = {"prompt": "p", "response": "r", "reward": np.float32(0.5), "tokens": np.array([5, 6]), "source_row": 12}
        recorder.log_rollouts(4, [row])
        recorder.log_rollouts(5, [{"prompt": "p", "response": "s"}])
    log = only(read_run(tmp_path))
    first, second, third = log.rollouts().to_pylist()
    assert first["prompt"] == "system: Be brief.\nuser: Hello?" and first["response"] == "Hi"
    assert (second["score"], second["tokens"], second["length"]) == (0.5, [5, 6], 2)
    assert json.loads(second["extra"]) == {"source_row": 12}
    assert second["prompt_id"] == third["prompt_id"] != first["prompt_id"]
    assert len({row["rollout_id"] for row in (first, second, third)}) == 3
    assert events(log, "unknown_columns")[0]["keys"] == ["source_row"]


def test_a_rollout_that_does_not_fit_is_one_sentence(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder:
        recorder.log_rollouts(1, [{"response": "r"}])
        with pytest.raises(DataError, match="step 1 does not fit"):
            recorder.log_rollouts(1, [{"response": "r", "score": "good"}])
            recorder.flush()
        recorder.log_rollouts(1, [{"response": "s"}])
    assert only(read_run(tmp_path)).rollouts(1)["response"].to_pylist() == ["r", "s"]


def test_resumed_run_repeats_steps_and_names_what_changed(tmp_path: Path) -> None:
    with Recorder(tmp_path, source="trl-grpo", config={"beta": 0.04, "lr": 1e-4}, seed=1) as recorder:
        for step in range(10):
            recorder.log_step(step, {"reward": 1.0})
            recorder.log_rollouts(step, [{"response": "old"}])
    with pytest.raises(RunLogError, match="resume=True, or choose another directory as `out`"):
        Recorder(tmp_path, source="trl-grpo")
    changed = {"beta": 0.1, "lr": 1e-4, "nested": {"new": [1]}}
    with Recorder(tmp_path, source="trl-grpo", config=changed, seed=1, resume=True) as recorder:
        for step in range(6, 12):
            recorder.log_step(step, {"reward": 2.0})
            recorder.log_rollouts(step, [{"response": "new"}])
    run = read_run(tmp_path)
    log = only(run)
    assert list(log.metrics["score/reward_model/mean"].values) == [1.0] * 6 + [2.0] * 6
    assert log.rollouts()["response"].to_pylist() == ["old"] * 6 + ["new"] * 6
    assert len(run.run["sessions"]) == 2 and len(events(log, "resume")) == 1
    (event,) = events(log, "config_change")
    assert event["changes"] == [
        {"key": "beta", "from": 0.04, "to": 0.1},
        {"key": "nested.new", "from": None, "to": [1]},
    ]


def test_rows_are_recorded_as_they_were_when_logged(tmp_path: Path) -> None:
    tokens, scores, rows = np.array([1, 2]), [0.5], []
    with Recorder(tmp_path) as recorder:
        for step in range(20):  # more than wait in the queue
            rows[:] = [{"response": "r", "tokens": tokens, "history": scores}]
            recorder.log_rollouts(step, rows)
            tokens += 1
            scores[0] += 1
            rows[0]["response"] = "changed"
    table = only(read_run(tmp_path)).rollouts()
    assert table["tokens"].to_pylist() == [[1 + step, 2 + step] for step in range(20)]
    assert set(table["response"].to_pylist()) == {"r"}
    assert [json.loads(text)["history"] for text in table["extra"].to_pylist()] == [[0.5 + step] for step in range(20)]


def test_a_failed_loop_is_recorded_as_failed(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Recorder(tmp_path) as recorder:
        recorder.log_step(0, {"kl": 1 / 0})
    assert read_run(tmp_path).run["stages"]["ppo"]["status"] == "failed"


def test_a_record_that_cannot_be_written_ends_itself_and_not_the_training(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "run")
    recorder.log_step(0, {"kl": 1.0})
    (tmp_path / "run/stages/ppo/rollouts").write_text("in the way")
    with pytest.warns(RuntimeWarning, match="no longer recorded"):
        recorder.log_rollouts(1, [{"response": "r"}])
        recorder.flush()
    recorder.log_step(1, {"kl": 1.0})
    assert not recorder.active
    recorder.close()
    assert list(only(read_run(tmp_path / "run")).metrics["kl/policy_ref_unknown/unknown"].steps) == [0]


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    with Recorder(tmp_path / "run", rank=1) as recorder:
        recorder.log_step(0, {"kl": 1.0})
        recorder.log_rollouts(0, [{"response": "r"}])
        recorder.log_event("checkpoint")
    assert not (tmp_path / "run").exists()


def test_wrong_names_are_answered_with_near_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean trl-grpo"):
        Recorder(tmp_path, source="trl-grpoo")
    with pytest.raises(ConfigError, match="Did you mean kl/policy_ref_k1/seq_sum"):
        Recorder(tmp_path, mapping={"x": "kl/policy_ref_k1/seq_sm"})
    assert not (tmp_path / "run.json").exists()


def test_recorder_needs_neither_torch_nor_transformers(tmp_path: Path) -> None:
    """In a process where both cannot be imported."""
    code = BLOCKER.partition("from regard.cli.main")[0] + (
        "from regard.integrations import Recorder\n"
        "with Recorder(sys.argv[1], source='verl') as r: r.log_step(1, {'critic/score/mean': 1.0})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, env={**os.environ}, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert only(read_run(tmp_path)).metrics["score/reward_model/mean"].values[0] == 1.0
