"""TRL's GRPO and RLOO trainers, which write the same keys.

GRPO's `kl` is k3 and RLOO's is k1, both per token; RLOO clips the ratio of the whole sequence. Which trainer wrote a
log is read from its configuration (`scale_rewards` is GRPO's, `normalize_advantages` RLOO's) or said with `--from`;
without either, the estimator and what the clip counts are unknown. A loss of 0 is by construction with one iteration
(trl#3452), and so is a clip ratio of 0 (trl#3120).
"""

from regard.runlog.importers.vocabulary import HF_CONFIG_KEYS, HF_TRAINER, Meaning, Vocabulary

_SHARED: dict[str, Meaning] = {
    **HF_TRAINER,
    "reward": "score/reward_model/mean",
    "reward_std": "score/reward_model/std",
    "frac_reward_zero_std": "group/zero_std/frac",
    "entropy": "entropy/policy/token_mean",
    "loss": "loss/total/mean",
    "policy_loss": "loss/policy/mean",
    "completions/mean_length": "length/response_tokens/mean",
    "completions/min_length": "length/response_tokens/min",
    "completions/max_length": "length/response_tokens/max",
    "completion_length": "length/response_tokens/mean",
    "completions/clipped_ratio": "finish/truncated/frac",
    "completions/*_terminated_length": None,
    "sampling/sampling_logp_difference/mean": "kl/generator_trainer_absdiff/mean",
    "sampling/sampling_logp_difference/max": "kl/generator_trainer_absdiff/max",
    "sampling/importance_sampling_ratio/*": None,
    "rewards/*": None,  # one for each reward function
    "clip_ratio/*": None,
    "cispo_clip_ratio": None,
    "tools/*": None,
    "entropy_coef": None,
}
_CONFIG_KEYS = {
    **HF_CONFIG_KEYS,
    "ppo.kl_coef": "beta",
    "ppo.epochs": "num_iterations",
    "ppo.clip_range": "epsilon",
    "ppo.clip_range_high": "epsilon_high",
    "ppo.temperature": "temperature",
    "ppo.max_response_tokens": "max_completion_length",
}
_FINGERPRINT = ("reward", "frac_reward_zero_std", "completions/mean_length")

TRL_GRPO = Vocabulary(
    name="trl-grpo",
    stage="grpo",
    fingerprint=_FINGERPRINT,
    settings=("scale_rewards",),
    source="trl/trainer/grpo_trainer.py",
    keys={
        **_SHARED,
        "kl": "kl/policy_ref_k3/token_mean",
        "clip_ratio/region_mean": "clip/policy/frac",
        "clip_ratio/low_mean": "clip/policy_low/frac",
        "clip_ratio/high_mean": "clip/policy_high/frac",
        "clip_ratio": "clip/policy/frac",
    },
    config_keys={**_CONFIG_KEYS, "ppo.entropy_coef": "entropy_coef"},
)
TRL_RLOO = Vocabulary(
    name="trl-rloo",
    stage="rloo",
    fingerprint=_FINGERPRINT,
    settings=("normalize_advantages",),
    source="trl/trainer/rloo_trainer.py",
    keys={
        **_SHARED,
        "kl": "kl/policy_ref_k1/token_mean",
        "clip_ratio/region_mean": "clip/policy_sequences/frac",
    },
    config_keys={**_CONFIG_KEYS, "ppo.whiten_advantages": "normalize_advantages"},
)
TRL_GROUP = Vocabulary(
    name="trl-grpo-or-rloo",
    stage="grpo",
    fingerprint=_FINGERPRINT,
    source="trl/trainer/grpo_trainer.py, rloo_trainer.py",
    keys={**_SHARED, "kl": "kl/policy_ref_unknown/token_mean"},
    config_keys=_CONFIG_KEYS,
)
VOCABULARIES = (TRL_GRPO, TRL_RLOO, TRL_GROUP)
