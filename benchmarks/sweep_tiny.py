"""Sweeps on `tiny`: how strongly to hold the policy back, and which of clip and KL does what.

    python benchmarks/sweep_tiny.py beta      β ∈ {0.01, 0.03, 0.1, 0.3, 1, 10}
    python benchmarks/sweep_tiny.py ablation  clip on/off × KL on/off
    python benchmarks/sweep_tiny.py seeds     the recipe as it is, with --seeds 5

All arms of a seed share its pre-trained, SFT and reward model (`regard run --from`), so only stage 4 differs. Finished
arms are not run again. Prints a table with one row per arm (mean over seeds, with the spread) and one JSON object, and
draws OUT/beta.png or OUT/ablation.png. The ablation runs without the early stop of an iteration's epochs, a third brake
that would hide what the clip does.
"""

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from regard.config import load_recipe

ARMS: dict[str, dict[str, list[str]]] = {
    "beta": {
        f"beta {beta:g}": [f"ppo.kl_coef={beta}"] if beta != load_recipe("tiny").ppo.kl_coef else []
        for beta in (0.01, 0.03, 0.1, 0.3, 1.0, 10.0)
    },
    "ablation": {
        "clip and KL": ["ppo.early_stop_kl=null"],
        "clip alone": ["ppo.early_stop_kl=null", "ppo.kl_coef=0"],
        "KL alone": ["ppo.early_stop_kl=null", "ppo.clip_range=null"],
        "neither": ["ppo.early_stop_kl=null", "ppo.kl_coef=0", "ppo.clip_range=null"],
    },
    "seeds": {"recipe": []},
}


def run(out: Path, seed: int, sets: list[str], start_from: Path | None) -> None:
    if (out / "summary.json").is_file():
        return
    command = [sys.executable, "-m", "regard.cli.main", "run", "tiny", "--out", str(out), "--json"]
    for override in [f"seed={seed}", *sets]:
        command += ["--set", override]
    command += ["--resume"] if (out / "run.json").is_file() else []
    command += ["--from", str(start_from)] if start_from else []
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def iterations(out: Path) -> list[dict[str, float]]:
    lines = (out / "stages/ppo/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [row["metrics"] for row in map(json.loads, lines) if row["step"]]


def measure(out: Path) -> dict[str, float]:
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    rows = iterations(out)
    return {
        "gold difference": summary["gold"]["difference"],
        "gold ci95 low": summary["gold"]["ci95"][0],
        "score difference": summary["score"]["difference"],
        "KL nats/sequence": summary["kl"]["per_sequence"],
        "perplexity ratio": summary["perplexity"]["ratio"],
        "length": summary["length"]["policy"],
        "distinct bigrams": summary["distinct_2"]["policy"],
        "largest ratio": max(row["ratio/old_new/max"] for row in rows),
        "mean old-new KL": float(np.mean([row["kl/old_new_k2/mean"] for row in rows])),
        "minutes": sum(v for k, v in summary["seconds"].items() if v) / 60,
    }


def draw_beta(table: dict[str, Any], target: Path) -> None:
    """KL, score, gold and variety against β: dots are seeds, the line their mean."""
    betas = [float(arm.split()[1]) for arm in table]
    panels = {
        "KL nats/sequence": "KL to the reference, nats per sequence",
        "score difference": "score − SFT's (reward model, log-odds)",
        "gold difference": "gold − SFT's (judge, 0 … 1)",
        "distinct bigrams": "distinct bigrams of all responses",
    }
    figure, axes = plt.subplots(1, 4, figsize=(14, 3.2), layout="constrained")
    for axis, (key, title) in zip(axes, panels.items(), strict=True):
        for beta, values in zip(betas, (row[key] for row in table.values()), strict=True):
            axis.plot([beta] * len(values), values, "o", color="#2a6f97", alpha=0.45, markersize=4)
        axis.plot(betas, [np.mean(row[key]) for row in table.values()], color="#2a6f97")
        axis.set(xscale="log", xlabel="β (kl_coef)", title=title)
        axis.axhline(0, color="0.6", linewidth=0.8)
    figure.savefig(target, dpi=110)


def draw_ablation(runs: dict[str, list[Path]], target: Path) -> None:
    """Through training: how far from the reference (the sum of all updates), and the largest ratio of one iteration."""
    panels = {
        "kl/policy_ref_k1/seq_sum": "KL to the reference, nats per sequence",
        "ratio/old_new/max": "largest ratio to the policy that sampled",
        "kl/old_new_k2/mean": "distance to the policy that sampled, nats/token",
    }
    figure, axes = plt.subplots(1, 3, figsize=(14, 3.4), layout="constrained")
    for axis, (key, title) in zip(axes, panels.items(), strict=True):
        for arm, color in zip(runs, ("#2a6f97", "#c1666b", "#4f9d69", "#7d5ba6"), strict=True):
            series = [[row[key] for row in iterations(out)] for out in runs[arm]]
            for one in series:
                axis.plot(one, color=color, alpha=0.25, linewidth=0.8)
            axis.plot(np.mean(series, axis=0), color=color, label=arm)
        axis.set(xlabel="iteration", title=title)
    axes[1].set_yscale("log")
    axes[2].set_yscale("log")
    axes[0].legend(frameon=False)
    figure.savefig(target, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", choices=ARMS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/sweeps"))
    parser.add_argument("--jobs", type=int, default=2, help="runs at once; more than one take one core each")
    args = parser.parse_args()
    threads = ["threads=1"] if args.jobs > 1 else []
    jobs: dict[tuple[str, int], Path] = {}
    with ThreadPoolExecutor(args.jobs) as pool:
        seeds = range(1, args.seeds + 1)
        bases = {seed: args.out / f"base-{seed}" for seed in seeds}
        list(pool.map(lambda seed: run(bases[seed], seed, threads, None), seeds))
        for arm, sets in ARMS[args.sweep].items():
            for seed in seeds:
                out = bases[seed] if not sets else args.out / f"{arm.replace(' ', '-')}-{seed}"
                jobs[arm, seed] = out
        list(
            pool.map(
                lambda item: run(item[1], item[0][1], [*ARMS[args.sweep][item[0][0]], *threads], bases[item[0][1]]),
                jobs.items(),
            )
        )
    table: dict[str, Any] = {}
    for arm in ARMS[args.sweep]:
        rows = [measure(jobs[arm, seed]) for seed in seeds]
        table[arm] = {key: [row[key] for row in rows] for key in rows[0]}
        cells = [f"{np.mean(v):.3f} ({min(v):.3f} … {max(v):.3f})" for v in table[arm].values()]
        if arm == next(iter(ARMS[args.sweep])):
            print("| arm | " + " | ".join(rows[0]) + " |\n|" + "---|" * (len(rows[0]) + 1))
        print(f"| {arm} | " + " | ".join(cells) + " |")
    if args.sweep == "beta":
        draw_beta(table, args.out / "beta.png")
    elif args.sweep == "ablation":
        draw_ablation({arm: [jobs[arm, seed] for seed in seeds] for arm in table}, args.out / "ablation.png")
    print(json.dumps({"sweep": args.sweep, "seeds": args.seeds, "arms": table}))


if __name__ == "__main__":
    main()
