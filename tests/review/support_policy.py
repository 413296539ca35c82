"""A healthy stage 4 with rollouts on disk whose rewards, KL and advantages fit together, and ways to break it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from support_record import make_record

from regard.runlog.reader import RunLog

STEPS = 24
Row = dict[str, Any]
Change = Callable[[Row, int, np.random.Generator], Row]

KL, KL_TOKEN, LENGTH = "kl/policy_ref_k1/seq_sum", "kl/policy_ref_k1/token_mean", "length/response_tokens/mean"
SCORE, STD, TOTAL, COEF = (
    "score/reward_model/mean", "score/reward_model/std", "score/total_reward/mean", "kl/coef/value"
)  # fmt: skip
DISTANCE, CLIP = "kl/old_new_k2/mean", "clip/policy/frac"
UPDATE, WEIGHTS, UPDATES = "optim/update_norm/value", "optim/param_norm/value", "optim/updates/count"
RATE, FIRST, SEEN = "optim/learning_rate/last", "kl/old_new_k2/epoch_1", "data/prompts_seen/count"
MEAN, SCALED = "advantage/normalised/mean", "advantage/normalised/std"
LOSS, ENTROPY = "loss/policy/mean", "entropy/policy/token_mean"
BETA = 0.05


def ramp(start: float, end: float, n: int = STEPS) -> list[float]:
    return list(np.linspace(start, end, n))


def plateau(level: float, n: int = STEPS) -> list[float]:
    """Rises in the first third and stays."""
    return [level * min(1.0, 3 * step / n) for step in range(n)]


HEALTHY: dict[str, Sequence[float]] = {
    SCORE: plateau(1.5), STD: ramp(1.0, 0.8), KL: plateau(3.0), KL_TOKEN: plateau(0.5), LENGTH: [6.0] * STEPS,
    COEF: [BETA] * STEPS, TOTAL: list(np.array(plateau(1.5)) - BETA * np.array(plateau(3.0))),
    DISTANCE: ramp(0.02, 0.003), CLIP: ramp(0.1, 0.04), UPDATE: [0.2] * STEPS, WEIGHTS: [20.0] * STEPS,
    UPDATES: [4.0] * STEPS, RATE: ramp(1e-3, 1e-4), FIRST: [0.004] * STEPS, "kl/old_new_k2/epoch_2": [0.01] * STEPS,
    "clip/policy/epoch_1": [0.01] * STEPS, "clip/policy/epoch_2": [0.08] * STEPS, SEEN: ramp(64, 64 * STEPS),
    MEAN: [0.0] * STEPS, SCALED: [1.0] * STEPS, LOSS: ramp(-0.02, -0.005), ENTROPY: ramp(2.6, 2.2),
    "kl/generator_trainer_k3/mean": [1e-9] * STEPS,
    "optim/epochs_done/count": [2.0] * STEPS, "value/explained_variance/value": ramp(0.0, 0.6),
}  # fmt: skip
CONFIG = {
    "ppo": {"kl_coef": BETA, "whiten_advantages": True, "gamma": 1.0, "gae_lambda": 0.95, "clip_range": 0.2,
            "batch_size": 32, "epochs": 2},
}  # fmt: skip


def rollouts(change: Change = lambda row, step, random: row, drop: Sequence[str] = ()) -> Callable[[int], list[Row]]:
    """Eight prompts a step with four responses each. Four of them, and the first response to each, come again at every
    step; the others are new."""

    def rows(step: int) -> list[Row]:
        random = np.random.default_rng(step)
        made: list[Row] = []
        for prompt in range(8):
            asked = str(prompt) if prompt < 4 else f"{step}-{prompt}"
            for number in range(4):
                length = 6 if number == 0 else int(random.integers(4, 9))
                ref = [-2.0 - 0.01 * prompt] * length
                logprobs = [r + 0.1 + 0.2 * random.normal() for r in ref]
                kl = float(np.float32(logprobs).astype(float).sum() - np.float32(ref).astype(float).sum())
                score = float(random.normal())
                rewards = [-BETA * (p - r) for p, r in zip(logprobs, ref, strict=True)]
                rewards[-1] += score
                row = {
                    "rollout_id": f"ppo-{step:06d}-{prompt}-{number}", "prompt_id": asked,
                    "prompt": f"question {asked} :", "response": f"again {prompt}" if number == 0 else
                    f"answer {step} {prompt} {number}", "score": score, "kl_sum": kl, "length": length,
                    "logprobs": logprobs, "ref_logprobs": ref, "rewards": rewards, "returns": [score] * length,
                    "advantages": [score + 0.3 * random.normal() for _ in range(length)],
                }  # fmt: skip
                made.append(change(row, step, random))
        advantages = np.concatenate([row["advantages"] for row in made])
        for row in made:
            if not row.pop("raw", False):
                row["advantages"] = list((np.array(row["advantages"]) - advantages.mean()) / advantages.std())
        return [{key: value for key, value in row.items() if key not in drop} for row in made]

    return rows


def stage_4(
    metrics: Mapping[str, Sequence[float]] | None = None,
    change: Change | None = None,
    *,
    without: Sequence[str] = (),
    drop: Sequence[str] = (),
    ppo: Mapping[str, Any] | None = None,
    rows: bool = True,
) -> Callable[[Path], RunLog]:
    """The healthy stage with other series, other rollouts, other configuration; without some of them."""

    def make(path: Path) -> RunLog:
        series = {key: values for key, values in {**HEALTHY, **(metrics or {})}.items() if key not in without}
        section = {key: value for key, value in {**CONFIG["ppo"], **(ppo or {})}.items() if key not in without}
        made = rollouts(change or (lambda row, step, random: row), drop) if rows else None
        path.mkdir(exist_ok=True)
        return make_record(path, {"ppo": series}, rollouts=made, steps=STEPS, config={"ppo": section})

    return make


def nothing(path: Path) -> RunLog:
    """A stage of which nothing is known."""
    return make_record(path, {"ppo": {}})


# Ways to break rollouts


def unpaid(share: float) -> Change:
    """Of the KL's weight only this share is taken from the rewards."""

    def change(row: Row, step: int, random: np.random.Generator) -> Row:
        rewards = [0.0] * len(row["rewards"])
        rewards[-1] = row["score"] - share * BETA * row["kl_sum"]
        return row | {"rewards": rewards}

    return change


