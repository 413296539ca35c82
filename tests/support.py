"""The command line as a user meets it, and a run small enough for tests."""

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

MICRO = [
    "model.dtype=float32",  # the same on every processor
    "model.scratch.vocab_size=600",
    "model.scratch.hidden_size=32",
    "model.scratch.num_layers=2",
    "model.scratch.num_heads=2",
    "pretrain.steps=6",
    "pretrain.checkpoint_every=1",
    "pretrain.batch_size=8",
    "pretrain.sequence_tokens=32",
    "sft.steps=6",
    "sft.batch_size=8",
    "sft.micro_batch_size=4",
    "sft.checkpoint_every=1",
    "rm.steps=5",
    "rm.micro_batch_size=30",
    "rm.checkpoint_every=1",
    "data.max_rm_groups=12",
    "data.max_reviews=600",
    "ppo.steps=5",
    "ppo.batch_size=8",
    "ppo.micro_batch_size=4",
    "ppo.max_response_tokens=10",
    "ppo.keep_every=1",
    "eval.num_prompts=16",
    "eval.judge_reviews=400",
    "threads=1",
]
"""Overrides of the tiny recipe: the same code on a model of some 40,000 parameters."""


def regard(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line, in this process: torch and transformers, of which a process of its own would import 7 seconds'
    worth, are imported once.
    """
    from regard.cli.main import main

    out, error = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["regard", *arguments]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(error),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    assert isinstance(ended.value.code, int)
    return subprocess.CompletedProcess(["regard", *arguments], ended.value.code, out.getvalue(), error.getvalue())


def micro_run(out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    sets = [word for override in MICRO for word in ("--set", override)]
    return regard("run", "tiny", *sets, "--out", str(out), *more)


def read_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def metric_rows(run: Path, stage: str) -> dict[int, dict[str, float]]:
    """Metrics by step; of a step logged twice, the last."""
    lines = (run / "stages" / stage / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["step"]: row["metrics"] for row in map(json.loads, lines)}
