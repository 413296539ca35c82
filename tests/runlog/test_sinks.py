"""Sinks and the TensorBoard exporter, read back with TensorBoard's own reader; and no torch anywhere."""

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from regard.errors import RunLogError
from regard.runlog.sinks import TensorBoardSink, TrackioSink, WandbSink, export_tensorboard
from regard.runlog.writer import RunWriter

SRC = Path(__file__).parents[2] / "src"

BLOCK = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
"""


def run_blocked(code: str, *blocked: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    script = BLOCK.format(blocked=set(blocked)) + code
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    return subprocess.run([sys.executable, "-c", script], env=environment, cwd=cwd, capture_output=True, text=True)


def scalars(directory: Path) -> dict[str, list[tuple[int, float, float]]]:
    accumulator: Any = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(directory), size_guidance={"scalars": 0})
    events.Reload()
    return {
        tag: [(event.step, event.value, event.wall_time) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_tensorboard_reads_what_the_sink_wrote(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    with RunWriter(tmp_path / "run", config={}, seed=0, argv=[], sinks=[TensorBoardSink(tmp_path / "tb")]) as run:
        for step in range(3):
            run.stage("ppo").log(step, {"kl/coef/value": step / 4, "score/reward_model/std": math.inf})
            read = scalars(tmp_path / "tb/ppo")["kl/coef/value"]  # each step is on disk when log returns
            assert [(s, v) for s, v, _ in read] == [(s, s / 4) for s in range(step + 1)]
        run.stage("sft").log(7, {"loss/sft/mean": math.nan})
    assert [value for _, value, _ in scalars(tmp_path / "tb/ppo")["score/reward_model/std"]] == [math.inf] * 3
    ((step, value, _),) = scalars(tmp_path / "tb/sft")["loss/sft/mean"]
    assert step == 7
    assert math.isnan(value)


def test_export_keeps_steps_values_and_times_of_a_resumed_run(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    with RunWriter(tmp_path / "run", config={}, seed=0, argv=[]) as run:
        run.stage("ppo").log(0, {"kl/coef/value": 0.5})
    file = tmp_path / "run/stages/ppo/metrics.jsonl"
    lines = [
        '{"step": 1, "time": 1000.25, "metrics": {"kl/coef/value": 0.25}}',
        '{"step": 2, "time": 1001.0, "metrics": {"kl/coef/value": 9.0, "ratio/old_new/mean": 1.0}}',
        '{"step": 2, "time": 1002.0, "metrics": {"kl/coef/value": 0.125, "ratio/old_new/mean": 1.5}}',
    ]
    file.write_text("\n".join(lines) + "\n")
    assert export_tensorboard(tmp_path / "run", tmp_path / "tb") == 3
    assert scalars(tmp_path / "tb/ppo") == {
        "kl/coef/value": [(1, 0.25, 1000.25), (2, 0.125, 1002.0)],
        "ratio/old_new/mean": [(2, 1.5, 1002.0)],
    }


def test_the_record_and_tensorboard_work_without_torch_transformers_and_tensorflow(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    code = """
import pkgutil, regard.runlog
from importlib import import_module
for module in pkgutil.walk_packages(regard.runlog.__path__, "regard.runlog."):
    import_module(module.name)
from regard.runlog import RunWriter, read_run
from regard.runlog.sinks import TensorBoardSink, export_tensorboard
with RunWriter("run", config={}, seed=0, argv=[], sinks=[TensorBoardSink("tb")]) as run:
    run.stage("ppo").log(0, {"kl/coef/value": 1.0})
    run.stage("ppo").rollouts(0, [{"rollout_id": "a"}])
assert read_run("run").stages["ppo"].rollouts().num_rows == 1
assert export_tensorboard("run", "tb2") == 1
assert not {"torch", "transformers", "tensorflow"} & set(sys.modules)
"""
    done = run_blocked(code, "torch", "transformers", "tensorflow", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("package", "make", "extra"),
    [
        ("tensorboard", "TensorBoardSink('tb')", "tb"),
        ("wandb", "WandbSink(project='p', name='n', config={})", "wandb"),
        ("trackio", "TrackioSink(project='p', name='n', config={})", "trackio"),
    ],
)
def test_a_missing_package_is_an_error_that_says_what_to_install(
    tmp_path: Path, package: str, make: str, extra: str
) -> None:
    code = f"""
from regard.errors import RunLogError
from regard.runlog.sinks import TensorBoardSink, TrackioSink, WandbSink
try:
    {make}
except RunLogError as error:
    print(error)
"""
    done = run_blocked(code, package, cwd=tmp_path)
    assert done.stdout == f"{package} is not installed. Type: pip install 'regard[{extra}]'\n", done.stderr


def test_wandb_offline_gets_every_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    sink = WandbSink(project="regard", name="run", config={"a": 1}, run_id="r1")
    sink.log("sft", 0, {"loss/sft/mean": 1.0})
    sink.log("ppo", 0, {"kl/coef/value": 0.5})
    assert sink._run.summary["ppo/kl/coef/value"] == 0.5
    sink.close()
    assert list((tmp_path / "wandb").glob("offline-run-*-r1"))


def test_trackio_gets_every_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    pytest.importorskip("trackio")
    sink = TrackioSink(project="regard", name="run", config={"a": 1})
    sink.log("ppo", 3, {"kl/coef/value": 0.5})
    sink.close()
    assert list(tmp_path.rglob("*"))


def test_a_foreign_error_of_tensorboard_is_not_taken_for_a_missing_package(tmp_path: Path) -> None:
    with pytest.raises(RunLogError, match="not a directory"):
        export_tensorboard(tmp_path / "nowhere", tmp_path / "tb")
