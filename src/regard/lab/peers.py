"""Other diagnosers on the same records, each as published, in an environment of its own.

They read scalar series of a GRPO or PPO run. What ours are called in their words stands in `RLDOCTOR` and `RLPROBE`; a
key of theirs that we log under another definition is left out, and where a definition is theirs to choose, we give what
their thresholds are made for: KL per token (k3), as TRL's GRPO and verl log it, and as held-out score the gold quality,
which a real run seldom has. Rollouts go to neither, since neither's rules look at them.

A peer's run counts as positive where it reports a finding of its level warning (rldoctor) or warn (rlprobe) or above.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regard.data.assets import default_cache
from regard.errors import AssetError
from regard.lab.score import Case, Share, share
from regard.runlog.reader import RunLog, read_run

RLDOCTOR: dict[str, str] = {
    "reward": "score/reward_model/mean",
    "reward_std": "score/reward_model/std",
    "reward_max": "score/reward_model/max",
    "reward_min": "score/reward_model/min",
    "eval_score": "gold/judge/mean",
    "frac_reward_zero_std": "group/zero_std/frac",
    "critic/advantages/mean": "advantage/normalised/mean",
    "critic/advantages/std": "advantage/normalised/std",
    "entropy": "entropy/policy/token_mean",
    "kl": "kl/policy_ref_k3/token_mean",
    "clip_ratio/region_mean": "clip/policy/frac",
    "clip_ratio/low_mean": "clip/policy_low/frac",
    "clip_ratio/high_mean": "clip/policy_high/frac",
    "grad_norm": "optim/grad_norm/last",
    "learning_rate": "optim/learning_rate/last",
    "policy_loss": "loss/policy/mean",
    "completions/mean_length": "length/response_tokens/mean",
    "completions/max_length": "length/response_tokens/max",
    "completions/clipped_ratio": "finish/truncated/frac",
    "critic/vf_explained_var": "value/explained_variance/value",
    "step_time": "time/total_s",
}
"""Key of TRL or verl as rldoctor 0.2.0 resolves it, to our metric."""

RLPROBE: dict[str, str] = {
    "reward_mean": "score/reward_model/mean",
    "reward_std": "score/reward_model/std",
    "reward_min": "score/reward_model/min",
    "reward_max": "score/reward_model/max",
    "kl_mean": "kl/policy_ref_k3/token_mean",
    "entropy_mean": "entropy/policy/token_mean",
    "ratio_mean": "ratio/old_new/mean",
    "clip_fraction": "clip/policy/frac",
    "adv_mean": "advantage/normalised/mean",
    "adv_std": "advantage/normalised/std",
    "group_reward_std_mean": "group/reward_std/mean",
    "zero_variance_group_frac": "group/zero_std/frac",
    "value_loss": "loss/value/mean",
    "value_explained_variance": "value/explained_variance/value",
    "value_clip_fraction": "clip/value/frac",
    "loss": "loss/policy/mean",
    "lr": "optim/learning_rate/last",
    "grad_norm": "optim/grad_norm/last",
    "nan_count": "optim/nonfinite_grads/count",
    "completion_len_mean": "length/response_tokens/mean",
    "completion_len_p95": "length/response_tokens/p95",
    "completion_len_max": "length/response_tokens/max",
    "max_len_hit_frac": "finish/truncated/frac",
    "truncation_rate": "finish/truncated/frac",
    "eos_rate": "finish/eos/frac",
    "repetition_rate": "text/repetition/frac",
    "step_time_s": "time/total_s",
    "generation_time_s": "time/rollout_s",
    "optimization_time_s": "time/update_s",
}
"""Field of rlprobe 0.1.0's StepRecord to our metric."""

_RLDOCTOR_DRIVER = """
import json, sys
from rl_doctor import diagnose, load_run
from rl_doctor.detectors.base import Severity
for line in sys.stdin:
    path = json.loads(line)
    found = diagnose(load_run(path))
    print(json.dumps([f.detector for f in found.problems if f.severity >= Severity.WARNING]), flush=True)
"""

_RLPROBE_DRIVER = """
import json, sys
from rlprobe.doctor.engine import diagnose_view
from rlprobe.doctor.runview import RunView
from rlprobe.schemas import RunManifest, StepRecord
for line in sys.stdin:
    with open(json.loads(line), encoding="utf-8") as file:
        config, *rows = [json.loads(row) for row in file]
    manifest = RunManifest(run_id="run", created_at="", algorithm="ppo", trainer_config=config["config"])
    found = diagnose_view(RunView(manifest, [StepRecord(**row) for row in rows]))
    print(json.dumps([f.signature_id for f in found if f.severity in ("warn", "critical")]), flush=True)
"""


