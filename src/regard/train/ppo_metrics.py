"""What stage 4 records of an iteration: sums gathered during the update, metrics, and one row per rollout."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from regard.config import PPOConfig
from regard.ops import AdvantageOutput, PolicyLossOutput, ShapedReward, ValueLossOutput, kl_k2, kl_k3, masked_mean
from regard.text import distinct_n, rank_correlation, repetition
from regard.train.stage import StepStats

if TYPE_CHECKING:
    from regard.train.ppo import Rollouts

MAX_EPOCHS_LOGGED = 8


@dataclass
class UpdateSums:
    """Counts and sums over an iteration's minibatches, so that every mean is over the tokens it claims."""

    WIDTH = 11
    total: Tensor = field(default_factory=lambda: torch.zeros(UpdateSums.WIDTH, dtype=torch.float64))
    updates: int = 0
    epoch_kl: list[float] = field(default_factory=list)
    epoch_ratio: list[float] = field(default_factory=list)
    epoch_clip: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)
    value_grad_norm: float | None = None
    clipped: int = 0
    nonfinite: int = 0
    learning_rate: float = 0.0
    ratio_max: float = float("-inf")
    ratio_min: float = float("inf")
    early_stopped: bool = False

    @staticmethod
    def of_policy(surrogate: PolicyLossOutput) -> Tensor:
        """Losses are shares of a minibatch's mean, the rest are sums over tokens."""
        return torch.tensor(
            [
                float(surrogate.loss.detach()),
                0.0,
                0.0,
                float(surrogate.num_tokens),
                float(surrogate.ratio_sum),
                float(surrogate.ratio_sq_sum),
                float(surrogate.clip_hi_count),
                float(surrogate.clip_lo_count),
                float(surrogate.approx_kl_sum),
                0.0,
                0.0,
            ],
            dtype=torch.float64,
        )

    @staticmethod
    def of_value(value: ValueLossOutput) -> Tensor:
        rest = [float(value.clip_count), float(value.error_sq_sum)]
        return torch.tensor([0.0, float(value.loss.detach()), *[0.0] * 7, *rest], dtype=torch.float64)

    def add_update(self, local: Tensor, extremes: Tensor, stats: StepStats, learning_rate: float) -> None:
        self.total += local
        self.updates += 1
        self.ratio_max = max(self.ratio_max, float(extremes[0]))
        self.ratio_min = min(self.ratio_min, -float(extremes[1]))
        self.grad_norms.append(stats.grad_norm)
        self.value_grad_norm = stats.value_grad_norm
        self.clipped += stats.clipped
        self.nonfinite += not stats.finite
        self.learning_rate = learning_rate

    def add_epoch(self, sums: Tensor) -> None:
        tokens = float(sums[3])
        self.epoch_kl.append(float(sums[8]) / tokens)
        self.epoch_ratio.append(float(sums[4]) / tokens)
        self.epoch_clip.append(float(sums[6] + sums[7]) / tokens)


