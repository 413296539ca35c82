"""The registry of metric keys: each key is declared once, with everything needed to know what its number means.

A name such as "kl" is not a quantity: the direction, the estimator, the two policies, the mask and the reduction all
change the number, and the frameworks differ in each. So a trainer can log only keys declared here, and whoever reads a
run record reads the declaration with it.

Keys read `area/quantity/reduction`; seconds and rates read `time/rollout_s`, `throughput/tokens_per_s`. The reference
page `docs/reference/metrics.md` is generated from this file (see `docs.py`).
"""

from dataclasses import dataclass
from typing import Literal

Direction = Literal["higher", "lower", "neither"]
"""Which way is better; "neither" where too much and too little are both wrong, or where the number is a setting."""

MAX_EPOCHS = 8
"""Per-epoch families are declared for PPO epochs 1 to 8; later epochs of one update are not recorded."""

RESPONSE = "response tokens up to and including EOS"
NO_MASK = "none"

POLICY_REFERENCE = ("policy", "reference")
OLD_NEW = ("old", "new")
GENERATOR_TRAINER = ("generator", "trainer")


@dataclass(frozen=True)
class MetricSpec:
    """What one metric key means.

    Attributes:
        key: the name in `metrics.jsonl`.
        quantity: what is measured.
        estimator: the formula, with d = difference of natural-log probabilities where one occurs.
        policies: the two policies that are compared, or None where the number is not a comparison.
        reduction: how many numbers became one, and over what.
        mask: which tokens count; "none" where the number is not made of tokens.
        unit: unit of the value.
        direction: which way is better.
        description: how to read it, in one sentence.
        canonical: short name under which the review rules know this quantity, or None.
    """

    key: str
    quantity: str
    estimator: str
    policies: tuple[str, str] | None
    reduction: str
    mask: str
    unit: str
    direction: Direction
    description: str
    canonical: str | None = None

    @property
    def area(self) -> str:
        """First part of the key, by which the reference page groups."""
        return self.key.split("/", 1)[0]


def _spec(
    key: str,
    quantity: str,
    reduction: str,
    unit: str,
    description: str,
    *,
    estimator: str = "as measured",
    policies: tuple[str, str] | None = None,
    mask: str = NO_MASK,
    direction: Direction = "neither",
    canonical: str | None = None,
) -> MetricSpec:
    return MetricSpec(key, quantity, estimator, policies, reduction, mask, unit, direction, description, canonical)


def _epochs(
    prefix: str, quantity: str, unit: str, what: str, *, estimator: str, direction: Direction = "neither"
) -> list[MetricSpec]:
    """One declared key per PPO epoch, because drift grows with the epoch and a mean hides that."""
    return [
        _spec(
            f"{prefix}/epoch_{epoch}",
            quantity,
            f"mean over the valid tokens of epoch {epoch} of the update",
            unit,
            f"{what} in epoch {epoch}.",
            estimator=estimator,
            policies=OLD_NEW,
            mask=RESPONSE,
            direction=direction,
        )
        for epoch in range(1, MAX_EPOCHS + 1)
    ]


def _kl_of_others() -> list[MetricSpec]:
    """KL to the reference in every pair of estimator and reduction that some trainer logs and that is not ours."""
    formulas = {
        "k1": ("k1 = logprob - ref_logprob", "A mean below 0 is possible for k1 only."),
        "k2": ("k2 = 0.5*(logprob - ref_logprob)^2", "Biased, never negative."),
        "k3": ("k3 = exp(d) - 1 - d, d = ref_logprob - logprob", "Unbiased, never negative."),
        "unknown": ("unknown", "The log does not say which estimator; the size can be judged, the sign cannot."),
    }
    reductions = {
        "seq_sum": ("sum over the response, mean over rollouts", "nats/sequence"),
        "token_mean": ("mean over tokens", "nats/token"),
        "unknown": ("unknown", "unknown: nats per token or per sequence"),
    }
    ours = {("k1", "seq_sum"), ("k1", "token_mean"), ("k2", "token_mean"), ("k3", "token_mean")}
    return [
        _spec(
            f"kl/policy_ref_{estimator}/{reduction}",
            "KL(policy || reference)",
            how,
            unit,
            f"Logged by other trainers. {note}",
            estimator=formula,
            policies=POLICY_REFERENCE,
            mask=RESPONSE,
        )
        for estimator, (formula, note) in formulas.items()
        for reduction, (how, unit) in reductions.items()
        if (estimator, reduction) not in ours
    ]


# A line per argument would make this table three times as long.
# fmt: off

