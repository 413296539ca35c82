"""A FIXTURE: writes a run directory with invented but plausible numbers, to test the report without training.

Nothing here was measured. `python tests/report/make_run.py DIR` writes one and its report.
"""

import json
import math
import random
import sys
from pathlib import Path

import yaml

from regard.runlog.rollouts import encode_rollouts, rollouts_name
from regard.runlog.writer import RunWriter

STAGES = ("pretrain", "sft", "rm", "ppo", "eval")
PROMPT = "I went to see this film with low expectations, and"
BAD = "it was dull from the first scene, the jokes fell flat and I left before the end."
GOOD = "it surprised me: a warm, funny story, lovely performances and an ending that stays with you."
TOLERANCE = 1e-3


def make_run(
    path: Path,
    *,
    stages: tuple[str, ...] = STAGES,
    steps: int = 40,
    collapse: bool = False,
    nan_steps: tuple[int, ...] = (),
    sample_text: str | None = None,
    broken_reference: bool = False,
    seed: int = 7,
) -> Path:
    """Write a run.

    Args:
        stages: those that ran; without "eval" there is no summary, as in an interrupted run.
        collapse: the score climbs and gold falls.
        nan_steps: steps of stage 4 whose gradient norm and score are NaN.
        sample_text: the policy's answer in the first sample.
        broken_reference: the reference's hash changes over stage 4.
    """
    rng = random.Random(seed)
    config = {
        "recipe": "fixture",
        "seed": seed,
        "model": {"source": "scratch", "dtype": "float32", "lora_rank": 0},
        "ppo": {"algorithm": "ppo", "steps": steps, "kl_coef": 0.05, "clip_range": 0.2},
    }
    run = RunWriter(path, config=config, seed=seed, argv=["regard", "run", "fixture"])
    seconds = {"fetch": 1.4, "pretrain": 41.0, "sft": 18.6, "rm": 25.1, "ppo": 96.3, "eval": 9.8}
    memory = {"fetch": 0.4, "pretrain": 0.9, "sft": 1.0, "rm": 1.2, "ppo": 1.7, "eval": 1.5}
    for name in ("fetch", *stages):
        run.set_stage(name, "done", seconds=seconds[name], peak_memory_gb=memory[name])
    if "pretrain" in stages:
        _language_model(run, "pretrain", 120, 6.2, 3.4, rng)
    if "sft" in stages:
        _language_model(run, "sft", 60, 3.4, 2.9, rng)
    if "rm" in stages:
        _reward_model(run, rng)
    if "ppo" in stages:
        _policy(run, steps, collapse, nan_steps, rng)
        _lineage(run, broken_reference)
    if "eval" in stages:
        _evaluation(run, collapse, sample_text, rng)
        _summary(run, collapse, seconds, memory)
    run.close()
    return path


def _language_model(run: RunWriter, stage: str, steps: int, start: float, end: float, rng: random.Random) -> None:
    log = run.stage(stage)
    log.log(0, {"loss/sft_eval/mean": start})
    for step in range(1, steps + 1):
        loss = end + (start - end) * math.exp(-4 * step / steps)
        metrics = {"loss/sft/mean": loss + rng.gauss(0, 0.04), "throughput/tokens_per_s": 5000 + rng.gauss(0, 200)}
        if step % 10 == 0:
            metrics["loss/sft_eval/mean"] = loss + 0.05
        log.log(step, metrics)


def _reward_model(run: RunWriter, rng: random.Random) -> None:
    log = run.stage("rm")
    for step in range(1, 81):
        progress = 1 - math.exp(-step / 25)
        metrics = {
            "loss/rm/mean": 0.693 - 0.24 * progress + rng.gauss(0, 0.03),
            "rm/accuracy_train/mean": min(1.0, 0.5 + 0.31 * progress + rng.gauss(0, 0.03)),
        }
        if step % 8 == 0:
            metrics["rm/accuracy_val/mean"] = 0.5 + 0.24 * progress + rng.gauss(0, 0.01)
        log.log(step, metrics)
    edges = (0.0, 0.5, 1.0, 2.0, 3.0, math.inf)
    bins = zip(edges, edges[1:], (412, 388, 521, 240, 96), (0.54, 0.63, 0.76, 0.87, 0.94), (0.55, 0.68, 0.83, 0.93, 0.99), strict=False)  # fmt: skip  # noqa: E501
    run.write_json(
        "stages/rm/evaluation.json",
        {
            "pairs": 1657,
            "accuracy": 0.731,
            "ci95": [0.702, 0.758],
            "kept_rater_accuracy": 0.709,
            "human_ceiling": 0.782,
            "bins": [
                {"margin": [low, high], "pairs": n, "accuracy": a, "human_agreement": h} for low, high, n, a, h in bins
            ],
            "ece": 0.043,
            "reliability": [
                {
                    "p": [k / 10, (k + 1) / 10],
                    "predicted": (k + 0.5) / 10,
                    "observed": 0.5 + 0.8 * ((k + 0.5) / 10 - 0.5),
                    "pairs": 80 + 60 * min(k, 9 - k),
                }
                for k in range(10)
            ],
            "score_length_spearman": 0.18,
        },
    )


