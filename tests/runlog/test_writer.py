"""The writer: round trip, locking, resuming, kill -9 and a full disk."""

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.errors import RunLogError
from regard.runlog.metrics import METRICS
from regard.runlog.reader import read_run
from regard.runlog.rollouts import COLUMNS
from regard.runlog.writer import RunWriter, first_difference

CONFIG = {"seed": 3, "ppo": {"kl_coef": 0.05, "layers": (1, 2), "path": Path("a/b"), "off": None}}
SRC = Path(__file__).parents[2] / "src"


def open_run(path: Path, **changes: Any) -> RunWriter:
    return RunWriter(path, **{"config": CONFIG, "seed": 3, "argv": ["regard", "run"], **changes})


def run_python(code: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


# ---- round trip


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.integers(0, 10**12),
        st.dictionaries(st.sampled_from(sorted(METRICS)), st.floats(allow_nan=True, allow_infinity=True), min_size=1),
        min_size=1,
        max_size=6,
    )
)
def test_every_float_survives_the_round_trip(tmp_path_factory: Any, logged: dict[int, dict[str, float]]) -> None:
    path = tmp_path_factory.mktemp("round")
    with open_run(path) as run:
        for step, metrics in logged.items():
            run.stage("ppo").log(step, metrics)
    read = read_run(path).stages["ppo"]
    assert read.notes == []
    for key in METRICS:
        expected = {step: metrics[key] for step, metrics in sorted(logged.items()) if key in metrics}
        if not expected:
            assert key not in read.metrics
            continue
        series = read.metrics[key]
        assert series.steps.tolist() == list(expected)
        np.testing.assert_array_equal(series.values, np.array(list(expected.values())))  # equal NaNs count as equal
        assert np.isfinite(series.times).all()


def test_run_json_and_config_say_what_ran(tmp_path: Path) -> None:
    with open_run(tmp_path / "run") as run:
        run.set_stage("sft", "running")
        run.set_stage("sft", "done", seconds=1.5, best=math.nan)
    text = (tmp_path / "run" / "run.json").read_text()
    record = json.loads(text)
    assert record["argv"] == ["regard", "run"]
    assert record["seed"] == 3
    assert record["packages"]["pyarrow"]
    assert record["hardware"]["cpus"] >= 1
    assert record["stages"]["sft"]["status"] == "done"
    assert record["stages"]["sft"]["seconds"] == 1.5
    assert math.isnan(record["stages"]["sft"]["best"])
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config == {"seed": 3, "ppo": {"kl_coef": 0.05, "layers": [1, 2], "path": "a/b", "off": None}}


def test_a_command_line_that_is_not_utf8_is_recorded(tmp_path: Path) -> None:
    with open_run(tmp_path, argv=["regard", os.fsdecode(b"caf\xe9"), "größer"]):
        pass
    assert read_run(tmp_path).run["argv"] == ["regard", "caf\udce9", "größer"]