_LOSS = [
    _spec("loss/sft/mean", "negative log-likelihood of the training text", "mean over tokens of the step",
          "nats/token", "Cross-entropy of supervised fine-tuning and pre-training.", estimator="-logprob",
          mask="tokens that count in the loss", direction="lower"),
    _spec("loss/sft_eval/mean", "negative log-likelihood of held-out text", "mean over tokens of the held-out set",
          "nats/token", "Rising while loss/sft/mean falls means over-fitting.", estimator="-logprob",
          mask="tokens that count in the loss", direction="lower"),
    _spec("loss/rm/mean", "ranking loss of the reward model", "mean over pairs of the step", "nats/pair",
          "ln 2 = 0.693 is what a model that cannot tell the pair apart pays.",
          estimator="-log sigmoid(score_chosen - score_rejected), soft-labelled where p_chosen is known",
          direction="lower"),
    _spec("loss/policy/mean", "policy-gradient loss", "mean over valid tokens and updates of the step",
          "advantage units",
          "Its level says little: it is near zero by construction when the advantages are normalised.",
          estimator="-min(ratio*A, clip(ratio)*A) for PPO; the algorithm's surrogate otherwise", policies=OLD_NEW,
          mask=RESPONSE),
    _spec("loss/value/mean", "squared error of the value against the return",
          "mean over valid tokens and updates of the step", "squared reward",
          "Compare with 0.5 * value/returns/std squared, which a constant prediction pays.",
          estimator="0.5*(value - return)^2, clipped form where value clipping is on", mask=RESPONSE,
          direction="lower", canonical="vf_loss"),
    _spec("loss/sft_accuracy/mean", "next tokens predicted right", "share of tokens of the step", "fraction",
          "Logged by TRL's SFT and DPO.", mask="tokens that count in the loss", direction="higher"),
    _spec("loss/total/mean", "the objective that was differentiated", "mean over updates of the step", "loss units",
          "Weighted sum of the losses above, as the optimiser sees it.", mask=RESPONSE),
]

_REWARD_MODEL = [
    _spec("rm/accuracy_train/mean", "training pairs ranked right", "share of pairs of the step", "fraction",
          "Pairs whose raters are split evenly do not count; a tie in score is wrong.",
          estimator="score_chosen > score_rejected", direction="higher"),
    _spec("rm/accuracy_val/mean", "held-out pairs ranked right", "share of the held-out pairs", "fraction",
          "Its ceiling is how often two people agree on such pairs, not 1.",
          estimator="score_chosen > score_rejected", direction="higher", canonical="rm_acc_val"),
    _spec("rm/accuracy_test/mean", "pairs of the test split ranked right, after the last step",
          "share of the test pairs on which the raters are decided", "fraction",
          "As rm/accuracy_val/mean, on all test pairs and once.",
          estimator="score_chosen > score_rejected", direction="higher"),
    _spec("rm/pairs_test/count", "test pairs on which the raters are decided", "total", "pairs",
          "What rm/accuracy_test/mean is counted on; its standard error is at most 0.5 / sqrt of this."),
    _spec("rm/accuracy_trusted/mean", "held-out pairs ranked right, by labels that are trusted",
          "share of the pairs on which the trusted labels are decided", "fraction",
          "Trusted: of raters that were never trained on, or exact. Far above rm/accuracy_val/mean means noisy labels; "
          "below one half means that labels or scores are swapped.",
          estimator="score_chosen > score_rejected", direction="higher"),
    _spec("rm/accuracy_shorter_chosen/mean", "held-out pairs ranked right, of those whose chosen text is the shorter",
          "share of those pairs", "fraction",
          "Far below rm/accuracy_val/mean means that length is mistaken for quality.",
          estimator="score_chosen > score_rejected", direction="higher"),
    _spec("rm/rater_agreement/mean", "how often two raters of a pair prefer the same text",
          "mean over held-out pairs, ties left out", "fraction",
          "The ceiling of an accuracy that is counted against one person's choices.",
          estimator="[C(w,2) + C(l,2)] / C(w+l,2), w and l raters for either text", direction="higher"),
    _spec("rm/ece/value", "expected calibration error", "held-out pairs in ten equal bins of sigmoid(margin)",
          "fraction", "0.1 means that stated and observed preference are ten points apart on average.",
          estimator="sum over bins of share * |mean sigmoid(margin) - mean p_chosen|", direction="lower"),
    _spec("rm/accuracy_policy_pairs/mean", "pairs of a present and a reference response ranked right",
          "share of pairs", "fraction",
          "Falling while rm/accuracy_val/mean stays means that the policy has left what the reward model knows.",
          estimator="score_chosen > score_rejected", direction="higher"),
    _spec("rm/margin/mean", "score_chosen - score_rejected", "mean over pairs of the step", "score",
          "Grows without end when the pairs are separable: look at accuracy on held-out pairs as well."),
    _spec("rm/score/mean", "reward-model score of held-out texts", "mean over texts", "score",
          "The ranking loss leaves the level free, so it drifts unless it is centred."),
    _spec("rm/score/std", "reward-model score of held-out texts", "standard deviation over texts", "score",
          "Scale of the score; the KL coefficient means something only relative to it."),
    _spec("rm/score/min", "reward-model score of training texts", "minimum over texts", "score",
          "Shows a floor or an outlier."),
    _spec("rm/score/max", "reward-model score of training texts", "maximum over texts", "score",
          "Shows a ceiling or an outlier."),
    _spec("rm/score_chosen/mean", "reward-model score of chosen texts", "mean over pairs", "score",
          "Only its distance to the rejected texts' score is trained."),
    _spec("rm/score_rejected/mean", "reward-model score of rejected texts", "mean over pairs", "score",
          "Only its distance to the chosen texts' score is trained."),
    _spec("rm/loss_val/mean", "ranking loss on held-out pairs", "mean over pairs", "nats/pair",
          "Rising while loss/rm/mean falls means over-fitting.", direction="lower",
          estimator="-log sigmoid(score_chosen - score_rejected)"),
    _spec("rm/score_length_spearman/value", "rank correlation of score and length in tokens",
          "Spearman over held-out texts", "correlation",
          "Far from 0 means that the reward model can be pleased by length alone."),
]