def _policy(run: RunWriter, steps: int, collapse: bool, nan_steps: tuple[int, ...], rng: random.Random) -> None:
    log = run.stage("ppo")
    log.log(
        0,
        {
            "invariant/ratio_max_deviation/value": 1.2e-6,
            "invariant/kl_ref/value": -3.1e-6,
            "invariant/two_forwards_max_diff/value": 0.0,
            "invariant/padding_max_diff/value": 9.5e-7,
            "invariant/microbatch_max_diff/value": 1.9e-6,
            "invariant/generator_trainer_max_diff/value": 2.1e-6,
            "invariant/frozen_hashes_equal/flag": 1.0,
        },
    )
    log.event("invariants", passed=True, broken=[], tolerance=TOLERANCE)
    for step in range(1, steps + 1):
        t = step / steps
        score = 1.9 * (1 - math.exp(-2.5 * t)) + rng.gauss(0, 0.08)
        kl = (40 if collapse else 7) * t**1.3 + rng.gauss(0, 0.15)
        gold = 0.42 + 0.3 * t * (1.6 - 2.4 * t if collapse else 1.0) + rng.gauss(0, 0.012)
        nan = step in nan_steps
        log.log(
            step,
            {
                "score/reward_model/mean": math.nan if nan else score,
                "score/reward_model/std": 0.9 - 0.3 * t,
                "gold/judge/mean": gold,
                "gold/vader/mean": 2 * gold - 0.75,
                "kl/policy_ref_k1/seq_sum": kl,
                "kl/policy_ref_k1/token_mean": kl / 30,
                "entropy/policy/token_mean": 3.1 - (2.6 if collapse else 0.7) * t + rng.gauss(0, 0.03),
                "length/response_tokens/mean": 29 + 6 * t + rng.gauss(0, 0.6),
                "length/response_tokens/p5": 11 + 5 * t,
                "length/response_tokens/p95": 48.0,
                "length/cap/value": 48.0,
                "finish/truncated/frac": max(0.0, 0.12 + 0.1 * t + rng.gauss(0, 0.02)),
                "clip/policy/frac": max(0.0, 0.09 + rng.gauss(0, 0.02)),
                "kl/old_new_k2/mean": abs(0.006 + rng.gauss(0, 0.0015)),
                "value/explained_variance/value": 0.7 * (1 - math.exp(-5 * t)) - 0.2 * (t < 0.05) + rng.gauss(0, 0.04),
                "optim/grad_norm/last": math.nan if nan else math.exp(rng.gauss(0.2, 0.35)) * (12 if step == 17 else 1),
                "kl/coef/value": 0.05,
                "kl/target/value": 6.0,
                "loss/policy/mean": rng.gauss(-0.01, 0.004),
                "loss/value/mean": 0.4 * math.exp(-t),
                "ratio/old_new/max": 1.9 + rng.gauss(0, 0.2),
                "time/rollout_s": 1.1 + rng.gauss(0, 0.05),
                "time/score_s": 0.32 + rng.gauss(0, 0.02),
                "time/update_s": 0.94 + rng.gauss(0, 0.05),
                "time/total_s": 2.45,
                "throughput/tokens_per_s": 820 + rng.gauss(0, 20),
                "memory/peak_rss/gb": 1.7,
            },
        )
        if step % 20 == 0:
            row = {"rollout_id": f"{step}-0", "prompt": PROMPT, "response": GOOD, "score": score, "gold": gold}
            log.rollouts(step, [row])


