"""Sampling in process, with a key-value cache, from the policy's full distribution."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from regard.models.sequences import language_head, transformer_body
from regard.ops import output_logits
from regard.rollout.protocols import Generated


class PolicyGenerator:
    """Samples y_t ~ π(·|x, y_<t) by inverting the cumulative distribution at a given uniform number.

    One uniform per row and position makes a response a function of (weights, prompt, its own uniforms): it does not
    depend on which other rows share the batch or which process draws it.
    """

    def __init__(self, model: Any, *, pad_id: int, eos_id: int, temperature: float = 1.0) -> None:
        self.model = model
        self.pad_id = pad_id
        self.eos_id = eos_id
        self.temperature = temperature

    @torch.no_grad()
    def generate(self, prompts: Sequence[Sequence[int]], uniforms: Tensor) -> Generated:
        batch, cap = uniforms.shape
        width = max(map(len, prompts))
        ids = torch.full((batch, width), self.pad_id)
        attention = torch.zeros((batch, width), dtype=torch.long)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            attention[row, width - len(prompt) :] = 1
        positions = (attention.cumsum(1) - 1).clamp(min=0)

        responses: list[list[int]] = [[] for _ in prompts]
        logprobs: list[list[float]] = [[] for _ in prompts]
        rows = torch.arange(batch)  # rows in the forward pass; those that have ended leave it, and the cache
        alive = torch.ones(batch, dtype=torch.bool)
        cache = DynamicCache()
        body, head = transformer_body(self.model), language_head(self.model)
        for t in range(cap):
            hidden = body(
                input_ids=ids, attention_mask=attention, position_ids=positions, past_key_values=cache, use_cache=True
            ).last_hidden_state[:, -1]
            logits = self.logits(hidden, head)
            tokens, token_logprobs = sample(logits, uniforms[rows, t], self.temperature)
            for row, token, logprob in zip(rows.tolist(), tokens.tolist(), token_logprobs.tolist(), strict=True):
                responses[row].append(token)
                logprobs[row].append(logprob)
            alive = alive & (tokens != self.eos_id)
            if not alive.any():
                break
            ids, positions = tokens.unsqueeze(1), positions[:, -1:] + 1
            attention = torch.cat([attention, torch.ones((len(rows), 1), dtype=torch.long)], dim=1)
            # Copying the cache costs about one step, so rows leave in groups; until then an ended row draws on, and
            # what it draws is cut off below.
            if alive.sum() <= 0.75 * len(rows):
                keep = alive.nonzero().squeeze(1)
                cache.batch_select_indices(keep)
                rows, ids, positions, attention = rows[keep], ids[keep], positions[keep], attention[keep]
                alive = alive[keep]
        return _cut_at_eos(responses, logprobs, self.eos_id)

    def logits(self, hidden: Tensor, head: Tensor) -> Tensor:
        """[B, V] from which the next token is drawn, given [B, D] hidden states and the [V, D] head."""
        return output_logits(hidden, head.to(hidden.dtype))


def sample(logits: Tensor, uniforms: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Inverse-CDF draw: token = min{v : F(v) > u}, F the cumulative softmax(logits / temperature), in float64.

    Args:
        logits: [B, V]; uniforms: [B] in [0, 1).
    Returns:
        tokens [B] and their log-probabilities [B] in float32.
    """
    logprobs = torch.log_softmax(logits.float() / temperature, dim=-1)
    cumulative = logprobs.double().exp_().cumsum(-1)
    target = uniforms.double().unsqueeze(1) * cumulative[:, -1:]
    tokens = torch.searchsorted(cumulative, target, right=True).squeeze(1).clamp(max=logits.shape[-1] - 1)
    return tokens, logprobs.gather(1, tokens.unsqueeze(1)).squeeze(1)


def _cut_at_eos(responses: list[list[int]], logprobs: list[list[float]], eos_id: int) -> Generated:
    finished: list[bool] = []
    for response, row_logprobs in zip(responses, logprobs, strict=True):
        end = response.index(eos_id) + 1 if eos_id in response else None
        finished.append(end is not None)
        if end is not None:
            del response[end:], row_logprobs[end:]
    return Generated(responses, finished, logprobs)
