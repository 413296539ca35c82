"""Sampling in process, with a key-value cache, from the policy's full distribution."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from regard.models.sizes import FEW, filled
from regard.rollout.decode import decoder_for
from regard.rollout.protocols import Generated

BLOCK = 256
"""Tokens whose probabilities are summed first; a draw looks for the block, then for the token."""


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
        distinct = {prompt: row for row, prompt in enumerate(dict.fromkeys(map(tuple, prompts)))}
        width = max(map(len, distinct))
        ids = torch.full((len(distinct), width), self.pad_id)
        attention = torch.zeros((len(distinct), width), dtype=torch.long)
        for prompt, row in distinct.items():
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            attention[row, width - len(prompt) :] = 1

        responses: list[list[int]] = [[] for _ in prompts]
        logprobs: list[list[float]] = [[] for _ in prompts]
        rows = torch.arange(batch)  # rows in the forward pass; those that have ended leave it, and the cache
        alive = torch.ones(batch, dtype=torch.bool)
        decoder = decoder_for(self.model, cap)
        logits = decoder.start(ids, attention)
        if len(distinct) < batch:  # a group's prompt is computed once
            place = torch.tensor([distinct[tuple(prompt)] for prompt in prompts])
            decoder.keep(place)
            logits = logits[place]
        for t in range(cap):
            tokens, token_logprobs = sample(self.filtered(logits), uniforms[rows, t], self.temperature)
            for row, token, logprob in zip(rows.tolist(), tokens.tolist(), token_logprobs.tolist(), strict=True):
                responses[row].append(token)
                logprobs[row].append(logprob)
            alive = alive & (tokens != self.eos_id)
            if t + 1 == cap or not alive.any():
                break
            # Copying the cache costs about one step, so rows leave in groups; until then an ended row draws on, and
            # what it draws is cut off below.
            stay = filled(int(alive.sum()), FEW)
            if stay <= 0.75 * len(rows):
                keep = alive.int().argsort(descending=True, stable=True)[:stay].sort().values
                decoder.keep(keep)
                rows, tokens, alive = rows[keep], tokens[keep], alive[keep]
            logits = decoder.step(tokens)
        return _cut_at_eos(responses, logprobs, self.eos_id)

    def filtered(self, logits: Tensor) -> Tensor:
        """[B, V] from which the next token is drawn, given what the model says: the same."""
        return logits


def sample(logits: Tensor, uniforms: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Inverse-CDF draw: token = min{v : F(v) > u}, F the cumulative softmax(logits / temperature), summed in float64.

    Args:
        logits: [B, V]; uniforms: [B] in [0, 1).
    Returns:
        tokens [B] and their log-probabilities [B] in float32.
    """
    scaled = logits.float() / temperature if temperature != 1.0 else logits.to(torch.float32, copy=True)
    top = scaled.amax(-1, keepdim=True)
    weights = scaled.sub_(top).exp_()  # in place: each pass over the vocabulary costs a millisecond
    if over := -weights.shape[-1] % BLOCK:
        weights = nn.functional.pad(weights, (0, over))
    blocks = weights.view(len(weights), -1, BLOCK)
    ends = nn.functional.pad(blocks.sum(-1).double().cumsum(-1), (1, 0))
    target = uniforms.double().unsqueeze(1) * ends[:, -1:]
    block = _first_above(ends[:, 1:].contiguous(), target)
    within = blocks[torch.arange(len(blocks)), block.squeeze(1)].double().cumsum(-1) + ends.gather(1, block)
    tokens = block * BLOCK + _first_above(within, target)
    chosen = logits.gather(1, tokens).float() / temperature
    return tokens.squeeze(1), (chosen - top - ends[:, -1:].log()).float().squeeze(1)


def _first_above(cumulative: Tensor, target: Tensor) -> Tensor:
    """[B, 1] index of the first sum above the target; where rounding leaves none, of the last that still grew."""
    first = torch.searchsorted(cumulative, target, right=True)
    last = torch.searchsorted(cumulative, cumulative[:, -1:].contiguous())
    return torch.minimum(first, last)


def _cut_at_eos(responses: list[list[int]], logprobs: list[list[float]], eos_id: int) -> Generated:
    finished: list[bool] = []
    for response, row_logprobs in zip(responses, logprobs, strict=True):
        end = response.index(eos_id) + 1 if eos_id in response else None
        finished.append(end is not None)
        if end is not None:
            del response[end:], row_logprobs[end:]
    return Generated(responses, finished, logprobs)