@dataclass(frozen=True)
class Peer:
    """A published diagnoser.

    Attributes:
        name, version: as on PyPI.
        keys: its word for a series to our metric.
        driver: a program that reads a path of a log per line and prints the list of its findings.
    """

    name: str
    version: str
    keys: Mapping[str, str]
    driver: str


PEERS = (
    Peer("rldoctor", "0.2.0", RLDOCTOR, _RLDOCTOR_DRIVER),
    Peer("rlprobe", "0.1.0", RLPROBE, _RLPROBE_DRIVER),
)


def peer_log(run: RunLog, keys: Mapping[str, str]) -> str:
    """A line with the configuration in TRL's words, and a line for each step of stage 4. Infinities and NaN stay."""
    stage = run.stages["ppo"]
    rows: dict[int, dict[str, float]] = {}
    for theirs, ours in keys.items():
        if ours in stage.metrics:
            series = stage.metrics[ours]
            for step, value in zip(series.steps.tolist(), series.values.tolist(), strict=True):
                if step > 0:  # step 0 holds the checks before the first update
                    rows.setdefault(step, {"step": step})[theirs] = value
    ppo: dict[str, Any] = run.config.get("ppo", {})
    config = {
        "algorithm": "ppo",
        "learning_rate": ppo.get("learning_rate"),
        "beta": ppo.get("kl_coef"),
        "epsilon": ppo.get("clip_range"),
        "max_completion_length": ppo.get("max_response_tokens"),
        "batch_size": ppo.get("batch_size"),
        "max_steps": ppo.get("steps"),
    }
    lines = [{"config": {key: value for key, value in config.items() if value is not None}}]
    return "".join(json.dumps(line) + "\n" for line in [*lines, *(rows[step] for step in sorted(rows))])


def environment(peer: Peer, cache: Path | None = None) -> Path:
    """The Python of the peer's own environment, made on first use.

    Raises:
        AssetError: it cannot be installed.
    """
    root = (cache or default_cache()) / "lab" / "peers" / f"{peer.name}-{peer.version}"
    python = root / "bin" / "python"
    if (root / ".ready").is_file():
        return python
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(root)],
        [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", f"{peer.name}=={peer.version}"],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise AssetError(
                f"{peer.name} {peer.version} cannot be installed ({reason}). Leave it out with --no-peers."
            )
    (root / ".ready").touch()
    return python


def run_peer(peer: Peer, runs: Sequence[Path], scratch: Path, cache: Path | None = None) -> dict[str, list[str]]:
    """Name of each run to the peer's findings of at least warning level.

    Args:
        scratch: gets the logs as the peer reads them.
    Raises:
        AssetError: the peer cannot be installed, or ended before the last run.
    """
    python = environment(peer, cache)
    directory = scratch / peer.name
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"{run.name}.jsonl" for run in runs]
    for run, path in zip(runs, paths, strict=True):
        path.write_text(peer_log(read_run(run), peer.keys), encoding="utf-8")
    asked = "".join(json.dumps(str(path)) + "\n" for path in paths)
    done = subprocess.run([str(python), "-c", peer.driver], input=asked, capture_output=True, text=True)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode or len(answers) != len(runs):
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise AssetError(f"{peer.name} {peer.version} ended early ({reason}). Leave it out with --no-peers.")
    return {run.name: answer for run, answer in zip(runs, answers, strict=True)}


def compare(cases: Sequence[Case], peers: Mapping[str, Mapping[str, Sequence[str]]]) -> dict[str, dict[str, Share]]:
    """Recall over single faults and false positives over controls: ours, the two baselines, and the peers."""
    controls = [one for one in cases if not one.roots]
    faults = [one for one in cases if len(one.roots) == 1]
    table = {
        "regard": {
            "recall": share(faults, lambda one: one.positive),
            "false": share(controls, lambda one: one.positive),
        },
        "flag everything": {"recall": share(faults, lambda one: True), "false": share(controls, lambda one: True)},
        "all healthy": {"recall": share(faults, lambda one: False), "false": share(controls, lambda one: False)},
    }
    for name, found in peers.items():
        table[name] = {
            "recall": share(faults, lambda one, found=found: bool(found[one.name])),
            "false": share(controls, lambda one, found=found: bool(found[one.name])),
        }
    return table