def test_numpy_scalars_and_flags_become_floats(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        run.stage("ppo").log(np.int64(4), {"optim/early_stopped/flag": True, "kl/coef/value": np.float32(0.5)})  # type: ignore[arg-type]
    metrics = read_run(tmp_path).stages["ppo"].metrics
    assert metrics["optim/early_stopped/flag"].values.tolist() == [1.0]
    assert metrics["kl/coef/value"].values.tolist() == [0.5]
    assert metrics["kl/coef/value"].steps.tolist() == [4]


def test_an_undeclared_metric_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        with pytest.raises(RunLogError, match=r"The metric kl is not declared\."):
            run.stage("ppo").log(1, {"kl": 0.1, "kl/coef/value": 0.1})
        assert not (tmp_path / "stages").exists()


def test_each_line_is_on_disk_when_log_returns(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        for step in range(3):
            run.stage("sft").log(step, {"loss/sft/mean": 1.0})
            assert (tmp_path / "stages/sft/metrics.jsonl").read_bytes().count(b"\n") == step + 1


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    with open_run(tmp_path / "run", rank=1) as run:
        run.set_stage("ppo", "running")
        run.write_json("summary.json", {})
        run.stage("ppo").log(0, {"kl/coef/value": 1.0})
        run.stage("ppo").event("checkpoint")
        run.stage("ppo").rollouts(0, [])
        with pytest.raises(RunLogError):  # a wrong key fails on every rank alike
            run.stage("ppo").log(0, {"nonsense": 1.0})
    assert not (tmp_path / "run").exists()


# ---- rollouts


def a_row(rollout_id: object, **changes: Any) -> dict[str, Any]:
    return {
        "rollout_id": rollout_id,
        "step": 12,
        "policy_version": 1,
        "prompt_id": "p0",
        "prompt": "A film",
        "response": " of note",
        "prompt_tokens": [5, 6],
        "tokens": [7, 8, 0],
        "finished": True,
        "truncated": False,
        "score": 0.1,
        "gold": math.nan,
        "vader": None,
        "kl_sum": -math.inf,
        "length": 3,
        "logprobs": [-0.1, -0.2, math.nan],
        "ref_logprobs": [-1.0, -2.0, -3.0],
        "values": np.array([0.25, 0.5, 0.75], dtype=np.float32),
        "advantages": [1.0, 2.0, 3.0],
        "returns": [0.0, 0.0, 1.0],
        "rewards": [],
        **changes,
    }


def test_rollouts_keep_values_nulls_and_nan_apart(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        run.stage("ppo").rollouts(12, [a_row(1), {"rollout_id": "b", "score": 2.0}])
    files = list((tmp_path / "stages/ppo/rollouts").iterdir())
    assert [file.name for file in files] == ["step-00000012.parquet"]
    first, second = pq.read_table(files[0]).to_pylist()
    assert first["rollout_id"] == "1"
    assert first["score"] == 0.1  # float64
    assert first["logprobs"][:2] == [float(np.float32(-0.1)), float(np.float32(-0.2))]
    assert math.isnan(first["logprobs"][2])
    assert math.isnan(first["gold"])
    assert first["vader"] is None
    assert first["kl_sum"] == -math.inf
    assert first["rewards"] == []
    assert first["values"] == [0.25, 0.5, 0.75]
    assert second["step"] == 12
    assert second["tokens"] is None
    metadata = pq.ParquetFile(files[0]).metadata
    assert metadata.row_group(0).column(0).compression == "ZSTD"


def test_rollout_files_have_the_same_columns_whatever_the_rows_hold(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        run.stage("ppo").rollouts(1, [])
        run.stage("ppo").rollouts(2, [{"rollout_id": "a"}])
        run.stage("ppo").rollouts(12, [a_row("c")])
    tables = [pq.read_table(file) for file in sorted((tmp_path / "stages/ppo/rollouts").iterdir())]
    assert [table.column_names for table in tables] == [list(COLUMNS)] * 3
    assert tables[0].schema.equals(tables[1].schema)
    assert tables[1].schema.equals(tables[2].schema)
    stage = read_run(tmp_path).stages["ppo"]
    assert stage.rollout_steps == [1, 2, 12]
    assert stage.rollouts().column("rollout_id").to_pylist() == ["a", "c"]
    assert stage.rollouts(2).num_rows == 1
    assert stage.rollouts(3).num_rows == 0


def test_a_repeated_step_replaces_its_rollouts(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        run.stage("ppo").rollouts(1, [{"rollout_id": "old"}])
        run.stage("ppo").rollouts(1, [{"rollout_id": "new"}])
    assert read_run(tmp_path).stages["ppo"].rollouts().column("rollout_id").to_pylist() == ["new"]


def test_a_rollout_column_that_is_not_declared_is_our_bug(tmp_path: Path) -> None:
    with open_run(tmp_path) as run, pytest.raises(AssertionError, match="reward_total"):
        run.stage("ppo").rollouts(1, [{"reward_total": 1.0}])


# ---- who may write


def test_a_run_in_use_is_refused_by_the_pid_of_its_writer(tmp_path: Path) -> None:
    code = "import sys; from regard.runlog.writer import RunWriter\n"
    code += "w = RunWriter(sys.argv[1], config={}, seed=0, argv=[]); print('ready', flush=True); sys.stdin.read()"
    holder = run_python(code, tmp_path, stdin=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "ready\n"
    with pytest.raises(RunLogError, match=rf"is in use by process {holder.pid}\. Wait for it to end, or .* --out\."):
        RunWriter(tmp_path, config={}, seed=0, argv=[], resume=True)
    holder.communicate("")
    RunWriter(tmp_path, config={}, seed=0, argv=[], resume=True).close()


def test_the_lock_also_holds_within_one_process_and_ends_with_close(tmp_path: Path) -> None:
    run = open_run(tmp_path)
    with pytest.raises(RunLogError, match=f"process {os.getpid()}"):
        open_run(tmp_path, resume=True)
    run.close()
    run.close()
    open_run(tmp_path, resume=True).close()


def test_a_forked_child_that_outlives_the_writer_does_not_keep_the_lock(tmp_path: Path) -> None:
    code = """
        import os, signal, sys, time
        from regard.runlog.writer import RunWriter
        run = RunWriter(sys.argv[1], config={}, seed=0, argv=[])
        if os.fork() == 0:
            print(os.getpid(), flush=True)
            time.sleep(60)
        signal.pause()
    """
    writer = run_python(code, tmp_path)
    assert writer.stdout is not None
    child = int(writer.stdout.readline())  # from the child itself, which has then done what it does first
    try:
        with pytest.raises(RunLogError, match="in use"):
            RunWriter(tmp_path, config={}, seed=0, argv=[], resume=True)
        writer.kill()
        writer.wait()
        RunWriter(tmp_path, config={}, seed=0, argv=[], resume=True).close()
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_finished_run_is_not_overwritten(tmp_path: Path) -> None:
    open_run(tmp_path).close()
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(RunLogError, match=r"already holds a run\. Continue it with --resume, or .* --out\."):
        open_run(tmp_path)
    assert (tmp_path / "run.json").read_bytes() == before


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_path_that_cannot_be_a_directory_is_an_error_not_a_traceback(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunLogError, match="could not be written"):
        open_run(tmp_path / name)


# ---- resuming


def test_resuming_appends_and_keeps_the_identity(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        run_id = run.id
        assert not run.resumed
        for step in range(4):
            run.stage("ppo").log(step, {"kl/coef/value": float(step)})
        run.set_stage("ppo", "running", note="kept")
    with open_run(tmp_path, resume=True, argv=["regard", "run", "--resume"]) as run:
        assert run.resumed
        assert run.id == run_id
        assert run.stage_status("ppo") == "running"
        for step in range(2, 6):
            run.stage("ppo").log(step, {"kl/coef/value": 10.0 + step})
        run.set_stage("ppo", "done")
    log = read_run(tmp_path)
    assert log.stages["ppo"].metrics["kl/coef/value"].steps.tolist() == [0, 1, 2, 3, 4, 5]
    assert log.stages["ppo"].metrics["kl/coef/value"].values.tolist() == [0, 1, 12, 13, 14, 15]
    assert log.stages["ppo"].notes == [
        "metrics.jsonl: 2 step(s) from 2 to 3 were logged twice, as a resumed run does; the last was kept."
    ]
    assert log.run["argv"] == ["regard", "run"]
    assert [session["argv"][2:] for session in log.run["sessions"]] == [[], ["--resume"]]
    assert log.run["stages"]["ppo"]["note"] == "kept"


def test_resume_without_a_run_begins_one(tmp_path: Path) -> None:
    with open_run(tmp_path / "new", resume=True) as run:
        assert not run.resumed


@pytest.mark.parametrize(
    ("config", "seed", "message"),
    [
        ({**CONFIG, "ppo": {**CONFIG["ppo"], "kl_coef": 0.1}}, 3, "ppo.kl_coef was 0.05 and is now 0.1"),  # type: ignore[dict-item]
        ({**CONFIG, "ppo": {**CONFIG["ppo"], "layers": (1, 3)}}, 3, r"ppo.layers was \[1, 2\] and is now \[1, 3\]"),  # type: ignore[dict-item]
        ({**CONFIG, "extra": 1}, 3, "extra was absent and is now 1"),
        ({"ppo": CONFIG["ppo"]}, 3, "seed was 3 and is now absent"),
        (CONFIG, 4, "seed was 3 and is now 4"),
    ],
)
def test_resuming_with_another_config_names_the_first_difference(
    tmp_path: Path, config: dict[str, Any], seed: int, message: str
) -> None:
    open_run(tmp_path).close()
    with pytest.raises(RunLogError, match=message):
        open_run(tmp_path, resume=True, config=config, seed=seed)
    open_run(tmp_path, resume=True).close()  # the refusal released the lock


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.text(), PLAIN, max_size=4))
def test_any_plain_config_can_be_resumed(tmp_path_factory: Any, config: dict[str, Any]) -> None:
    path = tmp_path_factory.mktemp("config")
    open_run(path, config=config).close()
    open_run(path, config=config, resume=True).close()


def test_first_difference_tells_one_from_true_and_one_point_zero() -> None:
    assert first_difference({"a": {"b": [1, math.nan]}}, {"a": {"b": [1, math.nan]}}) is None
    assert first_difference({"a": 1}, {"a": True}) == ("a", 1, True)
    assert first_difference({"a": 1}, {"a": 1.0}) == ("a", 1, 1.0)
    assert first_difference({"a": None}, {}) is not None


@pytest.mark.parametrize("content", [b"", b"{", b'"text"', b"{}", b"\xff"])
def test_a_damaged_run_json_cannot_be_resumed(tmp_path: Path, content: bytes) -> None:
    open_run(tmp_path).close()
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(RunLogError, match="cannot be resumed"):
        open_run(tmp_path, resume=True)


def test_a_torn_line_is_cut_off_before_appending(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        run.stage("ppo").log(0, {"kl/coef/value": 0.0})
    file = tmp_path / "stages/ppo/metrics.jsonl"
    with file.open("ab") as handle:
        handle.write(b'{"step": 1, "time": 1.0, "metr')
    with open_run(tmp_path, resume=True) as run:
        run.stage("ppo").log(1, {"kl/coef/value": 1.0})
    log = read_run(tmp_path).stages["ppo"]
    assert log.notes == []
    assert log.metrics["kl/coef/value"].values.tolist() == [0.0, 1.0]
    assert [event["kind"] for event in log.events] == ["warning"]
    assert "30 bytes was cut off" in log.events[0]["message"]


def test_kill_9_loses_nothing_that_was_logged(tmp_path: Path) -> None:
    code = """
        import sys
        from regard.runlog.writer import RunWriter
        run = RunWriter(sys.argv[1], config={"a": 1}, seed=0, argv=[])
        stage = run.stage("ppo")
        for step in range(10**9):
            stage.log(step, {"kl/coef/value": float(step)})
            stage.rollouts(step % 3, [{"rollout_id": str(step), "tokens": list(range(50))}])
            run.set_stage("ppo", "running", step=step)
            print(step, flush=True)
    """
    for _ in range(3):
        run_dir = tmp_path / str(_)
        writer = run_python(code, run_dir)
        assert writer.stdout is not None
        seen = [int(writer.stdout.readline()) for _ in range(5)][-1]
        writer.kill()
        seen = max([seen, *map(int, writer.stdout.read().split("\n")[:-1])])  # what it still said before it died
        writer.wait()
        log = read_run(run_dir)
        steps = log.stages["ppo"].metrics["kl/coef/value"].steps.tolist()
        assert steps == list(range(len(steps)))
        assert seen + 1 <= len(steps) <= seen + 2
        assert log.run["stages"]["ppo"]["step"] in (seen, seen + 1)
        assert log.stages["ppo"].rollouts().num_rows == 3
        with RunWriter(run_dir, config={"a": 1}, seed=0, argv=[], resume=True) as run:
            run.stage("ppo").log(len(steps), {"kl/coef/value": 0.0})
        assert len(read_run(run_dir).stages["ppo"].metrics["kl/coef/value"].steps) == len(steps) + 1


# ---- a full disk


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(mount)]
    try:
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a small file system needs root")
    yield mount
    subprocess.run(["umount", "--lazy", str(mount)], check=True)


def test_a_full_disk_leaves_a_record_that_can_be_resumed(tiny_disk: Path) -> None:
    path = tiny_disk / "run"
    metrics = {key: 0.123456789 for key in METRICS}
    run = open_run(path)
    logged = 0
    with pytest.raises(RunLogError, match=r"The disk is full: .*metrics\.jsonl .* continue with --resume\."):
        for _ in range(10_000):
            run.stage("ppo").log(logged, metrics)
            logged += 1
    assert logged > 5
    with pytest.raises(RunLogError, match="The disk is full"):
        run.stage("ppo").rollouts(0, [a_row("a", step=0, response="".join(map(chr, range(300, 30_000))))])
    assert list((path / "stages/ppo/rollouts").iterdir()) == []
    run.close()

    log = read_run(path)
    assert log.stages["ppo"].notes == []
    assert log.stages["ppo"].metrics["kl/coef/value"].steps.tolist() == list(range(logged))
    subprocess.run(["mount", "-o", "remount,size=2000k", str(tiny_disk)], check=True)
    with open_run(path, resume=True) as run:
        run.stage("ppo").log(logged, metrics)
    assert len(read_run(path).stages["ppo"].metrics["kl/coef/value"].steps) == logged + 1


def test_a_full_device_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    with open_run(tmp_path) as run:
        stage = tmp_path / "stages/ppo"
        stage.mkdir(parents=True)
        (stage / "metrics.jsonl").symlink_to("/dev/full")
        with pytest.raises(RunLogError, match="The disk is full"):
            run.stage("ppo").log(0, {"kl/coef/value": 0.0})


# ---- sinks


class Recorder:
    def __init__(self, fail_at: int | None = None) -> None:
        self.seen: list[tuple[str, int, dict[str, float]]] = []
        self.fail_at = fail_at
        self.closed = False

    def log(self, stage: str, step: int, metrics: Any) -> None:
        if step == self.fail_at:
            raise ConnectionError("no route")
        self.seen.append((stage, step, dict(metrics)))

    def close(self) -> None:
        self.closed = True


def test_a_sink_gets_each_step_and_one_that_fails_does_not_stop_the_run(tmp_path: Path) -> None:
    good, bad = Recorder(), Recorder(fail_at=1)
    with open_run(tmp_path, sinks=[bad, good]) as run:
        for step in range(3):
            run.stage("sft").log(step, {"loss/sft/mean": float(step)})
    assert good.seen == [("sft", step, {"loss/sft/mean": float(step)}) for step in range(3)]
    assert good.closed
    assert [step for _, step, _ in bad.seen] == [0]
    log = read_run(tmp_path).stages["sft"]
    assert log.metrics["loss/sft/mean"].steps.tolist() == [0, 1, 2]
    assert log.events[0]["message"] == "Recorder failed and was dropped: no route"
