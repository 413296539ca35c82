"""How well `regard doctor --recipe` predicts the peak memory and the time of a step.

    python benchmarks/planner.py --out runs/planner [--only NAME …]

Every configuration is run for a few steps of each stage, one after another, and its record is compared with what the
plan of its configuration says: the largest peak memory of any stage, and the median seconds of an iteration of stage 4
without its first. The machine's rate is the median of what the runs of that number format measured when stage 4 began,
since one of them may fall into a slow moment. What a process has before it holds a model is measured in this one, as
`regard run` does in its own. Time is planned twice: as `regard doctor` does, for responses of nearly
the most tokens, and for as many as the policy gave.
Weights are deleted as soon as a run is finished, and finished runs are not run again. Prints a table and one JSON
object.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from regard.config import parse_config
from regard.runlog.reader import read_run
from regard.train import pipeline  # noqa: F401  what a run imports
from regard.train.planner import FULL, imported_gb, plan

SHORT = ["pretrain.steps=3", "sft.steps=2", "rm.steps=4", "ppo.steps=4", "ppo.warmup_steps=1", "eval.num_prompts=64"]


def scratch(hidden: int, layers: int, heads: int, vocabulary: int = 4096) -> list[str]:
    return [
        f"model.scratch.hidden_size={hidden}",
        f"model.scratch.num_layers={layers}",
        f"model.scratch.num_heads={heads}",
        f"model.scratch.vocab_size={vocabulary}",
    ]


PLAIN = "model.dtype=float32"
LONG = [*scratch(384, 4, 8), "ppo.max_response_tokens=128"]
EVERY = ["model.lora_rank=0", "ppo.lora_layers=0", "ppo.micro_batch_size=8"]
CONFIGURATIONS: dict[str, tuple[str, list[str]]] = {
    "tiny": ("tiny", []),
    "twice as wide and deep": ("tiny", [PLAIN, *scratch(384, 4, 8)]),
    "four times as wide": ("tiny", scratch(768, 4, 8)),
    "wide, deep, large vocabulary": ("tiny", scratch(512, 8, 8, 16384)),
    "large batch at once": ("tiny", [PLAIN, *scratch(384, 4, 8), "ppo.batch_size=256", "ppo.micro_batch_size=256"]),
    "value model of its own": ("tiny", [PLAIN, *scratch(768, 4, 8), "ppo.value_model=separate"]),
    "adapters": ("tiny", [*scratch(768, 4, 8), "model.lora_rank=16"]),
    "long answers": ("tiny", [PLAIN, *LONG]),
    "long answers in small pieces": ("tiny", [*LONG, "ppo.micro_batch_size=8"]),
    "movie-sentiment": ("movie-sentiment", []),
    "movie-sentiment, every block": ("movie-sentiment", ["ppo.lora_layers=0"]),
    "movie-sentiment, in pieces of 16": ("movie-sentiment", ["ppo.micro_batch_size=16"]),
    "movie-sentiment, long answers": ("movie-sentiment", ["ppo.max_response_tokens=64"]),
    "movie-sentiment, every weight": ("movie-sentiment", EVERY),
}


def measure(name: str, place: Path) -> dict[str, Any]:
    recipe, sets = CONFIGURATIONS[name]
    if not (place / "summary.json").is_file():
        words = [word for one in [*sets, *SHORT] for word in ("--set", one)]
        words += ["--resume"] if (place / "run.json").is_file() else []
        command = [sys.executable, "-m", "regard.cli.main", "run", recipe, "--out", str(place), "--json", *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    for weights in place.rglob("*.safetensors*"):
        weights.unlink()
    run = read_run(place)
    metrics = run.stages["ppo"].metrics
    rate = float(metrics["throughput/limit/gflops"].values[-1])
    config = parse_config(yaml.safe_load((place / "config.yaml").read_text(encoding="utf-8")), str(place))
    phases = {phase: metrics[f"time/{phase}_s"].values[1:] for phase in ("rollout", "score", "update", "total")}
    peaks = {stage: facts.get("peak_memory_gb") for stage, facts in run.run["stages"].items()}
    tokens = statistics.median(metrics["length/response_tokens/mean"].values[1:].tolist())
    return {
        "config": config,
        "answered": tokens / config.ppo.max_response_tokens,
        "measured_gb": max(peak for peak in peaks.values() if peak),
        "measured_s": statistics.median(phases["total"].tolist()),
        "gflops": rate,
        "phases": {phase: statistics.median(values.tolist()) for phase, values in phases.items()},
        "stages": peaks,
    }


def predict(row: dict[str, Any], gflops: float, imported: float) -> None:
    config = row.pop("config")
    for name, share in (("", FULL), ("_answered", row["answered"])):
        predicted = plan(config, gflops, answered=share, imported_gb=imported)
        assert predicted is not None
        row[f"predicted{name}_s"] = predicted.step_seconds
        row["predicted_gb"] = predicted.peak_gb


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/planner"))
    parser.add_argument("--only", nargs="*", default=list(CONFIGURATIONS))
    args = parser.parse_args()
    imported = imported_gb()
    args.out.mkdir(parents=True, exist_ok=True)
    table: dict[str, dict[str, Any]] = {}
    for number, name in enumerate(args.only, start=1):
        table[name] = measure(name, args.out / name.replace(" ", "-").replace(",", ""))
        print(f"[{number}/{len(args.only)}] {name}", file=sys.stderr, flush=True)
    formats = {name: row["config"].model.dtype for name, row in table.items()}
    for name, row in table.items():
        rates = [other["gflops"] for of, other in table.items() if formats[of] == formats[name]]
        predict(row, statistics.median(rates), imported)
    print("| configuration | format | GB | planned | off | seconds | planned | off | tokens | planned | off |")
    print("|" + "---|" * 11)
    for name, row in table.items():
        gb, full, answered = (
            f"{row[planned]:.2f} | {row[planned] / row[measured] - 1:+.0%}"
            for planned, measured in (
                ("predicted_gb", "measured_gb"), ("predicted_s", "measured_s"), ("predicted_answered_s", "measured_s")
            )
        )  # fmt: skip
        print(
            f"| {name} | {formats[name]} | {row['measured_gb']:.2f} | {gb} | {row['measured_s']:.2f} | {full} | "
            f"{row['answered']:.0%} | {answered} |"
        )
    print(json.dumps(table))


if __name__ == "__main__":
    main()
