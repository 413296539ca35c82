"""Gold against √KL on `tiny`: best-of-n and RL, with fewer and more comparisons, and a larger reward model.

    python benchmarks/overoptimisation.py --out runs/over

Best-of-n: 256 answers of the SFT model to each of 64 held-out prompts; of every n ≤ 256, the one the reward model
scores highest is taken, averaged over all draws without bias, at a KL of ln n − (n − 1)/n. RL: stage 4 on a long leash,
one point per iteration. Both laws (`regard.compare.laws`) are fitted to each. All reward models share one SFT model and
one seed; the larger one has twice the width and the number of blocks. Prints a table and one JSON object, draws
OUT/overoptimisation.png. Finished runs are not run again.
"""

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.special import gammaln

from regard.compare.laws import LAWS, fit_law
from regard.compare.runs import frontier
from regard.config import load_recipe
from regard.models.heads import RewardModel
from regard.models.loading import load_causal
from regard.rollout.generator import PolicyGenerator
from regard.runlog.reader import read_run
from regard.train.corpus import Corpus
from regard.train.pipeline import make_judges
from regard.train.seeds import uniforms

PROMPTS, MOST = 64, 256
LARGER = ["model.scratch.hidden_size=384", "model.scratch.num_layers=4"]
REWARD_MODELS: dict[str, list[str]] = {
    "15 blocks": ["data.max_rm_groups=15"],
    "60 blocks": ["data.max_rm_groups=60"],
    "all blocks": [],
    "all blocks, larger": LARGER,
}
LOOSE = ["ppo.kl_coef=0.01", "ppo.steps=90"]


def regard(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "regard.cli.main", *words], check=True, stdout=subprocess.DEVNULL)


def sets(overrides: list[str]) -> list[str]:
    return [word for one in [*overrides, "threads=1"] for word in ("--set", one)]


def train_all(out: Path) -> None:
    """The base with everything before stage 4, each reward model, and RL against the small ones."""
    base = out / "all blocks"
    if not (base / "summary.json").is_file():
        regard("run", "tiny", "--out", str(base), "--json", *sets(LOOSE))

    def one(name: str) -> None:
        place, own = out / name, REWARD_MODELS[name]
        if own == LARGER and not (place / "stages/rm/final").is_dir():
            for stage in ("pretrain", "sft", "rm"):
                regard("train", stage, "tiny", "--out", str(place), "--json", *sets(own))
        elif own and own != LARGER and not (place / "summary.json").is_file():
            regard("run", "tiny", "--out", str(place), "--from", str(base), "--json", *sets([*own, *LOOSE]))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, REWARD_MODELS))


def sample(base: Path, place: Path) -> dict[str, Any]:
    """MOST answers of the SFT model to each prompt, with their gold."""
    if place.is_file():
        return json.loads(place.read_text(encoding="utf-8"))
    config = load_recipe("tiny")
    model, tokenizer = load_causal(str(base / "stages/sft/final"), torch.float32)
    corpus = Corpus(config)
    prompts = corpus.prompts(tokenizer, held_out=True)[:PROMPTS]
    generator = PolicyGenerator(
        model.eval(), pad_id=tokenizer.pad_token_id, eos_id=tokenizer.eos_token_id, temperature=1.0
    )
    texts: list[list[str]] = []
    with torch.no_grad():
        for number, prompt in enumerate(prompts):
            noise = uniforms(MOST, config.ppo.max_response_tokens, 0, "best-of-n", number)
            answers = generator.generate([prompt.tokens] * MOST, noise).responses
            texts.append([tokenizer.decode(answer, skip_special_tokens=True) for answer in answers])
            print(f"\rsampled {number + 1}/{PROMPTS}", end="", file=sys.stderr, flush=True)
    judge = make_judges(config, corpus)["gold"]
    gold = [judge.score([p.text] * MOST, answers) for p, answers in zip(prompts, texts, strict=True)]
    result = {"prompts": [p.text for p in prompts], "texts": texts, "gold": gold}
    place.write_text(json.dumps(result), encoding="utf-8")
    return result


def chance_to_be_best(n: int, total: int) -> np.ndarray:
    """[total] probability that the answer of each rank, lowest score first, is the best of n drawn without repeats:
    C(rank − 1, n − 1) / C(total, n)."""
    rank = np.arange(1, total + 1)

    def log_choose(a: Any, b: int) -> Any:
        return gammaln(a + 1) - gammaln(b + 1) - gammaln(np.maximum(a - b, 0) + 1)

    return np.where(rank >= n, np.exp(log_choose(rank - 1, n - 1) - log_choose(total, n)), 0.0)


