"""TRL's trainers on fixed data: SFT, reward model, DPO."""

from regard.runlog.importers.vocabulary import HF_TRAINER, Vocabulary

TRL_DPO = Vocabulary(
    name="trl-dpo",
    stage="dpo",
    fingerprint=("rewards/chosen", "rewards/margins", "logps/chosen"),
    source="trl/trainer/dpo_trainer.py",
    keys={
        **HF_TRAINER,
        "loss": "preference/loss/mean",
        "rewards/chosen": "preference/reward_chosen/mean",
        "rewards/rejected": "preference/reward_rejected/mean",
        "rewards/accuracies": "preference/accuracy/mean",
        "rewards/margins": "preference/margin/mean",
        "logps/chosen": "preference/logprobs_chosen/seq_sum",
        "logps/rejected": "preference/logprobs_rejected/seq_sum",
        "entropy": "entropy/policy/token_mean",
        "mean_token_accuracy": "loss/sft_accuracy/mean",
        "logits/*": None,
    },
    eval_keys={
        "loss": "preference/loss_val/mean",
        "rewards/accuracies": "preference/accuracy_val/mean",
        **dict.fromkeys(
            (
                "rewards/chosen", "rewards/rejected", "rewards/margins", "logps/chosen", "logps/rejected",
                "logits/chosen", "logits/rejected", "entropy", "mean_token_accuracy", "num_tokens",
            ),
        ),
    },
    config_keys={"dpo.learning_rate": "learning_rate", "dpo.epochs": "num_train_epochs", "dpo.beta": "beta"},
)  # fmt: skip

TRL_REWARD = Vocabulary(
    name="trl-reward",
    stage="rm",
    fingerprint=("min_reward", "mean_reward", "max_reward"),
    source="trl/trainer/reward_trainer.py",
    keys={
        **HF_TRAINER,
        "loss": "loss/rm/mean",
        "accuracy": "rm/accuracy_train/mean",
        "margin": "rm/margin/mean",
        "mean_reward": "rm/score/mean",
        "min_reward": "rm/score/min",
        "max_reward": "rm/score/max",
    },
    eval_keys={
        "loss": "rm/loss_val/mean",
        "accuracy": "rm/accuracy_val/mean",
        **dict.fromkeys(("margin", "mean_reward", "min_reward", "max_reward", "num_tokens")),
    },
    config_keys={
        "rm.learning_rate": "learning_rate",
        "rm.epochs": "num_train_epochs",
        "rm.center_penalty": "center_rewards_coefficient",
    },
)

TRL_SFT = Vocabulary(
    name="trl-sft",
    stage="sft",
    fingerprint=("loss", "mean_token_accuracy", "num_tokens"),
    source="trl/trainer/sft_trainer.py",
    keys={
        **HF_TRAINER,
        "loss": "loss/sft/mean",
        "entropy": "entropy/policy/token_mean",
        "mean_token_accuracy": "loss/sft_accuracy/mean",
    },
    eval_keys={
        "loss": "loss/sft_eval/mean",
        **dict.fromkeys(("entropy", "mean_token_accuracy", "num_tokens")),
    },
    config_keys={"sft.learning_rate": "learning_rate"},
)
VOCABULARIES = (TRL_DPO, TRL_REWARD, TRL_SFT)