def add_rollouts(path: Path, step: int, texts: list[str], scores: list[float]) -> list[str]:
    """Replace the rollouts of one step of stage 4 by these responses to prompts p0, p1 …; returns their ids."""
    rows = [
        {
            "rollout_id": f"ppo-{step:06d}-{i:05d}",
            "prompt_id": f"p{i}",
            "prompt": f"The film number {i} is",
            "response": text,
            "score": score,
            "length": len(text.split()),
            "truncated": False,
        }
        for i, (text, score) in enumerate(zip(texts, scores, strict=True))
    ]
    target = path / "stages/ppo/rollouts" / rollouts_name(step)
    target.write_bytes(encode_rollouts(step, rows))
    return [row["rollout_id"] for row in rows]


def _lineage(run: RunWriter, broken_reference: bool) -> None:
    artifacts = {}
    for name, place, frozen in (
        ("policy", "ppo", False),
        ("reference", "sft", not broken_reference),
        ("reward_model", "rm", True),
        ("value", "ppo", False),
    ):
        before = f"{random.Random(name).getrandbits(256):064x}"
        after = before if frozen else f"{random.Random(name + 'after').getrandbits(256):064x}"
        artifacts[name] = {"path": f"stages/{place}/final", "sha256_before": before, "sha256_after": after}
    run.write_json("lineage.json", {"artifacts": artifacts, "inputs": {"imdb-reviews/train.parquet": "ab" * 32}})


def _evaluation(run: RunWriter, collapse: bool, sample_text: str | None, rng: random.Random) -> None:
    samples = []
    for i in range(24):
        gain = rng.gauss(-0.2 if collapse else 0.25, 0.3)
        before = rng.uniform(0.2, 0.6)
        samples.append(
            {
                "prompt": PROMPT if i % 2 else "The director is known for long takes. Here, however, the camera",
                "sft": BAD,
                "policy": "great great great great great" if collapse else GOOD if gain > 0 else BAD,
                "score_sft": before * 2 - 1,
                "score_policy": before * 2 + 0.8,
                "gold_sft": before,
                "gold_policy": before + gain,
                "vader_sft": -0.4,
                "vader_policy": 0.7 if gain > 0 else -0.3,
            }
        )
    if sample_text is not None:
        for sample in samples:
            sample["policy"] = sample_text
    run.write_json("stages/eval/samples.json", samples)


def _summary(run: RunWriter, collapse: bool, seconds: dict[str, float], memory: dict[str, float]) -> None:
    gold = (
        {"sft": 0.421, "policy": 0.302, "difference": -0.119, "ci95": [-0.157, -0.081], "n": 256}
        if collapse
        else {"sft": 0.421, "policy": 0.698, "difference": 0.277, "ci95": [0.231, 0.322], "n": 256}
    )
    run.write_json(
        "summary.json",
        {
            "recipe": "fixture",
            "seed": 7,
            "gold": gold,
            "score": {"sft": 0.02, "policy": 1.71, "difference": 1.69, "ci95": [1.55, 1.84], "n": 256},
            "vader": {"sft": 0.09, "policy": 0.61, "difference": 0.52, "ci95": [0.43, 0.6], "n": 256},
            "kl": {"per_sequence": 6.84, "per_token": 0.202, "unit": "nats"},
            "perplexity": {"sft": 24.1, "policy": 27.9, "ratio": 27.9 / 24.1},
            "length": {"sft": 29.4, "policy": 34.8},
            "distinct_2": {"sft": 0.71, "policy": 0.64},
            "truncated": {"sft": 0.117, "policy": 0.203},
            "reward_model": {
                "accuracy": 0.731,
                "ci95": [0.702, 0.758],
                "human_ceiling": 0.782,
                "kept_rater_accuracy": 0.709,
            },
            "seconds": seconds,
            "peak_memory_gb": memory,
            "verdict": "Worse: gold 0.421 → 0.302 (−0.119, 95 % −0.157 … −0.081) while the optimised score went +1.690"
            if collapse
            else "Better: gold 0.421 → 0.698 (+0.277, 95 % +0.231 … +0.322)",
        },
    )


if __name__ == "__main__":
    from regard.report import write_report

    root = Path(sys.argv[1])
    print(write_report(make_run(root)))
    assert yaml.safe_load((root / "config.yaml").read_text())["recipe"] == "fixture"
    assert json.loads((root / "summary.json").read_text())["recipe"] == "fixture"