_PREFERENCE = [
    _spec("preference/loss/mean", "loss of preference optimisation", "mean over pairs of the step", "nats/pair",
          "ln 2 = 0.693 at the start, where policy and reference are equal; stuck there, nothing is learned.",
          direction="lower"),
    _spec("preference/loss_val/mean", "loss of preference optimisation on held-out pairs", "mean over pairs",
          "nats/pair", "Rising while preference/loss/mean falls means over-fitting.", direction="lower"),
    _spec("preference/accuracy/mean", "pairs whose chosen response has the higher implicit reward",
          "share of pairs of the step", "fraction", "0.5 at the start by chance.", direction="higher"),
    _spec("preference/accuracy_val/mean", "held-out pairs whose chosen response has the higher implicit reward",
          "share of pairs", "fraction", "What the training accuracy has to be read beside.", direction="higher"),
    _spec("preference/margin/mean", "implicit reward of chosen less rejected", "mean over pairs of the step",
          "nats times beta", "Grows also when both fall.", estimator="reward_chosen - reward_rejected",
          direction="higher"),
    _spec("preference/reward_chosen/mean", "implicit reward of the chosen response", "mean over pairs of the step",
          "nats times beta", "Falling slightly is usual; falling far means that probability moves elsewhere.",
          estimator="beta * (logprob - ref_logprob), summed over the response", policies=POLICY_REFERENCE),
    _spec("preference/reward_rejected/mean", "implicit reward of the rejected response",
          "mean over pairs of the step", "nats times beta", "Falls in a working run.",
          estimator="beta * (logprob - ref_logprob), summed over the response", policies=POLICY_REFERENCE),
    _spec("preference/logprobs_chosen/seq_sum", "log-probability of the chosen response",
          "sum over the response, mean over pairs", "nats/sequence", "Compare with its own start."),
    _spec("preference/logprobs_rejected/seq_sum", "log-probability of the rejected response",
          "sum over the response, mean over pairs", "nats/sequence", "Compare with its own start."),
]

_SCORE = [
    _spec("score/reward_model/mean", "reward-model score of the rollouts, before the KL term", "mean over rollouts",
          "score", "What the policy is asked to raise; not proof of quality.", direction="higher",
          canonical="score"),
    _spec("score/reward_model/std", "reward-model score of the rollouts, before the KL term",
          "standard deviation over rollouts", "score", "Near zero means that nothing is left to learn from.",
          canonical="score_std"),
    _spec("score/reward_model/min", "reward-model score of the rollouts, before the KL term",
          "minimum over rollouts", "score", "Shows a floor or an outlier that the mean hides."),
    _spec("score/reward_model/max", "reward-model score of the rollouts, before the KL term",
          "maximum over rollouts", "score", "Shows a ceiling or an outlier that the mean hides."),
    _spec("score/total_reward/mean", "score and KL term summed over the response, as the optimiser sees it",
          "mean over rollouts", "score", "Falling while the score rises means that the KL term is winning.",
          estimator="score - kl_coef * sum of k1", policies=POLICY_REFERENCE, mask=RESPONSE, direction="higher",
          canonical="total_reward"),
    _spec("score/reward_scale/value", "divisor applied to the score before the KL term", "value",
          "score per reward unit", "1 where scores are used as they are."),
    _spec("score/missing_eos_penalty/mean", "penalty for responses without EOS", "mean over rollouts", "score",
          "Subtracted from the score; its mean grows with finish/truncated/frac."),
    _spec("score/main_component/mean", "part of the score that measures the task, where the score is a sum",
          "mean over rollouts", "score", "What the score gains beyond it is paid by bonuses.", direction="higher"),
    _spec("score/kl_penalty/seq_sum", "KL term of the reward", "sum over the response, mean over rollouts", "score",
          "Never above 0 for an estimator that is never negative.", estimator="-kl_coef * KL",
          policies=POLICY_REFERENCE, mask=RESPONSE),
    _spec("score/kl_penalty/token_mean", "KL term of the reward", "mean over valid tokens", "score",
          "Logged by early TRL.", estimator="-kl_coef * KL", policies=POLICY_REFERENCE, mask=RESPONSE),
    _spec("gold/judge/mean", "quality by an independent judge that the policy is not trained on",
          "mean over rollouts", "judge units",
          "Score rising while gold falls is over-optimisation of the reward model.", direction="higher",
          canonical="gold"),
    _spec("gold/vader/mean", "VADER compound sentiment of the response", "mean over rollouts", "compound, -1 to 1",
          "A rule-based second opinion.", direction="higher"),
    _spec("gold/raters/mean",
          "rating by the kept raters, estimated by a regression that the reward model never saw",
          "mean over rollouts", "rating points, -4 to 4",
          "A second opinion by people whose labels were never trained on.", direction="higher"),
    _spec("gold/win_vs_reference/frac", "responses that an independent judge prefers to the reference's",
          "share of prompts", "fraction", "0.5 where the two are as good.", direction="higher"),
    _spec("behaviour/violation/frac", "responses that break a rule of style or safety which the reference keeps",
          "share of rollouts", "fraction", "By an independent check; compare with its own start.", direction="lower"),
    _spec("behaviour/refusal_on_unsafe/frac", "unsafe requests that are refused", "share of unsafe prompts", "fraction",
          "Falling while the score rises means that training wears down what must stay.", direction="higher"),
    _spec("gold/score_correlation/spearman", "rank correlation of reward-model score and gold",
          "Spearman over the rollouts of the step", "correlation",
          "Falling towards 0 means that the reward model no longer measures what was wanted.", direction="higher"),
]

