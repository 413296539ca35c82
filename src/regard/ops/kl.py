"""KL(policy || reference): three estimates on tokens sampled from the policy, and the exact sum over the vocabulary.

What each becomes when it is differentiated as a loss is a different question from what it estimates:

| estimator | expected value | expected gradient, as a loss on tokens of the current policy |
|---|---|---|
| k1 | KL(policy ‖ reference) | 0: E[∇ log π] vanishes, and the reference has dropped out |
| k2 | close to it for near policies | ∇ KL(policy ‖ reference), exactly |
| k3 | KL(policy ‖ reference) | ∇ KL(reference ‖ policy) |
| exact | KL(policy ‖ reference) | ∇ KL(policy ‖ reference) |

So k1 belongs in the reward (`shaped_reward`), where the policy gradient of it is right, and k3 among the metrics.
"""

import torch
from torch import Tensor

from regard.ops.checks import check_same_shape
from regard.ops.logprobs import at_least_float32


def kl_k1(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Per-token k1 estimate: k1 = logprob − ref_logprob.

    Unbiased; a single token may be negative. Its sum over a response is exactly log π(y|x) − log π_ref(y|x).

    Args:
        logprobs: [B, T] natural-log probability of each sampled token under the policy.
        ref_logprobs: [B, T] the same tokens under the reference.
    Returns:
        [B, T] nats per token, unmasked; reduce with `masked_mean(..., response_mask)`.
    Raises:
        ValueError: shapes differ.

    Source: Schulman (2020), http://joschu.net/blog/kl-approx.html, estimator k1.
    Differs from source: no.
    Gradient: as a loss its expectation is 0; use it in the reward.
    """
    check_same_shape(logprobs=logprobs, ref_logprobs=ref_logprobs)
    return logprobs - ref_logprobs


def kl_k2(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Per-token k2 estimate: k2 = ½·(logprob − ref_logprob)².

    Biased, never negative, low variance.

    Args:
        logprobs: [B, T] natural-log probability of each sampled token under the policy.
        ref_logprobs: [B, T] the same tokens under the reference.
    Returns:
        [B, T] nats per token, unmasked; reduce with `masked_mean(..., response_mask)`.
    Raises:
        ValueError: shapes differ.

    Source: Schulman (2020), http://joschu.net/blog/kl-approx.html, estimator k2.
    Differs from source: no.
    Gradient: as a loss on tokens of the current policy, exactly that of KL(policy || reference).
    """
    check_same_shape(logprobs=logprobs, ref_logprobs=ref_logprobs)
    return 0.5 * (logprobs - ref_logprobs).square()


def kl_k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Per-token k3 estimate: k3 = exp(d) − 1 − d, d = ref_logprob − logprob.

    Unbiased and never negative; its variance grows fast once |d| > 1.

    Args:
        logprobs: [B, T] natural-log probability of each sampled token under the policy.
        ref_logprobs: [B, T] the same tokens under the reference.
    Returns:
        [B, T] nats per token, unmasked; reduce with `masked_mean(..., response_mask)`.
    Raises:
        ValueError: shapes differ.

    Source: Schulman (2020), http://joschu.net/blog/kl-approx.html, estimator k3.
    Differs from source: no (expm1 instead of exp − 1, for small d).
    Gradient: a metric, not a loss; differentiated, its expectation is ∇ KL(reference || policy).
    """
    check_same_shape(logprobs=logprobs, ref_logprobs=ref_logprobs)
    d = ref_logprobs - logprobs
    return torch.expm1(d) - d


def kl_exact(logits: Tensor, ref_logits: Tensor) -> Tensor:
    """KL(π ‖ π_ref) = Σ_v π(v)·(log π(v) − log π_ref(v)) over the whole vocabulary, at every position.

    Args:
        logits: [B, T, V] of the policy (log-probabilities are logits too).
        ref_logits: [B, T, V] of the reference.
    Returns:
        [B, T] nats per token, at least 0; infinite where the policy can say what the reference cannot.
    Raises:
        ValueError: shapes differ.

    Source: Kullback & Leibler (1951), section 2.
    Differs from source: no.
    Gradient: as a loss, that of KL(policy || reference) at the visited states (not of which states are visited).
    """
    check_same_shape(logits=logits, ref_logits=ref_logits)
    logprobs = torch.log_softmax(at_least_float32(logits), -1)
    ref_logprobs = torch.log_softmax(at_least_float32(ref_logits), -1)
    # −inf − (−inf) for a token neither can say, and 0·inf, would both be NaN
    log_ratio = torch.where(logprobs.isneginf(), 0.0, logprobs - ref_logprobs)
    return (logprobs.exp() * log_ratio).sum(-1)
