"""OpenRLHF: PPO and reward model, as TensorBoard or a dashboard has them under `train/`, `rollout/` and `eval/`.

`kl` is a mean per token, clamped to ±10; `ppo_kl` and `vllm_kl` are signed means; `return` is near 0 with a group
baseline, which is no fault; `entropy_loss` is the entropy itself.
"""

from regard.runlog.importers.vocabulary import Vocabulary, kl_by

OPENRLHF_PPO = Vocabulary(
    name="openrlhf-ppo",
    stage="ppo",
    fingerprint=("ppo_clip_ratio", "ppo_kl"),
    source="openrlhf/trainer/ppo_trainer.py, ray/ppo_actor.py, ray/ppo_critic.py",
    keys={
        "rollout/reward_mean": "score/reward_model/mean",
        "rollout/reward_std": "score/reward_model/std",
        "rollout/response_length_mean": "length/response_tokens/mean",
        "rollout/truncated_rate": "finish/truncated/frac",
        "rollout/*": None,
        "reward": None,  # of one minibatch; rollout/reward_mean is of all
        "score": None,  # of the filter
        "return": None,
        "group_reward_std": "group/reward_std/mean",
        "dynamic_filtering_pass_rate": None,
        "kl": kl_by("estimator", "token_mean"),
        "logprobs_diff": "kl/policy_ref_k1/token_mean",
        "ppo_kl": "kl/old_new_k1/mean",
        "vllm_kl": "kl/generator_trainer_k1/mean",
        "ppo_clip_ratio": "clip/policy/frac",
        "policy_loss": "loss/policy/mean",
        "entropy_loss": "entropy/policy/token_mean",
        "actor_grad_norm": "optim/grad_norm/last",
        "actor_lr": "optim/learning_rate/last",
        "critic_loss": "loss/value/mean",
        "values": "value/prediction/mean",
        "critic_grad_norm": "optim/grad_norm_value/last",
        "critic_lr": None,
        "response_length": None,
        "total_length": None,
        "truncated": None,
        "response_clip_ratio": None,
        "timing/*": None,
    },
    config_keys={"ppo.kl_coef": "algo.kl.init_coef", "ppo.kl_target": "algo.kl.target"},
)

OPENRLHF_RM = Vocabulary(
    name="openrlhf-rm",
    stage="rm",
    fingerprint=("chosen_reward", "reject_reward", "acc"),
    source="openrlhf/trainer/rm_trainer.py",
    eval_prefixes=("eval/",),
    keys={
        "loss": "loss/rm/mean",
        "acc": "rm/accuracy_train/mean",
        "loss_mean": None,
        "acc_mean": None,
        "chosen_reward": "rm/score_chosen/mean",
        "reject_reward": "rm/score_rejected/mean",
        "grad_norm": "optim/grad_norm/last",
        "lr": "optim/learning_rate/last",
    },
    eval_keys={
        "acc_mean": "rm/accuracy_val/mean",
        "eval_loss": "rm/loss_val/mean",
        "reward_mean": "rm/score/mean",
        "reward_std": "rm/score/std",
    },
)
VOCABULARIES = (OPENRLHF_PPO, OPENRLHF_RM)