_KL = [
    _spec("kl/policy_ref_k1/seq_sum", "KL(policy || reference)", "sum over the response, mean over rollouts",
          "nats/sequence",
          "How far the policy has moved. A single rollout may be negative; the mean should not be.",
          estimator="k1 = logprob - ref_logprob", policies=POLICY_REFERENCE, mask=RESPONSE, canonical="kl_ref"),
    _spec("kl/policy_ref_k1/token_mean", "KL(policy || reference)", "mean over all valid tokens of the step",
          "nats/token", "As above per token, so that longer responses do not count as more drift.",
          estimator="k1 = logprob - ref_logprob", policies=POLICY_REFERENCE, mask=RESPONSE, canonical="kl_ref_tok"),
    _spec("kl/policy_ref_k2/token_mean", "KL(policy || reference), biased and never negative",
          "mean over all valid tokens of the step", "nats/token", "Close to k1 while the two policies are close.",
          estimator="k2 = 0.5*(logprob - ref_logprob)^2", policies=POLICY_REFERENCE, mask=RESPONSE),
    _spec("kl/policy_ref_k3/token_mean", "KL(policy || reference), unbiased and never negative",
          "mean over all valid tokens of the step", "nats/token",
          "Steadier than k1 while small; explodes on rare tokens.",
          estimator="k3 = exp(d) - 1 - d, d = ref_logprob - logprob", policies=POLICY_REFERENCE, mask=RESPONSE),
    _spec("kl/policy_ref_k1/slice_max", "KL(policy || reference) on the kind of prompt that moved most",
          "sum over the response, mean over the rollouts of the slice", "nats/sequence",
          "Far above slice_min means that the drift sits in one kind of prompt.",
          estimator="k1 = logprob - ref_logprob", policies=POLICY_REFERENCE, mask=RESPONSE),
    _spec("kl/policy_ref_k1/slice_min", "KL(policy || reference) on the kind of prompt that moved least",
          "sum over the response, mean over the rollouts of the slice", "nats/sequence", "See slice_max.",
          estimator="k1 = logprob - ref_logprob", policies=POLICY_REFERENCE, mask=RESPONSE),
    *_kl_of_others(),
    _spec("kl/coef/value", "weight of the KL term in the reward", "value", "score/nat",
          "The setting, or the controller's current value.", canonical="kl_coef"),
    _spec("kl/target/value", "KL that an adaptive controller aims at", "value", "nats/sequence",
          "Absent where the coefficient is fixed."),
    _spec("kl/old_new_k2/mean", "distance between the policy that sampled and the policy being updated",
          "mean over valid tokens, all epochs of the update", "nats/token",
          "Above 0.02 the clipped objective is no longer a good local model.",
          estimator="0.5*(logprob_new - logprob_old)^2", policies=OLD_NEW, mask=RESPONSE, direction="lower",
          canonical="approx_kl"),
    _spec("kl/old_new_k2/unmasked_mean", "distance between the policy that sampled and the policy being updated",
          "mean over all positions, padding included", "nats/token",
          "Logged by TRL's PPO; padding dilutes it, so only a high value says something.",
          estimator="0.5*(logprob_new - logprob_old)^2", policies=OLD_NEW, direction="lower"),
    _spec("kl/old_new_k1/mean", "signed difference between the policy that sampled and the policy being updated",
          "mean over valid tokens", "nats/token",
          "Logged by verl and OpenRLHF; both signs cancel, so a small value does not mean a small step.",
          estimator="logprob_old - logprob_new", policies=OLD_NEW, mask=RESPONSE),
    *_epochs("kl/old_new_k2", "distance between the policy that sampled and the policy being updated", "nats/token",
             "Old-to-new distance", estimator="0.5*(logprob_new - logprob_old)^2", direction="lower"),
    _spec("kl/generator_trainer_k1/mean", "signed mismatch of sampler and trainer", "mean over valid tokens",
          "nats/token", "Logged by other trainers; both signs cancel.",
          estimator="logprob_generator - logprob_trainer", policies=GENERATOR_TRAINER, mask=RESPONSE),
    _spec("kl/generator_trainer_absdiff/mean", "size of the mismatch of sampler and trainer",
          "mean over valid tokens", "nats/token", "Logged by TRL and SkyRL.",
          estimator="|logprob_generator - logprob_trainer|", policies=GENERATOR_TRAINER, mask=RESPONSE,
          direction="lower"),
    _spec("kl/generator_trainer_absdiff/max", "size of the mismatch of sampler and trainer",
          "maximum over valid tokens", "nats/token", "Logged by TRL and SkyRL.",
          estimator="|logprob_generator - logprob_trainer|", policies=GENERATOR_TRAINER, mask=RESPONSE,
          direction="lower"),
    _spec("kl/generator_trainer_k3/mean", "mismatch of sampler and trainer at the same weights",
          "mean over valid tokens of the step", "nats/token",
          "Zero but for rounding in process; more means that the trainer scores another distribution than was sampled.",
          estimator="k3 = exp(d) - 1 - d, d = logprob_trainer - logprob_generator", policies=GENERATOR_TRAINER,
          mask=RESPONSE, direction="lower", canonical="mismatch_kl"),
]

