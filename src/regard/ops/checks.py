"""Refuse shapes and denominators that would broadcast or divide into a wrong number."""

from torch import Tensor


def check_same_shape(**tensors: Tensor) -> None:
    """Raises ValueError, naming every tensor with its shape, unless all shapes are equal.

    Broadcasting [B] against [B, T] is how a per-sequence number silently becomes a per-token one.
    """
    if len({tuple(t.shape) for t in tensors.values()}) > 1:
        listing = ", ".join(f"{name} {tuple(t.shape)}" for name, t in tensors.items())
        raise ValueError(f"these shapes must be equal: {listing}")


def check_positive(**numbers: float) -> None:
    """Raises ValueError unless every number is greater than 0 (NaN is not)."""
    for name, number in numbers.items():
        if not number > 0:
            raise ValueError(f"{name} must be greater than 0, got {number}")
