"""`regard review --watch` on files that really grow, as its users type it and with neither torch nor transformers."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from test_core_without_torch import BLOCKER, without_torch

from regard.runlog.writer import RunWriter

PATIENCE = 120.0
"""Seconds within which news must come; the machine may be busy."""


class Watcher:
    """The command in a process of its own, with its lines as they come."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", BLOCKER, "review", "--watch", "--every", "0.05", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell ignores it
        )
        self.lines: list[str] = []
        self._queue: queue.Queue[str] = queue.Queue()
        assert self.process.stdout is not None
        threading.Thread(target=lambda: [self._queue.put(line) for line in self.process.stdout], daemon=True).start()  # type: ignore[union-attr]

    def wait_for(self, words: str) -> str:
        """The next line that holds these words."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                line = self._queue.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no line with {words!r} within {PATIENCE} s, but {self.lines}") from None
            self.lines.append(line)
            if words in line:
                return line

    def ended(self) -> int:
        code = self.process.wait(timeout=PATIENCE)
        while not self._queue.empty():
            self.lines.append(self._queue.get())
        return code


@contextmanager
def watching(*arguments: str) -> Iterator[Watcher]:
    watcher = Watcher(*arguments)
    try:
        yield watcher
    finally:
        watcher.process.kill()
        watcher.process.communicate()


def line(step: int, kl: float) -> str:
    return json.dumps({"step": step, "objective/kl": kl, "objective/scores": 1.0, "policy/approxkl_avg": 0.01}) + "\n"


def append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def healthy(steps: int) -> str:
    return "".join(line(step, 5.0) for step in range(steps))


def grave(start: int) -> str:
    return "".join(line(step, 300.0) for step in range(start, start + 20))


def test_growing_log_ends_the_watch_with_1_at_an_error(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(healthy(20))
    with watching(str(log)) as watcher:
        watcher.wait_for("step 19: Verdict: healthy.")
        append(log, line(20, 5.0)[:30])  # torn at the moment of reading
        time.sleep(0.3)
        append(log, line(20, 5.0)[30:] + grave(21))
        finding = watcher.wait_for("ERROR KL001 kl-runaway, ppo, from step ")
        assert finding.startswith("step ")
        watcher.wait_for("Verdict: failed (was healthy).")
        assert watcher.ended() == 1
    assert sum("KL001" in one for one in watcher.lines) == 1


def test_each_finding_is_said_once_and_never_ends_nothing_with_fail_on_never(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(healthy(20))
    with watching(str(log), "--fail-on", "never") as watcher:
        watcher.wait_for("Verdict: healthy")
        append(log, grave(20))
        watcher.wait_for("Verdict: failed")
        for start in (40, 60, 80):
            append(log, grave(start))
            time.sleep(0.2)
        assert watcher.process.poll() is None
        watcher.process.send_signal(signal.SIGINT)
        assert watcher.ended() == 130
        assert sum("ERROR KL001" in one for one in watcher.lines) == 1
        assert watcher.process.stderr is not None and watcher.process.stderr.read() == ""


def test_command_is_run_once_for_each_finding_and_the_watch_goes_on(tmp_path: Path) -> None:
    log, told = tmp_path / "log.jsonl", tmp_path / "told"
    log.write_text(healthy(20))
    command = f'echo "$REGARD_RUN|$REGARD_CODE|$REGARD_SEVERITY|$REGARD_STEP|$REGARD_SUMMARY" >> {told}'
    with watching(str(log), "--on-error", command) as watcher:
        watcher.wait_for("Verdict: healthy")
        append(log, grave(20))
        watcher.wait_for("Verdict: failed")
        append(log, grave(40))
        append(
            log, "".join(json.dumps({"step": step, "objective/scores": float("nan")}) + "\n" for step in range(60, 64))
        )
        watcher.wait_for("NUM001")
        deadline = time.monotonic() + PATIENCE  # the command runs after the line
        while "NUM001" not in told.read_text() and time.monotonic() < deadline:
            time.sleep(0.05)
        watcher.process.send_signal(signal.SIGINT)
        assert watcher.ended() == 130
    rows = [row.split("|") for row in told.read_text().splitlines()]
    assert sorted(row[1] for row in rows) == ["KL001", "NUM001"]
    run, code, severity, step, summary = next(row for row in rows if row[1] == "KL001")
    assert (run, code, severity) == (str(log), "KL001", "error") and 15 <= int(step) <= 25 and "KL" in summary


def test_our_run_that_becomes_healthy_and_finished_ends_with_0(tmp_path: Path) -> None:
    root = tmp_path / "run"
    with RunWriter(root, config={"mine": 1}, seed=1, argv=["x"]) as run:
        run.set_stage("ppo", "running")
        stage = run.stage("ppo")
        with watching(str(root), "--json") as watcher:
            watcher.wait_for('"verdict": "inconclusive"')
            for step in range(30):
                stage.log(step, {"kl/policy_ref_k1/token_mean": 0.1, "score/reward_model/mean": step / 30})
            watcher.wait_for('"verdict": "healthy"')
            assert watcher.process.poll() is None
            run.set_stage("ppo", "done")
            assert json.loads(watcher.wait_for('"finished"')) == {"event": "finished", "step": 29, "verdict": "healthy"}
            assert watcher.ended() == 0
        assert [json.loads(one)["event"] for one in watcher.lines[:2]] == ["begin", "verdict"]
    assert json.loads((root / "review/report.json").read_text())["verdict"] == "healthy"
    assert (root / "review/report.html").is_file()


def test_our_run_with_stages_to_come_is_not_finished(tmp_path: Path) -> None:
    root = tmp_path / "run"
    config = {"recipe": "tiny", "model": {"source": "scratch"}}
    with RunWriter(root, config=config, seed=1, argv=["x"]) as run:
        for name in ("fetch", "pretrain", "sft", "rm"):
            run.set_stage(name, "done")
        with watching(str(root), "--fail-on", "never") as watcher:
            watcher.wait_for("Verdict")
            for step in range(20):  # ppo and eval are to come, and what they log is still seen
                run.stage("ppo").log(step, {"kl/policy_ref_k1/token_mean": 0.1 if step < 10 else 9.0})
            watcher.wait_for("ERROR KL001")
            for name in ("ppo", "eval"):
                run.set_stage(name, "done")
            watcher.wait_for("The run is finished")
            assert watcher.ended() == 0


@pytest.mark.parametrize("content", ["", '{"global_step": 1, "log_hist'])
def test_file_that_holds_no_log_yet_is_waited_for(tmp_path: Path, content: str) -> None:
    log = tmp_path / "trainer_state.json"
    log.write_text(content)
    with watching(str(tmp_path)) as watcher:
        watcher.wait_for("Waiting: ")
        history = [{"step": step, "loss": 0.5, "kl": 0.01, "reward": 0.1 * step} for step in range(12)]
        log.write_text(json.dumps({"global_step": 12, "max_steps": 20, "log_history": history}))
        watcher.wait_for("Verdict:")
        assert watcher.process.poll() is None
        assert sum("Waiting" in one for one in watcher.lines) == 1


@pytest.mark.parametrize(
    "options",
    [
        ["--on-error", "true"],
        ["--watch", "--every", "0"],
        ["--watch", "--format", "html"],
        ["--watch", "--out", "x.txt"],
        ["--watch", "--from", "trl-pop"],
        ["--watch", "--map", "none.yaml"],
    ],
)
def test_options_that_do_not_go_together_are_refused_in_one_sentence(tmp_path: Path, options: list[str]) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(healthy(5))
    done = without_torch("review", str(log), *options)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr


def test_watch_of_nothing_or_of_two_runs_is_refused(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(healthy(5))
    for paths in ([str(tmp_path / "none")], [str(log), str(log)]):
        done = without_torch("review", *paths, "--watch")
        assert done.returncode == 2 and done.stderr.count("\n") == 1
