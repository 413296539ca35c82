"""Sampling."""

from collections.abc import Sequence
from types import SimpleNamespace
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
        model = _top_k(inner.model, top_k) if top_k else inner.model
        other = PolicyGenerator(
            model, pad_id=inner.pad_id, eos_id=inner.eos_id, temperature=inner.temperature * temperature
        )
        return Sharper(inner, setup)

    other: Any = None
    setup.wrap(generator=wrap)


def _top_k(model: Any, k: int) -> Any:
    def forward(**inputs: Any) -> Any:
        logits = model(**inputs).logits
        least = logits.topk(k).values[..., -1:]
        return SimpleNamespace(logits=torch.where(logits >= least, logits, -torch.inf))

    return forward
