"""Supervised fine-tuning."""

from torch import Tensor

from regard.ops.checks import check_positive
from regard.ops.masking import masked_sum


def sft_loss(logprobs: Tensor, loss_mask: Tensor, *, num_loss_tokens: float) -> Tensor:
    """L = −(1/N)·Σ_t m_t·log π(y_t | x, y_<t): cross-entropy on the tokens of the response.

    Args:
        logprobs: [B, T] nats, of the tokens of the text.
        loss_mask: [B, T] non-zero on the tokens to learn (the response, not the prompt).
        num_loss_tokens: N, such tokens of the whole batch over all micro-batches and processes.
    Returns:
        [] nats per token.
    Raises:
        ValueError: shapes differ; num_loss_tokens not positive.

    Source: Ouyang et al. (2022), arXiv 2203.02155, section 3.5, step 1.
    Differs from source: token sum over a denominator of the caller's, so every token weighs the same.
    """
    check_positive(num_loss_tokens=num_loss_tokens)
    return -masked_sum(logprobs, loss_mask) / num_loss_tokens
