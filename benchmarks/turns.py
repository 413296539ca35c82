"""Trainers side by side that take turns, so that a slow minute of the machine hits all of them.

Each arm is a process. A parent lets one of them make one iteration while the others wait; what an arm logs and saves is
in its time, and its first iteration, which warms up, is left out.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Turns:
    """A child's side: report the iteration that ended, then wait."""

    def __init__(self) -> None:
        self.channel = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # whatever else prints goes to the error stream
        self.begun: float | None = None

    def next(self, **facts: float) -> None:
        """`facts` of the iteration that ended, by which arms are seen to do the same work."""
        now = time.monotonic()
        if self.begun is not None:
            lines = Path("/proc/self/status").read_text().splitlines()
            peak = next(int(line.split()[1]) * 1024 / 1e9 for line in lines if line.startswith("VmHWM:"))
            row = {"seconds": now - self.begun, "peak_gb": peak, **facts}
        else:
            row = {"ready": True}
        print(json.dumps(row), file=self.channel, flush=True)
        sys.stdin.readline()
        if self.begun is None:
            Path("/proc/self/clear_refs").write_text("5")  # the peak from here on, with the models loaded, for all
        self.begun = time.monotonic()


def take_turns(script: str, work: Path, pythons: Mapping[str, str], steps: int) -> dict[str, list[dict[str, float]]]:
    """One iteration of each arm in turn; an arm that dies is left out from then on, and said so.

    Args:
        script: called as `script --arm ARM --work WORK` by the interpreter of that arm.
        pythons: arm ↦ interpreter.
    """
    children: dict[str, subprocess.Popen[str]] = {}
    for arm, python in pythons.items():
        command = [python, script, "--arm", arm, "--work", str(work)]
        with (work / f"{arm}.log").open("w") as errors:
            child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert child.stdout is not None
        child.stdout.readline()  # one starts after another; "ready"
        children[arm] = child
    measured: dict[str, list[dict[str, float]]] = {arm: [] for arm in pythons}
    for step in range(steps):
        for arm, child in list(children.items()):
            assert child.stdin is not None and child.stdout is not None
            line = ""
            if child.poll() is None:
                child.stdin.write("go\n")
                child.stdin.flush()
                line = child.stdout.readline()
            if not line:
                print(f"{arm} ended early; see {work / arm}.log", flush=True)
                del children[arm]
                continue
            measured[arm].append(json.loads(line))
            print(f"[{step + 1}/{steps}] {arm}: {measured[arm][-1]['seconds']:.1f} s", flush=True)
    for child in children.values():
        child.communicate("go\n")
    return measured


def table(measured: Mapping[str, list[dict[str, float]]], work_units: int, unit: str) -> dict[str, Any]:
    """Arm ↦ seconds of each iteration but the first, their median, units of work a second, peak memory, and medians of
    the facts that it reported."""
    arms: dict[str, Any] = {}
    for arm, rows in measured.items():
        seconds = [row["seconds"] for row in rows[1:]]
        if seconds:
            facts = rows[0].keys() - {"seconds", "peak_gb"}
            arms[arm] = {
                "seconds": [round(one, 2) for one in seconds],
                "median": statistics.median(seconds),
                f"{unit}_per_s": work_units / statistics.median(seconds),
                "peak_gb": rows[-1]["peak_gb"],
            } | {fact: round(statistics.median(row[fact] for row in rows[1:]), 4) for fact in sorted(facts)}
    return arms


def compare(arms: Mapping[str, Any], ours: str, theirs: str) -> dict[str, Any]:
    """How many times as fast ours was, turn by turn, and its share of their memory; nothing where one is missing."""
    if ours not in arms or theirs not in arms:
        return {}
    a, b = arms[ours], arms[theirs]
    ratios = [y / x for x, y in zip(a["seconds"], b["seconds"], strict=False)]
    speed = {"speed": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}
    return {f"{ours} : {theirs}": speed | {"memory": a["peak_gb"] / b["peak_gb"]}}