def best_of_n(answers: dict[str, Any], reward_model: RewardModel) -> dict[str, list[float]]:
    """Gold and score of the best of n by the reward model, and the KL of that choice in nats per sequence."""
    gold = np.asarray(answers["gold"])
    scores = np.stack(
        [np.asarray(reward_model.score([prompt] * MOST, texts))
         for prompt, texts in zip(answers["prompts"], answers["texts"], strict=True)]
    )  # fmt: skip
    order = np.argsort(scores, axis=1, kind="stable")
    ranked = np.take_along_axis(gold, order, axis=1), np.take_along_axis(scores, order, axis=1)
    sizes = sorted({round(2 ** (half / 2)) for half in range(17)})
    weights = np.stack([chance_to_be_best(n, MOST) for n in sizes])
    by_gold, by_score = (one @ weights.T for one in ranked)
    return {
        "n": [float(n) for n in sizes],
        "kl": [float(np.log(n) - (n - 1) / n) for n in sizes],
        "gold": by_gold.mean(0).tolist(),
        "gold standard error": (by_gold.std(0, ddof=1) / np.sqrt(len(by_gold))).tolist(),
        "score": by_score.mean(0).tolist(),
    }


def fits(kl: list[float], gold: list[float]) -> list[dict[str, Any]]:
    found = [fit_law(law, np.asarray(kl), np.asarray(gold)) for law in LAWS]
    return [asdict(one) for one in found if one is not None]


def row(name: str, how: str, accuracy: float, one: dict[str, Any]) -> str:
    """One line of the table; the law with the better fit."""
    best = max(one["laws"], key=lambda law: law["r2"])
    peak = "none" if best["peak_kl"] is None else f"{best['peak_kl']:.3g}"
    interval = "" if best["peak_ci95"] is None else f" ({best['peak_ci95'][0]:.3g} … {best['peak_ci95'][1]:.3g})"
    others = ", ".join(f"{law['law']} R² {law['r2']:.3f}" for law in one["laws"])
    seen = "" if best["peak_seen"] else ", outside the points"
    most = int(np.argmax(one["gold"]))
    points = [f"{one['gold'][place]:.3f} at {one['kl'][place]:.3g}" for place in (most, -1)]
    cells = [name, how, f"{accuracy:.3f}", others, f"{best['law']}: {peak}{interval}{seen}", *points]
    return "| " + " | ".join(cells) + " |"


def draw(table: dict[str, dict[str, Any]], target: Path) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained", sharey=True)
    colors = ("#c1666b", "#d9a441", "#2a6f97", "#4f9d69")
    for axis, how in zip(axes, ("best-of-n", "RL"), strict=True):
        for (name, both), color in zip(table.items(), colors, strict=True):
            if how not in both:
                continue
            kl, gold = np.asarray(both[how]["kl"]), np.asarray(both[how]["gold"])
            axis.plot(np.sqrt(np.maximum(kl, 0)), gold, "o", markersize=3, alpha=0.5, color=color)
            law = max(both[how]["laws"], key=lambda one: one["r2"])
            fit = fit_law(law["law"], kl, gold)
            if fit is not None:
                grid = np.linspace(0, kl.max(), 200)
                axis.plot(np.sqrt(grid), fit.at(grid), color=color, label=f"{name} ({law['law']} law)")
        axis.set(xlabel="√KL to the SFT model, √nats per sequence", title=how)
        axis.legend(frameon=False, fontsize=8)
    axes[0].set_ylabel("gold, 0 … 1")
    figure.savefig(target, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/over"))
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    train_all(out)
    answers = sample(out / "all blocks", out / "answers.json")
    table: dict[str, dict[str, Any]] = {}
    lines: list[str] = []
    for name in REWARD_MODELS:
        place = out / name
        accuracy = json.loads((place / "stages/rm/evaluation.json").read_text(encoding="utf-8"))["accuracy"]
        chosen = best_of_n(answers, RewardModel.load(place / "stages/rm/final", torch.float32))
        table[name] = {"accuracy": accuracy, "best-of-n": chosen | {"laws": fits(chosen["kl"], chosen["gold"])}}
        lines.append(row(name, "best-of-n", accuracy, table[name]["best-of-n"]))
        if (place / "summary.json").is_file():
            table[name]["RL"] = frontier(read_run(place))
            lines.append(row(name, "RL", accuracy, table[name]["RL"]))
    print("| reward model | how | right on held-out | fit | peak, nats | most gold | gold at the end |\n|" + "---|" * 7)
    print("\n".join(lines))
    draw(table, out / "overoptimisation.png")
    print(json.dumps(table))


if __name__ == "__main__":
    main()