def padded(row: Row, step: int, random: np.random.Generator) -> Row:
    return row | {"kl_sum": row["kl_sum"] + 8.0 - row["length"]}


def moving(row: Row, step: int, random: np.random.Generator) -> Row:
    """From step 13 on the reference gives every token 0.05 nats more."""
    return row | {"ref_logprobs": [r + 0.05 for r in row["ref_logprobs"]]} if step > 12 else row


def negative(row: Row, step: int, random: np.random.Generator) -> Row:
    return row | {"logprobs": [p - 0.4 for p in row["logprobs"]], "kl_sum": row["kl_sum"] - 0.4 * row["length"]}


def alone(row: Row, step: int, random: np.random.Generator) -> Row:
    values = np.array(row["advantages"])
    return row | {"advantages": list((values - values.mean()) / values.std()), "raw": True}


def shifted_advantages(row: Row, step: int, random: np.random.Generator) -> Row:
    return row | {"advantages": [2 * a + 0.4 for a in row["advantages"]], "raw": True}


def blind(row: Row, step: int, random: np.random.Generator) -> Row:
    return row | {"advantages": list(random.normal(size=len(row["advantages"])))}


def fading(row: Row, step: int, random: np.random.Generator) -> Row:
    return row | {"returns": [row["score"] * 0.6 ** (row["length"] - 1 - t) for t in range(row["length"])]}


def worse_grow(row: Row, step: int, random: np.random.Generator) -> Row:
    return row | {"length": row["length"] + (step // 2 if row["score"] < 0 else 0)}
