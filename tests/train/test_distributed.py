"""torchrun: one and two processes, the same global batch, the same losses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import MICRO, metric_rows

SETS = [word for override in MICRO for word in ("--set", override)]


@pytest.mark.parametrize("stage,key", [("sft", "loss/sft/mean"), ("rm", "loss/rm/mean"), ("ppo", "loss/total/mean")])
def test_two_processes_give_the_losses_of_one(micro: Path, two: Path, stage: str, key: str) -> None:
    one_rows, two_rows = metric_rows(micro, stage), metric_rows(two, stage)
    assert [two_rows[s][key] for s in range(1, 6)] == pytest.approx([one_rows[s][key] for s in range(1, 6)], abs=1e-5)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("two") / "run"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
            *("-m", "regard.cli.main", "run", "tiny", *SETS, "--out", str(out)),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return out