def iteration_metrics(
    rollouts: "Rollouts",
    shaped: ShapedReward,
    raw: AdvantageOutput,
    advantages: Tensor,
    sums: UpdateSums,
    kl_coef: float,
    config: PPOConfig,
    reward_scale: float,
    step: int,
    clock: list[float],
) -> dict[str, float]:
    """One iteration under the keys of `regard.runlog.metrics`. `clock`: start, sampled, scored, updated."""
    mask = rollouts.batch.response_mask
    lengths = mask.sum(1).double()
    scores = np.asarray(rollouts.scores)
    kl_sequence = shaped.kl.sum(1)
    total, tokens = sums.total, float(sums.total[3])
    values, returns = rollouts.old_values[mask].double(), raw.returns[mask].double()
    generator_logprobs = torch.zeros_like(rollouts.old_logprobs)
    for row, logprobs in enumerate(rollouts.generator_logprobs):
        generator_logprobs[row, : len(logprobs)] = torch.tensor(logprobs)
    finished = np.asarray(rollouts.finished, dtype=float)
    repeats = Counter(prompt.text for prompt in rollouts.prompts)
    seconds = clock[-1] - clock[0]
    count = len(rollouts.prompts)
    metrics = {
        "score/reward_model/mean": float(scores.mean()),
        "score/reward_model/std": float(scores.std()),
        "score/reward_model/min": float(scores.min()),
        "score/reward_model/max": float(scores.max()),
        "score/total_reward/mean": float(shaped.rewards.sum(1).mean()),
        "score/reward_scale/value": reward_scale,
        "score/missing_eos_penalty/mean": config.missing_eos_penalty * float(1 - finished.mean()),
        "kl/policy_ref_k1/seq_sum": float(kl_sequence.mean()),
        "kl/policy_ref_k1/token_mean": float(masked_mean(shaped.kl, mask)),
        "kl/policy_ref_k2/token_mean": float(masked_mean(kl_k2(rollouts.old_logprobs, rollouts.ref_logprobs), mask)),
        "kl/policy_ref_k3/token_mean": float(masked_mean(kl_k3(rollouts.old_logprobs, rollouts.ref_logprobs), mask)),
        "kl/coef/value": kl_coef,
        "kl/old_new_k2/mean": float(total[8]) / tokens,
        "kl/generator_trainer_k3/mean": float(masked_mean(kl_k3(generator_logprobs, rollouts.old_logprobs), mask)),
        "ratio/old_new/mean": float(total[4]) / tokens,
        "ratio/old_new/std": max(0.0, float(total[5]) / tokens - (float(total[4]) / tokens) ** 2) ** 0.5,
        "ratio/old_new/max": sums.ratio_max,
        "ratio/old_new/min": sums.ratio_min,
        "clip/policy/frac": float(total[6] + total[7]) / tokens,
        "clip/policy_high/frac": float(total[6]) / tokens,
        "clip/policy_low/frac": float(total[7]) / tokens,
        "clip/value/frac": float(total[9]) / tokens,
        "loss/policy/mean": float(total[0]) / sums.updates,
        "loss/value/mean": float(total[1]) / sums.updates,
        "loss/total/mean": float(total[2]) / sums.updates,
        "value/explained_variance/value": explained_variance(values, returns),
        "value/prediction/mean": float(values.mean()),
        "value/prediction/min": float(values.min()),
        "value/prediction/max": float(values.max()),
        "value/returns/mean": float(returns.mean()),
        "value/returns/std": float(returns.std(correction=0)),
        "advantage/raw/mean": float(masked_mean(raw.advantages, mask)),
        "advantage/raw/std": float(raw.advantages[mask].double().std(correction=0)),
        "advantage/normalised/mean": float(masked_mean(advantages, mask)),
        "advantage/normalised/std": float(advantages[mask].double().std(correction=0)),
        "entropy/policy/token_mean": float(masked_mean(rollouts.entropy, mask)),
        "length/response_tokens/mean": float(lengths.mean()),
        "length/response_tokens/max": float(lengths.max()),
        "length/cap/value": float(config.max_response_tokens),
        "finish/eos/frac": float(finished.mean()),
        "finish/truncated/frac": float(1 - finished.mean()),
        "text/distinct_2/frac": distinct_n(rollouts.texts, 2),
        "text/repetition/frac": repetition(rollouts.texts),
        "optim/grad_norm/last": sums.grad_norms[-1],
        "optim/grad_clipped/frac": sums.clipped / sums.updates,
        "optim/nonfinite_grads/count": float(sums.nonfinite),
        "optim/learning_rate/last": sums.learning_rate,
        "optim/updates/count": float(sums.updates),
        "optim/epochs_done/count": float(len(sums.epoch_kl)),
        "optim/early_stopped/flag": float(sums.early_stopped),
        "policy/staleness/mean": 0.0,  # every rollout is drawn from the weights that its update starts from
        "data/prompts_seen/count": float((step + 1) * count),
        "data/prompt_duplicates/frac": 1 - len(repeats) / count,
        "time/rollout_s": clock[1] - clock[0],
        "time/score_s": clock[2] - clock[1],
        "time/update_s": clock[3] - clock[2],
        "time/total_s": seconds,
        "throughput/tokens_per_s": float(lengths.sum()) / seconds,
        "throughput/episodes_per_s": count / seconds,
    }
    for percent in (5, 50, 95):
        metrics[f"length/response_tokens/p{percent}"] = float(np.percentile(lengths.numpy(), percent))
    if config.kl_target is not None:
        metrics["kl/target/value"] = config.kl_target
    if not config.has_critic:
        of_value = [key for key in metrics if key.startswith(("value/", "loss/value/", "clip/value/"))]
        for key in of_value:
            del metrics[key]
    elif sums.value_grad_norm is not None:
        metrics["optim/grad_norm_value/last"] = sums.value_grad_norm
    metrics |= group_metrics([prompt.text for prompt in rollouts.prompts], scores, rollouts.texts)
    for epoch in range(min(MAX_EPOCHS_LOGGED, len(sums.epoch_kl))):
        metrics[f"kl/old_new_k2/epoch_{epoch + 1}"] = sums.epoch_kl[epoch]
        metrics[f"ratio/old_new/epoch_{epoch + 1}"] = sums.epoch_ratio[epoch]
        metrics[f"clip/policy/epoch_{epoch + 1}"] = sums.epoch_clip[epoch]
    for name, values_of_judge in rollouts.judged.items():
        own_key = {"gold": "gold/judge/mean", "main_score": "score/main_component/mean"}
        metrics[own_key.get(name, f"gold/{name}/mean")] = float(np.mean(values_of_judge))
    if "gold" in rollouts.judged and scores.std() > 0 and np.std(rollouts.judged["gold"]) > 0:
        metrics["gold/score_correlation/spearman"] = rank_correlation(scores, rollouts.judged["gold"])
    return metrics


