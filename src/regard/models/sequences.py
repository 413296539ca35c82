"""Prompts and responses as one right-padded batch, and the forward passes every stage shares.

A forward pass computes no padding where the model's attention allows it (`attention.packed`). Elsewhere it is on the
right, which with causal attention needs no mask: a real token never looks at what stands to its right, so padding
cannot change a score. (Generation, where new tokens come on the right, pads on the left: rollout/generator.py.)
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from regard.models import attention
from regard.models.sizes import MANY, ONE_STREAM, filled, logits_chunk
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
    lengths: list[int]
    """Tokens of each row of input_ids that are no padding."""
    trunk: list[Tensor] | None = None
    """[length, D] per row, hidden states above the frozen first blocks, from `with_trunk`; forward passes then begin
    there."""


def make_batch(prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], pad_id: int) -> SequenceBatch:
    """Raises ValueError if a prompt is empty: the first response token would have no state to be predicted from."""
    if any(len(p) == 0 for p in prompts):
        raise ValueError("every prompt needs at least one token")
    lengths = [len(p) + len(r) for p, r in zip(prompts, responses, strict=True)]
    width = max(1, max(len(r) for r in responses))
    input_ids = torch.full((len(prompts), max(lengths)), pad_id)
    tokens = torch.full((len(prompts), width), pad_id)
    mask = torch.zeros((len(prompts), width), dtype=torch.bool)
    positions = torch.zeros((len(prompts), width), dtype=torch.long)
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        joined = torch.tensor([*prompt, *response])
        input_ids[row, : len(joined)] = joined
        tokens[row, : len(response)] = joined[len(prompt) :]
        mask[row, : len(response)] = True
        positions[row, : len(response)] = torch.arange(len(prompt) - 1, len(joined) - 1)
    return SequenceBatch(input_ids, tokens, mask, positions, lengths)


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


def _states(model: Any, rows: Sequence[Tensor], blocks: slice | None = None) -> Tensor:
    """[N, D] hidden states of all N tokens of sequences, one after another.

    Args:
        rows: [length] token ids of each sequence, or [length, D] states that blocks before these left of it.
        blocks: all, if not said; the last norm goes with the last block.
    """
    body, lengths = transformer_body(model), [len(row) for row in rows]
    part = nullcontext() if blocks is None else _only(body, blocks, nn.Identity() if blocks.stop else body.norm)
    name = "inputs_embeds" if rows[0].is_floating_point() else "input_ids"
    window = getattr(body.config, "sliding_window", None) or max(lengths)  # which `packed` does not look at
    with part:
        if body.config._attn_implementation == attention.NAME and max(lengths) <= window:
            row = _filled(torch.cat(list(rows))).unsqueeze(0)
            places = _filled(torch.cat([torch.arange(length) for length in lengths])).unsqueeze(0)
            with attention.packed(lengths, row.shape[1]):
                out = body(**{name: row}, position_ids=places, use_cache=False).last_hidden_state
            return out[0, : sum(lengths)]
        out = body(**{name: pad_sequence(list(rows), batch_first=True)}, use_cache=False).last_hidden_state
    return out[torch.arange(out.shape[1]) < torch.tensor(lengths).unsqueeze(1)]


def _filled(x: Tensor) -> Tensor:
    """[N, …] with zeros after it."""
    return torch.cat([x, x.new_zeros((filled(len(x), MANY) - len(x), *x.shape[1:]))])


@torch.no_grad()
def with_trunk(model: Any, batch: SequenceBatch) -> SequenceBatch:
    """The batch with what the frozen first blocks make of it, or as it is if there are none."""
    count = frozen_blocks(model)
    if count == 0:
        return batch
    return batch._replace(trunk=list(_states(model, _ids(batch), slice(0, count)).split(batch.lengths)))


def _ids(batch: SequenceBatch) -> list[Tensor]:
    return [row[:length] for row, length in zip(batch.input_ids, batch.lengths, strict=True)]


def response_hidden(model: Any, batch: SequenceBatch) -> Tensor:
    """[B, T, D] hidden state before each response token: the state s_t = (prompt, y_<t)."""
    count = frozen_blocks(model)
    if batch.trunk is None or count == 0:  # a model that stands apart has no trunk to begin above
        states = _states(model, _ids(batch))
    else:
        states = _states(model, batch.trunk, slice(count, None))
    begins = torch.tensor([0, *batch.lengths[:-1]]).cumsum(0).unsqueeze(1)
    return states[batch.positions + begins]


def last_hidden(model: Any, sequences: Sequence[Sequence[int]]) -> Tensor:
    """[B, D] hidden state of the last token of each sequence."""
    ends = torch.tensor([len(sequence) for sequence in sequences]).cumsum(0) - 1
    return _states(model, [torch.tensor(sequence) for sequence in sequences])[ends]


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
    flat, tokens = hidden[batch.response_mask], batch.tokens[batch.response_mask]
    if temperature != 1.0:
        flat = flat / temperature
    head = language_head(model).to(flat.dtype)
    chunk = logits_chunk(len(head))
    out = chunked_logprobs(_filled(flat), head, _filled(tokens), chunk_size=chunk, with_entropy=with_entropy)
    logprobs = torch.zeros(batch.tokens.shape, dtype=out.logprobs.dtype)
    logprobs[batch.response_mask] = out.logprobs[: len(tokens)]
    entropy = torch.zeros_like(logprobs, requires_grad=False)
    if out.entropy is not None:
        entropy[batch.response_mask] = out.entropy[: len(tokens)].to(entropy.dtype)
    return TokenScores(logprobs, entropy)