_RATIO_FORMULA = "exp(logprob_new - logprob_old)"
_RATIO = [
    _spec("ratio/old_new/mean", "probability ratio of new to old policy",
          "mean over valid tokens, all epochs of the update", "ratio", "Stays within a few percent of 1.",
          estimator=_RATIO_FORMULA, policies=OLD_NEW, mask=RESPONSE, canonical="ratio"),
    _spec("ratio/old_new/unmasked_mean", "probability ratio of new to old policy",
          "mean over all positions, padding included", "ratio",
          "Logged by TRL's PPO; padding pulls it towards 1.", estimator=_RATIO_FORMULA, policies=OLD_NEW),
    _spec("ratio/old_new/min", "probability ratio of new to old policy",
          "minimum over valid tokens, all epochs of the update", "ratio", "The token whose probability fell most.",
          estimator=_RATIO_FORMULA, policies=OLD_NEW, mask=RESPONSE),
    _spec("ratio/old_new/max", "probability ratio of new to old policy",
          "maximum over valid tokens, all epochs of the update", "ratio", "The token whose probability rose most.",
          estimator=_RATIO_FORMULA, policies=OLD_NEW, mask=RESPONSE),
    _spec("ratio/old_new/std", "probability ratio of new to old policy",
          "standard deviation over valid tokens, all epochs of the update", "ratio", "Spread of the update.",
          estimator=_RATIO_FORMULA, policies=OLD_NEW, mask=RESPONSE),
    *_epochs("ratio/old_new", "probability ratio of new to old policy", "ratio",
             "Mean ratio; exactly 1 on the first minibatch of epoch 1,", estimator=_RATIO_FORMULA),
    _spec("clip/policy/frac", "tokens where the clipped branch of the objective is active",
          "share of valid tokens, all epochs of the update", "fraction",
          "0.02 to 0.2 is usual; those tokens give no gradient.",
          estimator="(A > 0 and ratio > 1 + clip_range) or (A < 0 and ratio < 1 - clip_range)", policies=OLD_NEW,
          mask=RESPONSE, canonical="clipfrac"),
    _spec("clip/policy_high/frac", "tokens clipped from above", "share of valid tokens, all epochs of the update",
          "fraction", "Good tokens held back from rising further.", estimator="A > 0 and ratio > 1 + clip_range",
          policies=OLD_NEW, mask=RESPONSE, canonical="clipfrac_hi"),
    _spec("clip/policy_low/frac", "tokens clipped from below", "share of valid tokens, all epochs of the update",
          "fraction", "Bad tokens held back from falling further.", estimator="A < 0 and ratio < 1 - clip_range",
          policies=OLD_NEW, mask=RESPONSE, canonical="clipfrac_lo"),
    *_epochs("clip/policy", "tokens where the clipped branch of the objective is active", "fraction",
             "Clipped share", estimator="(A > 0 and ratio > 1 + clip_range) or (A < 0 and ratio < 1 - clip_range)"),
    _spec("clip/policy_dual/frac", "tokens clipped by the second bound of dual-clip PPO", "share of valid tokens",
          "fraction", "Logged by verl.", estimator="A < 0 and ratio > c", policies=OLD_NEW, mask=RESPONSE),
    _spec("clip/policy_sequences/frac", "sequences where the clipped branch of the objective is active",
          "share of sequences", "fraction", "Logged by TRL's RLOO, whose ratio is of the whole sequence.",
          estimator="clipped ratio of the sequence", policies=OLD_NEW, mask=RESPONSE),
    _spec("clip/value/frac", "tokens where the clipped branch of the value loss is active",
          "share of valid tokens, all epochs of the update", "fraction",
          "High for long means that the value clip range is small for this reward scale.",
          estimator="clipped squared error > squared error", mask=RESPONSE),
]

