"""A run may begin where another left off, and only as far as both would have done the same."""

import shutil
from pathlib import Path

import pytest
from support import micro_run, read_json

from regard.errors import RunLogError


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


def test_a_record_from_before_a_key_is_adopted_and_one_without_a_configuration_refused(
    micro: Path, tmp_path: Path
) -> None:
    from regard.config import parse_config
    from regard.runlog.reader import read_run
    from regard.train.pipeline import run_recipe

    config = parse_config(read_run(micro).config, "test")
    old = tmp_path / "old"
    shutil.copytree(micro, old)
    lines = (old / "config.yaml").read_text().splitlines(keepends=True)
    (old / "config.yaml").write_text("".join(line for line in lines if "center_penalty" not in line))
    run_recipe(config, tmp_path / "fork", argv=[], start_from=old, only="rm", quiet=True)
    assert adopted(tmp_path / "fork") == ["pretrain", "sft", "rm"]
    (old / "config.yaml").unlink()
    with pytest.raises(RunLogError, match=r"no config\.yaml"):
        run_recipe(config, tmp_path / "other", argv=[], start_from=old, only="rm", quiet=True)
