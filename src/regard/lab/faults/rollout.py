"""Sampling."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from regard.lab.faults import fault
from regard.lab.setup import Setup, Wrapped
from regard.rollout.generator import PolicyGenerator
from regard.rollout.protocols import Generated


@fault("G3", stage="rollout", starts=("start", "mid"))
def sampling_differs_from_scoring(setup: Setup) -> None:
    """Sampled at temperature 0.8 or 0.6, or from the 4 likeliest tokens; scored as if it had not been."""
    temperature, top_k = setup.choose((0.8, 0), (0.6, 0), (1.0, 4))

    class Sharper(Wrapped):
        def generate(self, prompts: Sequence[Sequence[int]], uniforms: Tensor) -> Generated:
            return (other if self.setup.active else self.inner).generate(prompts, uniforms)

    def wrap(inner: PolicyGenerator) -> Any:
        nonlocal other
        other = _Sharper(
            inner.model, pad_id=inner.pad_id, eos_id=inner.eos_id, temperature=inner.temperature * temperature
        )
        other.k = top_k
        return Sharper(inner, setup)

    other: Any = None
    setup.wrap(generator=wrap)


class _Sharper(PolicyGenerator):
    """Draws from the `k` likeliest tokens, or from all where k is 0."""

    k = 0

    def filtered(self, logits: Tensor) -> Tensor:
        if not self.k:
            return logits
        return torch.where(logits >= logits.topk(self.k).values[..., -1:], logits, -torch.inf)