_VALUE = [
    _spec("value/explained_variance/value", "how well the value predicts the return",
          "over the valid tokens of the step", "fraction of variance",
          "1 is perfect, 0 is a constant, below 0 is worse than a constant.",
          estimator="1 - Var(return - value) / Var(return)", mask=RESPONSE, direction="higher", canonical="EV"),
    _spec("value/prediction/mean", "value before the update", "mean over valid tokens", "reward",
          "Should follow value/returns/mean.", mask=RESPONSE),
    _spec("value/prediction/min", "value before the update", "minimum over valid tokens", "reward",
          "Logged by verl.", mask=RESPONSE),
    _spec("value/prediction/max", "value before the update", "maximum over valid tokens", "reward",
          "Logged by verl.", mask=RESPONSE),
    _spec("value/returns/mean", "return", "mean over valid tokens", "reward",
          "Target of the value: advantage + value before the update.", estimator="advantage + value",
          mask=RESPONSE),
    _spec("value/returns/std", "return", "standard deviation over valid tokens", "reward",
          "Scale of what the value has to predict.", estimator="advantage + value", mask=RESPONSE),
    _spec("advantage/raw/mean", "advantage before normalisation", "mean over valid tokens", "reward",
          "Far from 0 for long means a biased value.", mask=RESPONSE),
    _spec("advantage/raw/std", "advantage before normalisation", "standard deviation over valid tokens", "reward",
          "Near 0 means that normalisation is amplifying noise.", mask=RESPONSE),
    _spec("advantage/positive/frac", "tokens whose advantage is above 0", "share of valid tokens", "fraction",
          "Near 0.5 where advantages are centred.", mask=RESPONSE),
    _spec("advantage/normalised/mean", "advantage as the loss sees it", "mean over valid tokens",
          "standard deviations", "0 by construction where advantages are centred.", mask=RESPONSE,
          canonical="adv_mean"),
    _spec("advantage/normalised/std", "advantage as the loss sees it", "standard deviation over valid tokens",
          "standard deviations", "1 by construction where advantages are scaled.", mask=RESPONSE),
]

_TEXT = [
    _spec("entropy/policy/token_mean", "entropy of the policy's next-token distribution", "mean over valid tokens",
          "nats/token", "A fall to a tenth of its start is a collapse.",
          estimator="-sum over the vocabulary of p log p", mask=RESPONSE, canonical="entropy"),
    _spec("entropy/policy/unmasked_mean", "entropy of the policy's next-token distribution",
          "mean over all positions, padding included", "nats/token", "Logged by TRL's PPO; padding dilutes it.",
          estimator="-sum over the vocabulary of p log p"),
    _spec("entropy/policy_sampled/token_mean", "surprise of the sampled tokens", "mean over valid tokens",
          "nats/token", "Equals the entropy in expectation where sampling is at full support.",
          estimator="-logprob", mask=RESPONSE),
    _spec("entropy/policy_sampled/seq_sum", "surprise of the sampled response",
          "sum over the response, mean over rollouts", "nats/sequence",
          "Grows with length, so it is no measure of collapse by itself.", estimator="-logprob", mask=RESPONSE),
    _spec("length/response_tokens/mean", "length of the response", "mean over rollouts", "tokens",
          "Growing with the score suggests that length itself is rewarded.", mask=RESPONSE, canonical="len_mean"),
    _spec("length/response_tokens/p5", "length of the response", "5th percentile over rollouts", "tokens",
          "Near 1 means empty answers.", mask=RESPONSE),
    _spec("length/response_tokens/p50", "length of the response", "median over rollouts", "tokens",
          "The usual response.", mask=RESPONSE),
    _spec("length/response_tokens/p95", "length of the response", "95th percentile over rollouts", "tokens",
          "Equal to the cap means that the tail is cut.", mask=RESPONSE),
    _spec("length/response_tokens/min", "length of the response", "minimum over rollouts", "tokens",
          "Near 1 means empty answers.", mask=RESPONSE),
    _spec("length/response_tokens/max", "length of the response", "maximum over rollouts", "tokens",
          "Never above the cap.", mask=RESPONSE),
    _spec("length/cap/value", "maximum of new tokens", "value", "tokens", "The setting.", canonical="cap"),
    _spec("finish/eos/frac", "responses ended by EOS before the cap", "share of rollouts", "fraction",
          "Together with finish/truncated/frac it makes 1.", direction="higher", canonical="eos_frac"),
    _spec("finish/truncated/frac", "responses cut by the cap", "share of rollouts", "fraction",
          "A cut response has no natural place for its score.", direction="lower", canonical="trunc_frac"),
    _spec("group/zero_std/frac", "prompts whose responses all have the same reward", "share of prompt groups",
          "fraction", "Where advantages are centred by group, such a group teaches nothing but a KL in its rewards.",
          estimator="standard deviation of the rewards in the group = 0", direction="lower",
          canonical="group_zero_std"),
    _spec("group/reward_std/mean", "spread of the rewards of one prompt", "standard deviation, mean over groups",
          "score", "What a group-centred advantage has to work with."),
    _spec("group/distinct_text/frac", "different texts among the responses to one prompt",
          "distinct / all, mean over prompt groups", "fraction", "Near 1 / group size is a collapse to one answer.",
          direction="higher"),
    _spec("text/distinct_2/frac", "different bigrams among the bigrams of all responses", "distinct / all",
          "fraction", "Falls with collapse, and also with more text: compare equal numbers of rollouts.",
          direction="higher"),
    _spec("text/repetition/frac", "bigrams that occurred before in the same response",
          "share of the bigrams of a response, mean over rollouts", "fraction", "Loops show here first.",
          direction="lower"),
]

