"""Prompts and responses as one right-padded batch, and the forward passes every stage shares.

Right padding with causal attention needs no attention mask: a real token never looks at what stands to its right, so
padding cannot change a score. (Generation, where new tokens come on the right, pads on the left: rollout/generator.py.)
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from regard.models import attention
from regard.models.sizes import ONE_STREAM, logits_chunk
from regard.ops import chunked_logprobs


class SequenceBatch(NamedTuple):
    """B sequences of prompt + response."""

    input_ids: Tensor
    """[B, L] prompt and response, right-padded."""
    tokens: Tensor
    """[B, T] response tokens, right-padded."""
    response_mask: Tensor
    """[B, T] True on response tokens, EOS included."""
    positions: Tensor
    """[B, T] where in input_ids the state before each response token lies."""
    trunk: Tensor | None = None
    """[B, L, D] hidden states above the frozen first blocks, from `with_trunk`; forward passes then begin there."""


def make_batch(prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], pad_id: int) -> SequenceBatch:
    """Raises ValueError if a prompt is empty: the first response token would have no state to be predicted from."""
    if any(len(p) == 0 for p in prompts):
        raise ValueError("every prompt needs at least one token")
    longest = max(len(p) + len(r) for p, r in zip(prompts, responses, strict=True))
    width = max(1, max(len(r) for r in responses))
    input_ids = torch.full((len(prompts), longest), pad_id)
    tokens = torch.full((len(prompts), width), pad_id)
    mask = torch.zeros((len(prompts), width), dtype=torch.bool)
    positions = torch.zeros((len(prompts), width), dtype=torch.long)
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        joined = torch.tensor([*prompt, *response])
        input_ids[row, : len(joined)] = joined
        tokens[row, : len(response)] = joined[len(prompt) :]
        mask[row, : len(response)] = True
        positions[row, : len(response)] = torch.arange(len(prompt) - 1, len(joined) - 1)
    return SequenceBatch(input_ids, tokens, mask, positions)


def transformer_body(model: Any) -> Any:
    """The stack below the language-model head, through a peft wrapper if there is one."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    return causal.base_model


def language_head(model: Any) -> Tensor:
    """[V, D] weight of the (often tied) output embedding."""
    return model.get_output_embeddings().weight


def frozen_blocks(model: Any) -> int:
    """How many of the first blocks carry no adapter while later ones do: policy and reference share what they compute,
    and so do all epochs of one iteration."""
    if not hasattr(model, "peft_config") or transformer_body(model).config.model_type not in ONE_STREAM:
        return 0
    for index, block in enumerate(transformer_body(model).layers):
        if any("lora_" in name for name, _ in block.named_parameters()):
            return index
    return 0


def is_plain(layer: Any) -> bool:
    """Whether x·Wᵀ + c + s·x·Aᵀ·Bᵀ is all that a layer of peft does: one adapter of a linear layer, not merged, no
    variant, no dropout, no bias of its own."""
    if type(getattr(layer, "base_layer", None)) is not nn.Linear or layer.merged or len(layer.active_adapters) != 1:
        return False
    (name,) = layer.active_adapters
    dropout = type(layer.lora_dropout[name]) is not nn.Identity
    return not dropout and not layer.lora_variant.get(name) and layer.lora_B[name].bias is None


@contextmanager
def _only(body: Any, blocks: slice, norm: nn.Module) -> Iterator[None]:
    whole = body.layers, body.norm
    body.layers, body.norm = body.layers[blocks], norm
    try:
        yield
    finally:
        body.layers, body.norm = whole


@torch.no_grad()
def with_trunk(model: Any, batch: SequenceBatch) -> SequenceBatch:
    """The batch with what the frozen first blocks make of it, or as it is if there are none."""
    count = frozen_blocks(model)
    if count == 0:
        return batch
    body = transformer_body(model)
    with _only(body, slice(0, count), nn.Identity()):
        return batch._replace(trunk=body(input_ids=batch.input_ids, use_cache=False).last_hidden_state)


def put_trunk(batch: SequenceBatch, rows: Sequence[Tensor]) -> SequenceBatch:
    """The batch with kept trunk states, one [length, D] a row."""
    trunk = rows[0].new_zeros((*batch.input_ids.shape, rows[0].shape[-1]))
    for row, states in enumerate(rows):
        trunk[row, : len(states)] = states
    return batch._replace(trunk=trunk)


def response_hidden(model: Any, batch: SequenceBatch) -> Tensor:
    """[B, T, D] hidden state before each response token: the state s_t = (prompt, y_<t)."""
    body = transformer_body(model)
    count = frozen_blocks(model)
    if batch.trunk is None or count == 0:  # a model that stands apart has no trunk to begin above
        hidden = body(input_ids=batch.input_ids, use_cache=False).last_hidden_state
    else:
        with _only(body, slice(count, None), body.norm):
            hidden = body(inputs_embeds=batch.trunk, use_cache=False).last_hidden_state
    index = batch.positions.unsqueeze(-1).expand(-1, -1, hidden.shape[-1])
    return hidden.gather(1, index)


ROW_STEP = 32
"""A row of packed sequences has a multiple of so many tokens: a product of a new shape costs a kernel of its own."""


def last_hidden(model: Any, sequences: Sequence[Sequence[int]], pad_id: int) -> Tensor:
    """[B, D] hidden state of the last token of each sequence, without padding where the model's attention allows it."""
    body = transformer_body(model)
    lengths = [len(sequence) for sequence in sequences]
    window = getattr(body.config, "sliding_window", None) or max(lengths)  # which `packed` does not look at
    if body.config._attn_implementation == attention.NAME and max(lengths) <= window:
        fill = -sum(lengths) % ROW_STEP
        ids = torch.tensor([[*(token for sequence in sequences for token in sequence), *[pad_id] * fill]])
        positions = torch.tensor([[*(place for length in lengths for place in range(length)), *[0] * fill]])
        with attention.packed(lengths, ids.shape[1]):
            hidden = body(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state
        return hidden[0, torch.tensor(lengths).cumsum(0) - 1]
    ids = torch.full((len(sequences), max(lengths)), pad_id)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence)
    hidden = body(input_ids=ids, use_cache=False).last_hidden_state
    return hidden[torch.arange(len(sequences)), torch.tensor(lengths) - 1]


class TokenScores(NamedTuple):
    logprobs: Tensor
    """[B, T] natural-log probability of each response token; 0 outside the mask."""
    entropy: Tensor
    """[B, T] nats, detached; 0 outside the mask."""


def response_logprobs(
    model: Any, hidden: Tensor, batch: SequenceBatch, *, temperature: float = 1.0, with_entropy: bool = False
) -> TokenScores:
    """Score response tokens from `response_hidden`, with logits only where a response token stands.

    A temperature other than 1 divides the logits, as the generator does, so that both speak of one distribution.
    """
    flat = hidden[batch.response_mask]
    if temperature != 1.0:
        flat = flat / temperature
    head = language_head(model).to(flat.dtype)
    out = chunked_logprobs(
        flat,
        head,
        batch.tokens[batch.response_mask],
        chunk_size=logits_chunk(len(head)),
        with_entropy=with_entropy,
    )
    logprobs = torch.zeros(batch.tokens.shape, dtype=out.logprobs.dtype)
    logprobs[batch.response_mask] = out.logprobs
    entropy = torch.zeros_like(logprobs, requires_grad=False)
    if out.entropy is not None:
        entropy[batch.response_mask] = out.entropy.to(entropy.dtype)
    return TokenScores(logprobs, entropy)
