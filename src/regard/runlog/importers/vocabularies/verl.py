"""verl: console, file logger, TensorBoard and dashboards share these keys.

`actor/reward_kl_penalty` is a mean per token, so a target of 6 nats per sequence does not carry over. `actor/kl_loss`
is reduced as `loss_agg_mode` says. `actor/ppo_kl` is a signed mean. `actor/pg_clipfrac_lower` counts the second bound
of dual-clip, not the low side. `response_length/clip_ratio` counts an EOS exactly at the cap as cut.
"""

from regard.runlog.importers.vocabulary import ESTIMATORS, Settings, Vocabulary, kl_by, setting


def _kl_loss(config: Settings) -> str:
    estimator = ESTIMATORS.get(str(setting(config, "kl_loss_type")), "unknown")
    reduction = {
        "token-mean": "token_mean",
        "seq-mean-token-mean": "token_mean",
        "seq-mean-token-sum": "seq_sum",
    }.get(str(setting(config, "loss_agg_mode")), "unknown")
    return f"kl/policy_ref_{estimator}/{reduction}"


def _entropy(config: Settings) -> str | None:
    mean = setting(config, "loss_agg_mode") in ("token-mean", "seq-mean-token-mean")
    return "entropy/policy/token_mean" if mean else None


VERL = Vocabulary(
    name="verl",
    stage="ppo",
    fingerprint=("actor/pg_loss", "critic/score/mean"),
    source="verl/trainer/ppo/metric_utils.py, core_algos.py, rollout_corr_helper.py",
    keys={
        "critic/score/mean": "score/reward_model/mean",
        "critic/score/max": "score/reward_model/max",
        "critic/score/min": "score/reward_model/min",
        "critic/rewards/mean": "score/total_reward/mean",
        "critic/rewards/*": None,
        "actor/reward_kl_penalty": kl_by("kl_penalty", "token_mean"),
        "actor/reward_kl_penalty_coeff": "kl/coef/value",
        "actor/kl_loss": _kl_loss,
        "actor/kl_coef": "kl/coef/value",
        "actor/ppo_kl": "kl/old_new_k1/mean",
        "actor/pg_clipfrac": "clip/policy/frac",
        "actor/pg_clipfrac_lower": "clip/policy_dual/frac",
        "actor/pg_loss": "loss/policy/mean",
        "actor/entropy": _entropy,
        "actor/entropy_loss": _entropy,
        "actor/grad_norm": "optim/grad_norm/last",
        "actor/lr": "optim/learning_rate/last",
        "critic/vf_loss": "loss/value/mean",
        "critic/vf_clipfrac": "clip/value/frac",
        "critic/vf_explained_var": "value/explained_variance/value",
        "critic/values/mean": "value/prediction/mean",
        "critic/values/max": "value/prediction/max",
        "critic/values/min": "value/prediction/min",
        "critic/vpred_mean": None,
        "critic/grad_norm": "optim/grad_norm_value/last",
        "critic/lr": None,
        "critic/advantages/mean": "advantage/normalised/mean",
        "critic/advantages/*": None,
        "critic/returns/mean": "value/returns/mean",
        "critic/returns/*": None,
        "response_length/mean": "length/response_tokens/mean",
        "response_length/max": "length/response_tokens/max",
        "response_length/min": "length/response_tokens/min",
        "response_length/clip_ratio": "finish/truncated/frac",
        "response_length_non_aborted/*": None,
        "response/aborted_ratio": None,
        "prompt_length/*": None,
        "training/rollout_probs_diff_*": None,
        "training/rollout_actor_probs_pearson_corr": None,
        "rollout_corr/kl": "kl/generator_trainer_k1/mean",
        "rollout_corr/k3_kl": "kl/generator_trainer_k3/mean",
        "rollout_corr/*": None,
        "training/off_policy/trajectory_staleness/mean": "policy/staleness/mean",
        "training/*": None,
        "val-core/*": None,
        "val-aux/*": None,
        "perf/*": None,
        "timing_s/*": None,
        "timing_per_token_ms/*": None,
        "global_seqlen/*": None,
    },
    config_keys={
        "ppo.kl_coef": "algorithm.kl_ctrl.kl_coef",
        "ppo.kl_target": "algorithm.kl_ctrl.target_kl",
        "ppo.kl_horizon": "algorithm.kl_ctrl.horizon",
        "ppo.gamma": "algorithm.gamma",
        "ppo.gae_lambda": "algorithm.lam",
        "ppo.learning_rate": "actor_rollout_ref.actor.optim.lr",
        "ppo.epochs": "actor_rollout_ref.actor.ppo_epochs",
        "ppo.clip_range": "actor_rollout_ref.actor.clip_ratio",
        "ppo.clip_range_high": "actor_rollout_ref.actor.clip_ratio_high",
        "ppo.entropy_coef": "actor_rollout_ref.actor.entropy_coeff",
        "ppo.max_grad_norm": "actor_rollout_ref.actor.grad_clip",
        "ppo.micro_batch_size": "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu",
        "ppo.temperature": "actor_rollout_ref.rollout.temperature",
        "ppo.max_response_tokens": "data.max_response_length",
        "ppo.batch_size": "data.train_batch_size",
        "ppo.value_clip_range": "critic.cliprange_value",
    },
)
VOCABULARIES = (VERL,)
