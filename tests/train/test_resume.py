"""A killed run, resumed, ends with the weights of one that was never disturbed."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import MICRO, metric_rows, micro_run, read_json

SETS = [word for override in MICRO for word in ("--set", override)]


def start(out: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "regard.cli.main", "run", "tiny", *SETS, "--out", str(out), *more]
    return subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # a background shell ignores it, and we inherit
    )


def wait_for(path: Path, process: subprocess.Popen[bytes], seconds: float = 200) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.stderr.read().decode() if process.stderr else ""
        assert time.monotonic() < end, f"{path} never came"
        time.sleep(0.01)


def hashes(run: Path) -> dict[str, str]:
    return {name: part["sha256_after"] for name, part in read_json(run / "lineage.json")["artifacts"].items()}


def finish(out: Path) -> None:
    resumed = micro_run(out, "--resume")
    assert resumed.returncode == 0, resumed.stderr


@pytest.mark.parametrize("stage", [*(pytest.param(stage, marks=pytest.mark.slow) for stage in ("sft", "rm")), "ppo"])
def test_kill_in_a_stage_then_resume_gives_the_same_weights(micro: Path, tmp_path: Path, stage: str) -> None:
    process = start(tmp_path / "run", *(["--from", str(micro)] if stage == "ppo" else []))
    wait_for(tmp_path / "run/stages" / stage / "checkpoints/step-00000003", process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finish(tmp_path / "run")
    assert hashes(tmp_path / "run") == hashes(micro)
    for key in ("loss/sft/mean", "loss/rm/mean", "loss/policy/mean"):
        for name in ("sft", "rm", "ppo"):
            ours, theirs = metric_rows(tmp_path / "run", name), metric_rows(micro, name)
            assert [ours[s].get(key) for s in sorted(ours)] == [theirs[s].get(key) for s in sorted(theirs)]


def test_a_run_directory_in_use_is_refused(tmp_path: Path) -> None:
    process = start(tmp_path / "run")
    wait_for(tmp_path / "run/run.json", process)
    process.send_signal(signal.SIGSTOP)  # or a quick one has ended before the second looks
    second = micro_run(tmp_path / "run", "--resume")
    process.kill()
    process.wait()
    assert second.returncode == 2 and "in use" in second.stderr and "Traceback" not in second.stderr


def test_interrupt_leaves_a_resumable_record(micro: Path, tmp_path: Path) -> None:
    process = start(tmp_path / "run")
    wait_for(tmp_path / "run/stages/sft/checkpoints/step-00000002", process)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and b"--resume" in error and b"Traceback" not in error
    finish(tmp_path / "run")
    assert hashes(tmp_path / "run") == hashes(micro)


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_twenty_kills_at_random_moments_of_tiny_all_resume_to_the_same_hash(tmp_path: Path) -> None:
    """Four runs of the whole recipe, each killed once in every stage and resumed: one wrong resume and the hash of the
    end differs."""
    whole = regard_run(tmp_path / "undisturbed")
    assert whole.wait() == 0
    seconds = {n: s["seconds"] for n, s in read_json(tmp_path / "undisturbed/run.json")["stages"].items()}
    moments = random.Random(7)
    for number in range(4):
        out = tmp_path / f"run-{number}"
        for stage in ("pretrain", "sft", "rm", "ppo", "eval"):
            process = regard_run(out, *(["--resume"] if out.exists() else []))
            wait_for_stage(out, stage, process)
            wait = 0.8 * moments.random() * seconds[stage]
            time.sleep(wait)
            process.kill()
            assert process.wait() == -signal.SIGKILL
            stages = read_json(out / "run.json")["stages"]
            hit = next(n for n, s in stages.items() if s["status"] == "running")
            print(f"run {number}: killed in {hit}, {wait:.1f} s after it began or went on")
            assert hit == stage
        assert regard_run(out, "--resume").wait() == 0
        assert hashes(out) == hashes(tmp_path / "undisturbed"), f"run {number}"


def regard_run(out: Path, *more: str) -> subprocess.Popen[bytes]:
    one_core = ("--set", "threads=1")  # so that other work on the machine changes the times little
    command = [sys.executable, "-m", "regard.cli.main", "run", "tiny", *one_core, "--out", str(out), "--json", *more]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def wait_for_stage(out: Path, stage: str, process: subprocess.Popen[bytes]) -> None:
    while status(out, stage) != "running":
        assert process.poll() is None and status(out, stage) != "done", f"{stage} was over before it could be killed"
        time.sleep(0.05)


def status(out: Path, stage: str) -> str | None:
    run = read_json(out / "run.json") if (out / "run.json").is_file() else {}
    return run.get("stages", {}).get(stage, {}).get("status")
