"""A run may begin where another left off, and only as far as both would have done the same."""

from pathlib import Path

from support import micro_run, read_json


def weights(run: Path) -> dict[str, str]:
    return {name: part["sha256_after"] for name, part in read_json(run / "lineage.json")["artifacts"].items()}


def adopted(run: Path) -> list[str]:
    return [name for name, facts in read_json(run / "run.json")["stages"].items() if "adopted_from" in facts]


def test_same_configuration_from_adopted_stages_ends_in_the_same_weights(micro: Path, tmp_path: Path) -> None:
    done = micro_run(tmp_path / "fork", "--from", str(micro), "--sink", "tensorboard")
    assert done.returncode == 0, done.stderr
    assert adopted(tmp_path / "fork") == ["pretrain", "sft", "rm"]
    assert weights(tmp_path / "fork") == weights(micro)
    assert list((tmp_path / "fork/tensorboard/ppo").glob("events.out.tfevents.*"))


def test_only_stages_before_the_first_difference_are_adopted(micro: Path, tmp_path: Path) -> None:
    done = micro_run(tmp_path / "fork", "--from", str(micro), "--set", "rm.steps=2", "--set", "ppo.steps=1")
    assert done.returncode == 0, done.stderr
    assert adopted(tmp_path / "fork") == ["pretrain", "sft"]
    assert weights(tmp_path / "fork")["reward_model"] != weights(micro)["reward_model"]
