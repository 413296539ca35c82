"""Rollouts drawn from small softmax policies, so that what sampler, trainer and reference say of a token is exact."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from support_record import Row, make_record

from regard.runlog.reader import RunLog

Build = Callable[[Path], RunLog]
WORDS, DRIFT, CAP = 8, 0.12, 12
EXACT = [{"kind": "invariants", "tolerance": 1e-3}]


def log_softmax(logits: Any) -> Any:
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def drawn(kind: str = "same", since: int = 0, drop: Sequence[str] = (), **change: Any) -> Callable[[int], list[Row]]:
    """Rows of a step. The policy moves from the reference with the steps; the sampler is the policy, or from step
    `since` on: "cold" (temperature 0.7), "top" (the three likeliest), "noisy" (other logits by 0.15), "old" (the policy
    of six steps ago, or of the first), or the trainer is "padded" (wrong by 0.1 for each padded position).

    change: columns set to a function of (row, random).
    """

    def rows(step: int) -> list[Row]:
        random = np.random.default_rng(step)
        made: list[Row] = []
        for number in range(64):
            length, prompt = int(random.integers(3, CAP)), (step - 1) * 16 + number // 4
            prompt_tokens = [2] * int(random.integers(2, 8))
            base, direction = random.normal(0, 1.5, (length, WORDS)), random.normal(0, 1, (length, WORDS))
            logits = base + DRIFT * (step - 1) * direction
            policy, reference, sampler = log_softmax(logits), log_softmax(base), log_softmax(logits)
            if step >= since:
                if kind == "cold":
                    sampler = log_softmax(logits / 0.7)
                elif kind == "top":
                    least = np.sort(logits)[:, -3:-2]
                    sampler = log_softmax(np.where(logits >= least, logits, -1e9))
                elif kind == "noisy":
                    sampler = log_softmax(logits + random.normal(0, 0.15, logits.shape))
                elif kind == "old":
                    sampler = log_softmax(base + DRIFT * max(step - 7, 0) * direction)
                elif kind == "padded":
                    pads = (CAP + 7) - length - len(prompt_tokens)
                    policy = log_softmax(logits + random.normal(0, 0.1 * pads, logits.shape))
            below = np.exp(sampler).cumsum(1)[:, :-1] < random.random((length, 1))
            tokens = below.sum(1).tolist()
            at = np.arange(length), tokens
            gold = random.normal()
            row: Row = {
                "rollout_id": f"ppo-{step:06d}-{number:05d}", "prompt_id": str(prompt), "prompt": f"question {prompt}",
                "response": f"answer {step} {number}", "prompt_tokens": prompt_tokens, "tokens": tokens,
                "score": gold + 0.5 * random.normal(), "gold": gold, "length": length, "policy_version": step,
                "finished": True, "truncated": False,
                "logprobs": policy[at].tolist(), "ref_logprobs": reference[at].tolist(),
                "generator_logprobs": sampler[at].tolist(),
            }  # fmt: skip
            for column, function in change.items():
                row[column] = function(row, random)
            made.append({key: value for key, value in row.items() if key not in drop})
        return made

    return rows


def stage_4(
    metrics: Mapping[str, Sequence[float]] | None = None, rows: Any = None, steps: int = 24, **more: Any
) -> Build:
    """A record of stage 4; `more` are keywords of `make_record`."""
    more.setdefault("events", {"ppo": EXACT})
    return lambda path: make_record(path, {"ppo": metrics or {}, **more.pop("stages", {})},
                                    rollouts=rows, steps=steps, **more)  # fmt: skip


def ramp(start: float, end: float, n: int = 40) -> list[float]:
    return list(np.linspace(start, end, n))


def wobble(mean: float, size: float, n: int = 40, seed: int = 0) -> list[float]:
    return list(mean + size * np.random.default_rng(seed).standard_normal(n))
