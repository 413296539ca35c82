"""TRL's PPO trainer up to 1.12.0, and its predecessor up to 0.11.

`objective/kl` is a sum over the response; `policy/approxkl_avg`, `policy/entropy_avg` and `val/ratio` average over
padding too (trl#6809). `objective/entropy` counted each pad as one nat of certainty and so could fall below 0
(trl#2496); 1.12.0 masks it, but a log does not state its version. `objective/scores` contains the missing-EOS penalty.
"""

from regard.runlog.importers.vocabulary import HF_CONFIG_KEYS, HF_TRAINER, Vocabulary, kl_by

TRL_PPO = Vocabulary(
    name="trl-ppo",
    stage="ppo",
    fingerprint=("objective/kl", "objective/scores", "policy/approxkl_avg"),
    source="trl/experimental/ppo/ppo_trainer.py",
    keys={
        **HF_TRAINER,
        "objective/scores": "score/reward_model/mean",
        "objective/rlhf_reward": "score/total_reward/mean",
        "objective/non_score_reward": "score/kl_penalty/seq_sum",
        "objective/kl": kl_by("kl_estimator", "seq_sum"),
        "objective/entropy": None,  # pads were counted, so it is neither a sum nor a mean of entropies
        "policy/entropy_avg": "entropy/policy/unmasked_mean",
        "policy/approxkl_avg": "kl/old_new_k2/unmasked_mean",
        "policy/clipfrac_avg": "clip/policy/frac",
        "loss/policy_avg": "loss/policy/mean",
        "loss/value_avg": "loss/value/mean",
        "val/clipfrac_avg": "clip/value/frac",
        "val/ratio": "ratio/old_new/unmasked_mean",
        "val/ratio_var": None,  # between minibatch means, not between tokens
        "val/num_eos_tokens": None,  # of one process, pads included where pad is EOS
        "lr": "optim/learning_rate/last",
        "eps": "throughput/episodes_per_s",
        "episode": None,
    },
    config_keys={
        **HF_CONFIG_KEYS,
        "ppo.kl_coef": "kl_coef",
        "ppo.epochs": "num_ppo_epochs",
        "ppo.num_minibatches": "num_mini_batches",
        "ppo.micro_batch_size": "local_rollout_forward_batch_size",
        "ppo.clip_range": "cliprange",
        "ppo.value_clip_range": "cliprange_value",
        "ppo.value_coef": "vf_coef",
        "ppo.gamma": "gamma",
        "ppo.gae_lambda": "lam",
        "ppo.temperature": "temperature",
        "ppo.max_response_tokens": "response_length",
        "ppo.missing_eos_penalty": "missing_eos_penalty",
    },
)

TRL_LEGACY_PPO = Vocabulary(
    name="trl-legacy-ppo",
    stage="ppo",
    fingerprint=("objective/kl", "objective/kl_coef", "ppo/mean_scores"),
    source="trl/trainer/ppo_trainer.py of 2024-06",
    keys={
        "objective/kl": kl_by("kl_penalty", "seq_sum"),
        "objective/kl_coef": "kl/coef/value",
        "objective/entropy": "entropy/policy_sampled/seq_sum",
        "ppo/mean_scores": "score/reward_model/mean",
        "ppo/std_scores": "score/reward_model/std",
        "ppo/mean_non_score_reward": "score/kl_penalty/token_mean",
        "ppo/loss/policy": "loss/policy/mean",
        "ppo/loss/value": "loss/value/mean",
        "ppo/loss/total": "loss/total/mean",
        "ppo/policy/approxkl": "kl/old_new_k2/mean",
        "ppo/policy/policykl": "kl/old_new_k1/mean",
        "ppo/policy/clipfrac": "clip/policy/frac",
        "ppo/policy/entropy": "entropy/policy/token_mean",
        "ppo/policy/advantages_mean": "advantage/normalised/mean",
        "ppo/val/var_explained": "value/explained_variance/value",
        "ppo/val/clipfrac": "clip/value/frac",
        "ppo/val/mean": "value/prediction/mean",
        "ppo/returns/mean": "value/returns/mean",
        "ppo/learning_rate": "optim/learning_rate/last",
        "tokens/responses_len_mean": "length/response_tokens/mean",
        "env/reward_mean": "score/reward_model/mean",
        "env/reward_std": "score/reward_model/std",
        "tokens/queries_len_mean": None,
        "time/*": None,
    },
)
VOCABULARIES = (TRL_PPO, TRL_LEGACY_PPO)
