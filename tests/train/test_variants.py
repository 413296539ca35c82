"""The other ways to put stage 4 together, each run for real."""

import statistics
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from support import MICRO, metric_rows, micro_run, read_json, regard

from regard.models.in_file import InFile
from regard.train import ppo

VARIANTS = {
    "separate value model": ["ppo.value_model=separate"],
    "adapters on one backbone": ["model.lora_rank=2", "ppo.learning_rate=0.01"],
    "adapters on the last block": ["model.lora_rank=2", "ppo.lora_layers=1", "ppo.learning_rate=0.01"],
    "bfloat16 backbone": ["model.lora_rank=2", "model.dtype=bfloat16", "ppo.learning_rate=0.01"],
    "every weight in bfloat16": ["model.dtype=bfloat16", "ppo.value_model=separate"],
    "a2c, adaptive KL, temperature": [
        *("ppo.algorithm=a2c", "ppo.epochs=1", "ppo.kl_target=0.5", "ppo.temperature=0.8"),
        *("ppo.kl_horizon=50", "ppo.entropy_coef=0.01"),
    ],
    "grpo": ["ppo.algorithm=grpo", "ppo.group_size=4"],
    "rloo, on adapters": ["ppo.algorithm=rloo", "ppo.group_size=4", "model.lora_rank=2", "ppo.learning_rate=0.01"],
}


SLOW = {"bfloat16 backbone", "every weight in bfloat16"}  # a processor without bfloat16 puts each product together


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in VARIANTS]
)
def test_variant_runs_with_frozen_parts_frozen(micro: Path, tmp_path: Path, name: str) -> None:
    sets = [word for override in VARIANTS[name] for word in ("--set", override)]
    done = micro_run(tmp_path / "run", *sets, "--from", str(micro))  # what a variant of stage 4 shares is taken over
    assert done.returncode == 0, done.stderr
    artifacts = read_json(tmp_path / "run/lineage.json")["artifacts"]
    assert {n: a["sha256_before"] == a["sha256_after"] for n, a in artifacts.items()} == {
        "policy": False,
        "value": "grpo" in name or "rloo" in name,
        "reference": True,
        "reward_model": True,
    }
    rows = metric_rows(tmp_path / "run", "ppo")
    assert abs(rows[0]["invariant/kl_ref/value"]) < (0.2 if "bfloat16" in name else 1e-4)
    answers = metric_rows(tmp_path / "run", "eval")
    assert answers[0]["eval/kl_k1/seq_sum"] == 0, "the SFT model is the reference"
    assert answers[1]["eval/kl_k1/seq_sum"] != 0
    if "grpo" in name or "rloo" in name:
        files = sorted((tmp_path / "run/stages/ppo/rollouts").glob("*.parquet"))
        responses = [row for file in files for row in pq.read_table(file).to_pylist()]
        for at in range(0, len(responses), 4):
            group = responses[at : at + 4]
            assert len({row["prompt_id"] for row in group}) == 1
            total = [sum(row["rewards"]) for row in group]
            scale = 1.0 if "rloo" in name else 3 / 4 / (statistics.stdev(total) + 1e-4)
            for i, row in enumerate(group):
                others = sum(total[:i] + total[i + 1 :]) / 3
                expected = [scale * (total[i] - others)] * row["length"]
                assert row["advantages"] == pytest.approx(expected, abs=2e-3)
        assert len({row["prompt_id"] for row in responses}) > 1
        assert not [key for row in rows.values() for key in row if key.startswith("value/")], "there is no value"
        assert "group/reward_std/mean" in rows[1]
    if "a2c" in name:
        coefs = [rows[step]["kl/coef/value"] for step in range(1, 6)]
        assert coefs[0] == 0.1 and coefs == sorted(coefs, reverse=True) and coefs[-1] < 0.1


def test_to_clear_up_between_phases_changes_no_bit(
    micro: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where many weights are trained: frozen models leave memory before each update."""
    left: list[int] = []
    leave = InFile.leave
    monkeypatch.setattr(InFile, "leave", lambda self: leave(self) or left.append(len(self.pages)))
    sets = [word for override in VARIANTS["separate value model"] for word in ("--set", override)]
    hashes: list[dict[str, str]] = []
    for many in (ppo.MANY_WEIGHTS, 0):
        monkeypatch.setattr(ppo, "MANY_WEIGHTS", many)
        out = tmp_path / str(many)
        assert micro_run(out, *sets, "--from", str(micro)).returncode == 0
        artifacts = read_json(out / "lineage.json")["artifacts"]
        hashes.append({name: artifact["sha256_after"] for name, artifact in artifacts.items()})
        assert len(left) == (0 if many else len(metric_rows(out, "ppo")) - 1)
    assert hashes[0] == hashes[1]
    assert left[0] > sum(path.stat().st_size for path in micro.glob("stages/[rs]*/final/model.safetensors")) * 0.9


def test_an_algorithm_has_a_command_that_goes_on_from_another_run(micro: Path, tmp_path: Path) -> None:
    sets = [word for override in MICRO for word in ("--set", override)]
    done = regard("train", "rloo", "tiny", *sets, "--out", str(tmp_path / "run"), "--from", str(micro))
    assert done.returncode == 0, done.stderr
    config = yaml.safe_load((tmp_path / "run/config.yaml").read_text())["ppo"]
    assert (config["algorithm"], config["group_size"], config["whiten_advantages"]) == ("rloo", 8, False)
    assert len(metric_rows(tmp_path / "run", "ppo")) == 6
