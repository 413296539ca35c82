"""Equations as functions of tensors. Imports torch and nothing else of ours.

Letters in shapes: B sequences, T response positions, V vocabulary, G items of a list, N flat items, K models or parts,
D width. Logarithms are natural. Every loss takes its denominator from the caller.
"""

from regard.ops.advantages import (
    AdvantageOutput,
    gae,
    group_relative_advantages,
    leave_one_out_advantages,
    reward_to_go,
    td_advantages,
)
from regard.ops.kl import kl_exact, kl_k1, kl_k2, kl_k3
from regard.ops.logprobs import (
    LogprobOutput,
    chunked_logprobs,
    entropy_from_logits,
    logprobs_from_logits,
    output_logits,
)
from regard.ops.losses.dpo import DPOLossOutput, dpo_loss
from regard.ops.losses.policy import PolicyLossOutput, a2c_loss, ppo_clip_loss
from regard.ops.losses.ranking import (
    RankingLossOutput,
    centering_penalty,
    listwise_pairwise_loss,
    pairwise_loss,
    plackett_luce_loss,
    pointwise_loss,
    ranking_to_pairs,
)
from regard.ops.losses.sft import sft_loss
from regard.ops.losses.value import ValueLossOutput, clipped_value_loss
from regard.ops.masking import masked_mean, masked_sum, masked_var, masked_whiten, zero_outside
from regard.ops.rewards import (
    ShapedReward,
    break_even_kl_coef,
    ensemble_score,
    eos_reward,
    kl_penalty,
    segment_score,
    shaped_reward,
)

__all__ = [
    "AdvantageOutput",
    "DPOLossOutput",
    "LogprobOutput",
    "PolicyLossOutput",
    "RankingLossOutput",
    "ShapedReward",
    "ValueLossOutput",
    "a2c_loss",
    "break_even_kl_coef",
    "centering_penalty",
    "chunked_logprobs",
    "clipped_value_loss",
    "dpo_loss",
    "ensemble_score",
    "entropy_from_logits",
    "eos_reward",
    "gae",
    "group_relative_advantages",
    "kl_exact",
    "kl_k1",
    "kl_k2",
    "kl_k3",
    "kl_penalty",
    "leave_one_out_advantages",
    "listwise_pairwise_loss",
    "logprobs_from_logits",
    "masked_mean",
    "masked_sum",
    "masked_var",
    "masked_whiten",
    "output_logits",
    "pairwise_loss",
    "plackett_luce_loss",
    "pointwise_loss",
    "ppo_clip_loss",
    "ranking_to_pairs",
    "reward_to_go",
    "segment_score",
    "sft_loss",
    "shaped_reward",
    "td_advantages",
    "zero_outside",
]