def group_metrics(prompts: list[str], scores: np.ndarray, texts: list[str]) -> dict[str, float]:
    """Spread and variety within the groups of responses to one prompt; nothing where no prompt repeats."""
    groups: dict[str, list[int]] = defaultdict(list)
    for row, prompt in enumerate(prompts):
        groups[prompt].append(row)
    repeated = [rows for rows in groups.values() if len(rows) > 1]
    if not repeated:
        return {}
    deviations = [float(scores[rows].std()) for rows in repeated]
    return {
        "group/zero_std/frac": float(np.mean([deviation == 0.0 for deviation in deviations])),
        "group/reward_std/mean": float(np.mean(deviations)),
        "group/distinct_text/frac": float(np.mean([len({texts[r] for r in rows}) / len(rows) for rows in repeated])),
    }


def explained_variance(values: Tensor, returns: Tensor) -> float:
    """EV = 1 − Var(return − value)/Var(return); NaN when the returns do not vary."""
    variance = float(returns.var(correction=0))
    return 1 - float((returns - values).var(correction=0)) / variance if variance > 0 else float("nan")


def rollout_rows(
    rollouts: "Rollouts", shaped: ShapedReward, advantages: Tensor, raw: AdvantageOutput, step: int, version: int
) -> list[dict[str, Any]]:
    """One row per response with its per-token arrays; `policy_version` is the number of updates before sampling."""
    rows: list[dict[str, Any]] = []
    for i, prompt in enumerate(rollouts.prompts):
        n = len(rollouts.responses[i])
        rows.append(
            {
                "rollout_id": f"ppo-{step:06d}-{i:05d}",
                "step": step,
                "policy_version": version,
                "prompt_id": prompt.prompt_id,
                "prompt": prompt.text,
                "response": rollouts.texts[i],
                "prompt_tokens": list(prompt.tokens),
                "tokens": rollouts.responses[i],
                "finished": rollouts.finished[i],
                "truncated": not rollouts.finished[i],
                "score": rollouts.scores[i],
                **{name: judged[i] for name, judged in rollouts.judged.items()},
                "kl_sum": float(shaped.kl[i].sum()),
                "length": n,
                "logprobs": rollouts.old_logprobs[i, :n].tolist(),
                "ref_logprobs": rollouts.ref_logprobs[i, :n].tolist(),
                "generator_logprobs": rollouts.generator_logprobs[i],
                "values": rollouts.old_values[i, :n].tolist(),
                "advantages": advantages[i, :n].tolist(),
                "returns": raw.returns[i, :n].tolist(),
                "rewards": shaped.rewards[i, :n].tolist(),
            }
        )
    return rows
