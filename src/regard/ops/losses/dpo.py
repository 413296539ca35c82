"""Direct preference optimisation: the policy is its own reward model."""

from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import logsigmoid

from regard.ops.checks import check_positive, check_same_shape


class DPOLossOutput(NamedTuple):
    """The loss, and sums over pairs that add up across micro-batches. Only loss has a gradient."""

    loss: Tensor
    """[] nats per pair."""
    correct_count: Tensor
    """[] pairs whose chosen response has the strictly higher implicit reward."""
    chosen_reward_sum: Tensor
    """[] Σ β·(log π − log π_ref) of the chosen responses."""
    rejected_reward_sum: Tensor
    """[] Σ β·(log π − log π_ref) of the rejected responses."""


def dpo_loss(
    chosen_logprobs: Tensor,
    rejected_logprobs: Tensor,
    ref_chosen_logprobs: Tensor,
    ref_rejected_logprobs: Tensor,
    *,
    beta: float,
    num_pairs: float,
) -> DPOLossOutput:
    """L = −(1/N)·Σ log σ(β·[log π(y_w)/π_ref(y_w) − log π(y_l)/π_ref(y_l)]).

    Args:
        chosen_logprobs: [N] nats, summed over the response, under the policy.
        rejected_logprobs: [N] nats, likewise.
        ref_chosen_logprobs: [N] nats, under the frozen reference; constant.
        ref_rejected_logprobs: [N] nats, likewise.
        beta: β > 0, implicit reward units per nat.
        num_pairs: pairs of the whole batch over all micro-batches and processes.
    Returns:
        loss and statistics.
    Raises:
        ValueError: shapes differ; beta or num_pairs not positive.

    Source: Rafailov et al. (2023), arXiv 2305.18290, eq. 7.
    Differs from source: no.
    """
    check_same_shape(
        chosen_logprobs=chosen_logprobs,
        rejected_logprobs=rejected_logprobs,
        ref_chosen_logprobs=ref_chosen_logprobs,
        ref_rejected_logprobs=ref_rejected_logprobs,
    )
    check_positive(beta=beta, num_pairs=num_pairs)
    chosen = beta * (chosen_logprobs - ref_chosen_logprobs.detach())
    rejected = beta * (rejected_logprobs - ref_rejected_logprobs.detach())
    return DPOLossOutput(
        loss=-logsigmoid(chosen - rejected).sum() / num_pairs,
        correct_count=(chosen > rejected).sum(),
        chosen_reward_sum=chosen.detach().sum(),
        rejected_reward_sum=rejected.detach().sum(),
    )
