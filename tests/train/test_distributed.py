"""torchrun: one and two processes, the same global batch, the same losses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import MICRO, metric_rows, micro_run

SETS = [word for override in MICRO for word in ("--set", override)]


@pytest.mark.parametrize("stage,key", [("sft", "loss/sft/mean"), ("rm", "loss/rm/mean"), ("ppo", "loss/total/mean")])
def test_two_processes_give_the_losses_of_one(micro: Path, two: Path, stage: str, key: str) -> None:
    one_rows, two_rows = metric_rows(micro, stage), metric_rows(two, stage)
    assert [two_rows[s][key] for s in range(1, 6)] == pytest.approx([one_rows[s][key] for s in range(1, 6)], abs=1e-5)


def test_two_processes_train_a_value_model_of_its_own_as_one_does(micro: Path, tmp_path: Path) -> None:
    """The processes add up gradients of one model after the other."""
    sets = ["--set", "ppo.value_model=separate", "--from", str(micro)]
    assert micro_run(tmp_path / "one", *sets).returncode == 0
    rows, two_rows = metric_rows(tmp_path / "one", "ppo"), metric_rows(in_two(tmp_path / "two", *sets), "ppo")
    for key in ("loss/policy/mean", "loss/value/mean", "optim/grad_norm/last", "optim/grad_norm_value/last"):
        assert [two_rows[s][key] for s in range(1, 6)] == pytest.approx([rows[s][key] for s in range(1, 6)], abs=1e-4)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return in_two(tmp_path_factory.mktemp("two") / "run")


def in_two(out: Path, *more: str) -> Path:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
            *("-m", "regard.cli.main", "run", "tiny", *SETS, "--out", str(out), *more),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return out