_OPTIM = [
    _spec("optim/grad_norm/last", "gradient norm before clipping", "last update of the step", "loss units",
          "Eight times its median is a spike.", estimator="L2 norm over all trained parameters",
          canonical="grad_norm"),
    _spec("optim/grad_norm_value/last", "gradient norm of the value model before clipping",
          "last update of the step", "loss units", "A value that dwarfs the policy drives shared weights.",
          estimator="L2 norm over the value's parameters"),
    _spec("optim/grad_clipped/frac", "updates whose gradient was clipped", "share of the updates of the step",
          "fraction", "Of policy and value models that step one by one, one may have been clipped. "
          "1 for long means that the clip, not the learning rate, sets the step length."),
    _spec("optim/learning_rate/last", "learning rate", "last update of the step", "1",
          "The schedule's current value."),
    _spec("optim/updates/count", "optimiser updates", "total since the stage began", "updates",
          "Does not grow when an update is skipped."),
    _spec("optim/epochs_done/count", "passes over the data of the step", "count", "epochs",
          "Below the setting when the update stopped early."),
    _spec("optim/early_stopped/flag", "whether the update stopped early for too large a KL", "value", "0 or 1",
          "Often 1 means that the learning rate is too high."),
    _spec("optim/nonfinite_grads/count", "updates skipped for a gradient that is not finite",
          "total since the stage began", "updates",
          "Anything above 0 needs a cause. Of policy and value models that step one by one, one may have been skipped.",
          direction="lower"),
    _spec("optim/param_norm/value", "size of the trained weights", "value at the end of the step", "weight units",
          "Slow growth is usual.", estimator="L2 norm over all trained parameters"),
    _spec("optim/update_norm/value", "size of the change of the trained weights", "value over the step",
          "weight units",
          "0 means that nothing was learned; usual is about a thousandth of optim/param_norm/value.",
          estimator="L2 norm of weights after - weights before"),
    _spec("optim/weights_changed/frac", "trained weights that are another number after the step",
          "share of all trained weights", "fraction",
          "Near 1 in float32; far below, most updates are smaller than the rounding of the weights.",
          estimator="weight after != weight before, bit by bit", direction="higher"),
]

_PROGRESS = [
    _spec("policy/version/count", "version of the weights that sampled", "value", "versions",
          "Grows by one with each step whose weights reach the generator."),
    _spec("policy/staleness/mean", "versions between sampling and training", "mean over rollouts", "versions",
          "0 where sampling and training alternate.", direction="lower", canonical="staleness"),
    _spec("data/prompts_seen/count", "prompts used", "total since the stage began", "prompts",
          "With duplicates; the number of epochs follows from the size of the prompt set."),
    _spec("data/prompt_duplicates/frac", "prompts of the step that occur in it more than once",
          "share of the prompts of the step", "fraction",
          "0 unless the prompt set repeats itself, or a prompt has a group of responses.",
          direction="lower"),
    _spec("data/pairs/count", "comparisons that the reward model is trained on", "total", "pairs",
          "Different comparisons, however often each is used."),
    _spec("data/pairs_unanimous/frac", "training pairs whose label leaves no doubt", "share of the training pairs",
          "fraction", "1 where each pair was labelled once; far above what raters' agreement allows, doubt was lost."),
    _spec("data/epochs/count", "passes over the training data", "total since the stage began", "epochs",
          "Below 1 some of the data were never used."),
    _spec("data/pairs_chosen_longer/frac", "training pairs whose chosen text is the longer",
          "share of the pairs that are decided and differ in length", "fraction",
          "Far from 0.5 where length and preference go together, for a good reason or a bad one."),
    _spec("data/tokens/count", "tokens trained on", "total since the stage began", "tokens", "Progress in tokens.",
          mask="tokens that count in the loss"),
]

_COST = [
    _spec("time/rollout_s", "sampling the responses", "wall time of the step", "s", "Part of time/total_s.",
          direction="lower"),
    _spec("time/score_s", "scoring: reward model, reference, value, judges", "wall time of the step", "s",
          "Part of time/total_s.", direction="lower"),
    _spec("time/update_s", "optimiser updates", "wall time of the step", "s", "Part of time/total_s.",
          direction="lower"),
    _spec("time/checkpoint_s", "writing a checkpoint", "wall time of the step", "s",
          "Part of time/total_s; logged by steps that write one.", direction="lower"),
    _spec("time/total_s", "the whole step", "wall time of the step", "s", "What a step costs.", direction="lower"),
    _spec("throughput/tokens_per_s", "tokens handled per second", "tokens of the step / time/total_s", "tokens/s",
          "Response tokens in reinforcement learning, trained tokens elsewhere.", direction="higher"),
    _spec("throughput/limit/gflops", "products that this machine makes",
          "most so far, of some products of square matrices and of what a phase reached",
          "10^9 operations/s", "In the dtype of the model's weights, with the threads in use, of all processes.",
          direction="higher"),
    *[_spec(f"throughput/{phase}_limit/frac", f"use of the machine's limit by {what}",
            f"needed operations / time/{phase}_s / throughput/limit/gflops", "fraction",
            "Needed are the model's products and attention; padding, adapters and all else only take time.",
            direction="higher")
      for phase, what in (("rollout", "sampling"), ("score", "scoring"), ("update", "the updates"))],
    _spec("throughput/episodes_per_s", "rollouts per second", "rollouts of the step / time/total_s", "rollouts/s",
          "Sampling, scoring and training together.", direction="higher"),
    _spec("memory/peak_rss/gb", "largest resident memory of the process", "maximum since the process began",
          "GB (10^9 bytes)", "Memory of the host, not of an accelerator.", direction="lower"),
]

