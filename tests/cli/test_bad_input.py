"""What a user can get wrong: one line, exit 2, nothing lost, no traceback."""

import json
import subprocess
from pathlib import Path

import pytest
from support import MICRO, regard

SETS = [word for override in MICRO for word in ("--set", override)]


def assert_one_clear_line(done: subprocess.CompletedProcess[str], *needles: str) -> None:
    assert done.returncode == 2, (done.returncode, done.stderr)
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    for needle in needles:
        assert needle in lines[0], lines[0]


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(r if isinstance(r, str) else json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


def test_broken_json_names_file_and_line(tmp_path: Path) -> None:
    good = {"prompt": "p", "chosen": "a", "rejected": "b"}
    path = write(tmp_path / "pairs.jsonl", good, '{"prompt": "p", "chosen": \n')
    assert_one_clear_line(regard("data", "check", str(path)), f"{path}:2")


def test_empty_file(tmp_path: Path) -> None:
    path = write(tmp_path / "empty.jsonl")
    assert_one_clear_line(regard("data", "check", str(path)), str(path), "empty")


def test_chosen_equal_to_rejected(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.jsonl", {"prompt": "p", "chosen": "same", "rejected": "same"})
    assert_one_clear_line(regard("data", "check", str(path)), f"{path}:1")


def test_unknown_key_suggests_the_near_one(tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = regard("run", "tiny", "--set", "ppo.kl_coeff=0.1", "--out", str(out))
    assert_one_clear_line(done, "ppo.kl_coeff", "kl_coef")
    assert not out.exists()


@pytest.mark.parametrize(
    "override,needle",
    [
        ("ppo.kl_coef=-1", "ppo.kl_coef"),
        ("ppo.batch_size=7", "num_minibatches"),
        ("ppo.top_p=0.9", "top_p"),
        ("seed=one", "seed"),
        ("ppo.clip_range", "="),
    ],
)
def test_impossible_value_says_why(tmp_path: Path, override: str, needle: str) -> None:
    assert_one_clear_line(regard("run", "tiny", "--set", override, "--out", str(tmp_path / "run")), needle)


def test_unknown_recipe_lists_the_known(tmp_path: Path) -> None:
    assert_one_clear_line(regard("run", "tinny", "--out", str(tmp_path / "run")), "tiny", "movie-sentiment")


def test_missing_model(tmp_path: Path) -> None:
    source = str(tmp_path / "no-such-model")
    sets = [*SETS, "--set", "rm.body=initial", "--set", f"model.source={source}"]
    assert_one_clear_line(regard("run", "tiny", *sets, "--out", str(tmp_path / "run")), source)


def test_a_data_set_is_no_model(tmp_path: Path) -> None:
    sets = [*SETS, "--set", "rm.body=initial", "--set", "model.source=imdb-reviews"]
    assert_one_clear_line(regard("run", "tiny", *sets, "--out", str(tmp_path / "run")), "safetensors")


def test_unknown_sink_leaves_nothing_behind(tmp_path: Path) -> None:
    assert_one_clear_line(regard("run", "tiny", "--sink", "tensorbord", "--out", str(tmp_path / "run")), "tensorboard")
    assert not (tmp_path / "run").exists()


def test_foreign_pickle_is_never_opened(tmp_path: Path) -> None:
    """The pickle would create a file when opened."""
    import pickle

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            import os

            return os.system, (f"touch {tmp_path / 'opened'}",)

    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "llama"}')
    (model / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    sets = [*SETS, "--set", "rm.body=initial", "--set", f"model.source={model}"]
    assert_one_clear_line(regard("run", "tiny", *sets, "--out", str(tmp_path / "run")), "safetensors")
    assert not (tmp_path / "opened").exists()


def test_report_of_a_directory_that_is_no_run(tmp_path: Path) -> None:
    assert_one_clear_line(regard("report", str(tmp_path)), str(tmp_path))


def test_unknown_name_to_explain() -> None:
    assert_one_clear_line(regard("explain", "kl/policy_ref_k1/seq_sun"), "kl/policy_ref_k1/seq_sum")


def test_unknown_command_and_option() -> None:
    assert_one_clear_line(regard("trian"), "trian")
    assert_one_clear_line(regard("run", "tiny", "--sett", "a=b"), "--sett")


def test_full_disk_while_training_leaves_a_run_that_resumes(tmp_path: Path) -> None:
    """A file system of 3 MB is full soon; the run resumes once there is room."""
    import os
    import shutil

    if os.geteuid() != 0:
        pytest.fail("this test mounts a small file system and needs root, as CI has it")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(small)], check=True)
    try:
        done = regard("run", "tiny", *SETS, "--out", str(small / "run"))
        assert done.returncode == 2 and "Traceback" not in done.stderr
        assert "--resume" in done.stderr.splitlines()[-1]
        shutil.copytree(small / "run", tmp_path / "run")
    finally:
        subprocess.run(["umount", str(small)], check=True)
    resumed = regard("run", "tiny", *SETS, "--out", str(tmp_path / "run"), "--resume")
    assert resumed.returncode == 0, resumed.stderr
