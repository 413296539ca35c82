"""Sums over the positions that count. A mask selects; it never multiplies, since 0 · NaN is NaN."""

import torch
from torch import Tensor

from regard.ops.checks import check_same_shape

WHITEN_EPSILON = 1e-8
"""Added to the variance, so that a constant input whitens to 0 and not to NaN."""


def zero_outside(x: Tensor, mask: Tensor) -> Tensor:
    """x where the mask is set and 0 elsewhere: y_i = m_i ? x_i : 0.

    Selects before any arithmetic, so neither the value nor the gradient ever sees what lies under the mask.

    Args:
        x: [...] any unit.
        mask: [...] of the same shape; non-zero counts.
    Returns:
        [...] in the unit of x.
    Raises:
        ValueError: shapes differ.

    Source: none, a definition.
    """
    check_same_shape(x=x, mask=mask)
    return torch.where(mask.bool(), x, torch.zeros_like(x))


def masked_sum(x: Tensor, mask: Tensor) -> Tensor:
    """Σ_i m_i·x_i over all positions; 0 when the mask is empty.

    Args:
        x: [...] any unit; may hold NaN or infinity where the mask is 0.
        mask: [...] of the same shape; non-zero counts.
    Returns:
        [] in the unit of x.
    Raises:
        ValueError: shapes differ.

    Source: none, a definition.
    """
    return zero_outside(x, mask).sum()


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Σ_i m_i·x_i / Σ_i m_i over all positions; 0 when the mask is empty.

    For metrics. A loss takes its denominator from the caller, or micro-batching would change the objective.

    Args:
        x: [...] any unit; may hold NaN or infinity where the mask is 0.
        mask: [...] of the same shape; non-zero counts.
    Returns:
        [] in the unit of x.
    Raises:
        ValueError: shapes differ.

    Source: none, a definition.
    """
    return masked_sum(x, mask) / mask.bool().sum().clamp(min=1)


def masked_var(x: Tensor, mask: Tensor) -> Tensor:
    """Population variance Σ_i m_i·(x_i − mean)² / Σ_i m_i; 0 when the mask is empty or has one element.

    Args:
        x: [...] any unit; may hold NaN or infinity where the mask is 0.
        mask: [...] of the same shape; non-zero counts.
    Returns:
        [] in the unit of x, squared.
    Raises:
        ValueError: shapes differ.

    Source: none, a definition. No Bessel correction (TRL's `masked_var` has one): the variance of a single token
    is 0 here, not 0/0.
    """
    return masked_mean((zero_outside(x, mask) - masked_mean(x, mask)).square(), mask)


def masked_whiten(x: Tensor, mask: Tensor, *, center: bool = True) -> Tensor:
    """Scale to variance 1 and, with `center`, shift to mean 0: (x − mean) / sqrt(var + 1e-8); 0 outside the mask.

    Args:
        x: [...] any unit; may hold NaN or infinity where the mask is 0.
        mask: [...] of the same shape; non-zero counts.
        center: False keeps the mean, x / sqrt(var + 1e-8); used where the sign carries meaning, as for rewards.
    Returns:
        [...] without unit.
    Raises:
        ValueError: shapes differ.

    Source: Ziegler et al. (2019), arXiv 1909.08593, code release, `whiten`; Huang et al. (2024), arXiv 2403.17031.
    Differs from source: without `center` theirs adds the mean of x back after scaling, (x − mean)/std + mean; ours
    divides only, so that the sign and the ratio of two values survive.
    """
    inside = zero_outside(x, mask)
    shifted = inside - masked_mean(x, mask) if center else inside
    return zero_outside(shifted * torch.rsqrt(masked_var(x, mask) + WHITEN_EPSILON), mask)