_EVAL = [
    _spec("eval/gold/mean", "quality by the independent judge on held-out prompts", "mean over prompts",
          "judge units", "What the run is judged by.", direction="higher"),
    _spec("eval/score/mean", "reward-model score on held-out prompts", "mean over prompts", "score",
          "Rising alone, without eval/gold/mean, is over-optimisation.", direction="higher"),
    _spec("eval/perplexity_ref/mean", "perplexity of the responses under the reference",
          "exp of the mean over valid tokens", "perplexity", "Rises when the text stops being language.",
          estimator="exp(-mean ref_logprob)", mask=RESPONSE, direction="lower"),
    _spec("eval/kl_k1/seq_sum", "KL(policy || reference) on held-out prompts",
          "sum over the response, mean over prompts", "nats/sequence", "The price paid for eval/score/mean.",
          estimator="k1 = logprob - ref_logprob", policies=POLICY_REFERENCE, mask=RESPONSE),
    _spec("eval/probe_nll/token_mean", "negative log-likelihood of the right answers of a skill that is not trained",
          "mean over the tokens of the probe's answers", "nats/token",
          "Rising far while the score rises means that the policy forgets what it is not paid for.",
          estimator="-logprob", mask="tokens of the probe's answers", direction="lower"),
    _spec("eval/distinct_2/frac", "different bigrams among the bigrams of all responses", "distinct / all",
          "fraction", "On the same held-out prompts, so comparable between steps.", direction="higher"),
]

_LIVE = [
    _spec("live/rm_accuracy/mean", "pairs of the deployed policy's answers ranked right, by fresh labels",
          "share of the pairs of one window", "fraction",
          "Below rm/accuracy_val/mean, the reward model no longer knows the answers it has to judge.",
          estimator="score_chosen > score_rejected", direction="higher"),
    _spec("live/old_label_agreement/mean", "old pairs whose label today is the label of then",
          "share of the pairs labelled again", "fraction",
          "Below the agreement of two people of then, taste has changed.", direction="higher"),
]

_INVARIANT = [
    _spec("invariant/ratio_max_deviation/value", "|ratio - 1| before any update", "maximum over valid tokens",
          "ratio", "0 but for rounding at step 0, else sampler and trainer disagree.",
          estimator="|exp(logprob_new - logprob_old) - 1|", policies=OLD_NEW, mask=RESPONSE, direction="lower"),
    _spec("invariant/kl_ref/value", "KL(policy || reference) before any update",
          "sum over the response, mean over rollouts", "nats/sequence",
          "0 but for rounding at step 0, else the reference is not the initial policy.",
          estimator="k1 = logprob - ref_logprob", policies=POLICY_REFERENCE, mask=RESPONSE, direction="lower"),
    _spec("invariant/two_forwards_max_diff/value", "difference of two identical forward passes",
          "maximum over valid tokens", "nats", "Not 0 means dropout or another source of chance in the trainer.",
          estimator="|logprob - logprob|", mask=RESPONSE, direction="lower"),
    _spec("invariant/generator_trainer_max_diff/value",
          "difference between the sampler's and the trainer's scoring", "maximum over valid tokens", "nats",
          "More than rounding at step 0 means that another distribution is scored than was sampled.",
          estimator="|logprob_trainer - logprob_generator|", policies=GENERATOR_TRAINER, mask=RESPONSE,
          direction="lower"),
    _spec("invariant/padding_max_diff/value", "difference between padded and unpadded forward passes",
          "maximum over valid tokens", "nats", "More than rounding means wrong positions or a wrong mask.",
          estimator="|logprob - logprob|", mask=RESPONSE, direction="lower"),
    _spec("invariant/microbatch_max_diff/value", "difference between one batch and several micro-batches",
          "maximum over valid tokens", "nats",
          "More than rounding means that the batch size changes the objective.", estimator="|logprob - logprob|",
          mask=RESPONSE, direction="lower"),
    _spec("invariant/score_alone_max_diff/value",
          "difference between a response's score among the batch and alone", "maximum over a few responses",
          "deviations of the batch's scores",
          "More than rounding means that padding or the other rows of a batch change a score.",
          estimator="|score - score| / std(score)", direction="lower"),
    _spec("invariant/frozen_hashes_equal/flag", "whether the frozen models have the weights they began with",
          "value", "0 or 1", "1, or the reference or the reward model was changed by training.",
          estimator="sha256 of the weights now = sha256 at the start", direction="higher"),
]

_ALL: list[MetricSpec] = [
    *_LOSS,
    *_REWARD_MODEL,
    *_PREFERENCE,
    *_SCORE,
    *_KL,
    *_RATIO,
    *_VALUE,
    *_TEXT,
    *_OPTIM,
    *_PROGRESS,
    *_COST,
    *_EVAL,
    *_LIVE,
    *_INVARIANT,
]

# fmt: on

METRICS: dict[str, MetricSpec] = {spec.key: spec for spec in _ALL}
"""Every declared metric by key, in the order of the reference page."""

assert len(METRICS) == len(_ALL), "a metric key is declared twice"
