"""Policy, value and reference of stage 4, sharing one backbone or standing apart."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from regard.config import ModelConfig
from regard.models.checkpoints import weights_sha256
from regard.models.heads import ScalarHead, leave_out_language_head
from regard.models.loading import add_lora, load_causal
from regard.models.sequences import SequenceBatch, response_hidden, response_logprobs
from regard.ops import entropy_from_logits

Trained = Literal["both", "policy", "value"]


class PolicyOutput(NamedTuple):
    logprobs: Tensor
    """[B, T] of the response tokens, differentiable."""
    entropy: Tensor
    """[B, T] nats; differentiable only if asked for."""
    values: Tensor
    """[B, T] V(s_t) before each response token."""


class PolicyAndValue(nn.Module):
    """The two trained parts. `value_body` None puts the value head on the policy's own hidden states."""

    def __init__(self, model: Any, tokenizer: Any, value_body: Any | None, temperature: float) -> None:
        super().__init__()
        if value_body is not None:
            leave_out_language_head(value_body)
        self.model = model
        self.tokenizer = tokenizer
        self.value_body = value_body
        self.value_head = ScalarHead(model.config.hidden_size)
        self.temperature = temperature

    def value_parameters(self) -> list[nn.Parameter]:
        """Trained weights that only the value uses: its head, and its body where it has its own."""
        modules = [self.value_head] if self.value_body is None else [self.value_body, self.value_head]
        return [p for module in modules for p in module.parameters() if p.requires_grad]

    def apart(self) -> dict[Trained, list[nn.Parameter]]:
        """Trained weights by what one backward pass learns: policy and value at once where they share a backbone."""
        everything = [p for p in self.parameters() if p.requires_grad]
        if self.value_body is None:
            return {"both": everything}
        value = self.value_parameters()
        of_value = set(map(id, value))
        return {"policy": [p for p in everything if id(p) not in of_value], "value": value}

    def forward(
        self,
        batch: SequenceBatch,
        of: Trained = "both",
        *,
        with_entropy: bool = True,
        differentiable_entropy: bool = False,
    ) -> PolicyOutput:
        """Entropy is 0 unless asked for, as a metric or to be differentiated. Of the policy alone values are 0, of the
        value alone log-probabilities."""
        logprobs = entropy = values = torch.zeros(batch.tokens.shape)
        hidden = None if of == "value" else response_hidden(self.model, batch)
        if hidden is not None:
            logprobs, entropy = response_logprobs(
                self.model, hidden, batch, temperature=self.temperature, with_entropy=with_entropy
            )
            if differentiable_entropy:
                entropy = entropy_from_logits(self.model.get_output_embeddings()(hidden) / self.temperature)
        if of != "policy":
            values = self.value_head(hidden if self.value_body is None else response_hidden(self.value_body, batch))
        return PolicyOutput(logprobs, entropy, values)


class FrozenReference:
    """Reference: a copy of the SFT model of its own, or the policy's backbone with its adapters switched off."""

    def __init__(self, model: Any, temperature: float, *, adapters_off: bool) -> None:
        self.model = model
        self.temperature = temperature
        self.adapters_off = adapters_off

    @contextmanager
    def active(self) -> Iterator[Any]:
        """The model as the reference, for a forward pass or for sampling."""
        with torch.no_grad():
            if self.adapters_off:
                with self.model.disable_adapter():
                    yield self.model
            else:
                yield self.model

    def logprobs(self, batch: SequenceBatch) -> Tensor:
        with self.active() as model:
            return response_logprobs(model, response_hidden(model, batch), batch, temperature=self.temperature).logprobs

    def sha256(self) -> str:
        """Of the frozen weights alone; adapters on the same backbone do not count."""
        if not self.adapters_off:
            return weights_sha256(self.model)
        frozen = nn.Module()
        for index, (name, parameter) in enumerate(sorted(self.model.named_parameters())):
            if "lora_" not in name:
                frozen.register_parameter(f"p{index}", nn.Parameter(parameter.data, requires_grad=False))
        return weights_sha256(frozen)


def load_policy(
    path: Path, config: ModelConfig, *, value_model: str, temperature: float, seed: int, lora_layers: int = 0
) -> tuple[PolicyAndValue, FrozenReference]:
    """Policy, value and reference, all starting from the SFT model at `path`. Adapters sit on the last
    `lora_layers` blocks, or on all."""
    dtype = getattr(torch, config.dtype)
    model, tokenizer = load_causal(str(path), dtype)
    value_body = None
    if value_model == "separate":
        value_body, _ = load_causal(str(path), dtype)
        if config.lora_rank:
            value_body = add_lora(value_body, config.lora_rank, seed + 1, lora_layers)
    if config.lora_rank:
        model = add_lora(model, config.lora_rank, seed, lora_layers)
        reference = FrozenReference(model, temperature, adapters_off=True)
    else:
        frozen, _ = load_causal(str(path), dtype)
        reference = FrozenReference(frozen.eval().requires_grad_(False), temperature, adapters_off=False)
    # No dropout anywhere: two forward passes of one policy must agree, or the ratio measures noise.
    return PolicyAndValue(model, tokenizer, value_body, temperature).eval(), reference
