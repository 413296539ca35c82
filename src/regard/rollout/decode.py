"""The forward passes of sampling: prompts once, then a token a row, with keys and values kept.

`Fused` runs Llama models by larger products than the library's own modules do: weights that multiply one input lie side
by side, those in bfloat16 in the order in which the processor reads them, and queries that share a key are rows of one
product. Any other model runs by its own modules (`Modular`), which are the oracle of `Fused` in the tests.
"""

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from regard.models.sequences import is_plain, language_head, transformer_body
from regard.models.sizes import FEW, filled
from regard.ops import output_logits


class Decoder(Protocol):
    """B rows of left-padded prompts, then tokens that are appended to all of them."""

    def start(self, ids: Tensor, attention: Tensor) -> Tensor:
        """[B, L] token ids and which of them are no padding (1) ↦ [B, V] logits of the token that comes next."""
        ...

    def step(self, tokens: Tensor) -> Tensor:
        """[B] tokens to append ↦ [B, V] logits of what comes after them."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows alone."""
        ...


def decoder_for(model: Any, room: int) -> Decoder:
    """The faster decoder that does what the model's modules do; `room` tokens will be appended at most."""
    return Fused(model, room) if fusible(model) else Modular(model)


class Modular:
    """By the model's own modules and the library's cache."""

    def __init__(self, model: Any) -> None:
        self.body, self.head = transformer_body(model), language_head(model)
        self.cache = DynamicCache()

    def start(self, ids: Tensor, attention: Tensor) -> Tensor:
        self.attention = attention
        positions = (attention.cumsum(1) - 1).clamp(min=0)
        self.position = positions[:, -1:]
        return self._forward(ids, positions)

    def step(self, tokens: Tensor) -> Tensor:
        self.attention = torch.cat([self.attention, self.attention.new_ones((len(tokens), 1))], dim=1)
        self.position = self.position + 1
        return self._forward(tokens.unsqueeze(1), self.position)

    def _forward(self, ids: Tensor, positions: Tensor) -> Tensor:
        out = self.body(
            input_ids=ids,
            attention_mask=self.attention,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
        )
        hidden = out.last_hidden_state[:, -1]
        return output_logits(hidden, self.head.to(hidden.dtype))

    def keep(self, rows: Tensor) -> None:
        self.cache.batch_select_indices(rows)
        self.attention, self.position = self.attention[rows], self.position[rows]


def fusible(model: Any) -> bool:
    """Whether `Fused` computes what the modules do: a Llama without biases and hooks, whose linear layers are as they
    came, apart from one plain adapter of peft (Hu et al. 2021)."""
    body = transformer_body(model)
    config = body.config
    if config.model_type != "llama" or config.attention_bias or config.mlp_bias:
        return False
    if any(module._forward_hooks or module._forward_pre_hooks for module in body.modules()):
        return False
    layers = [layer for block in body.layers for layer in _linear_layers(block)]
    return all(type(layer) is nn.Linear or is_plain(layer) for layer in layers)


def _linear_layers(block: Any) -> list[Any]:
    attention, mlp = block.self_attn, block.mlp
    return [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj,
            mlp.gate_proj, mlp.up_proj, mlp.down_proj]  # fmt: skip


class Fused:
    """By few and large products, from the weights as they are when it is made."""

    def __init__(self, model: Any, room: int) -> None:
        self.body = transformer_body(model)
        self.room = room
        config = self.body.config
        self.heads, self.groups = config.num_attention_heads, config.num_key_value_heads
        self.width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.blocks = [_Block(block) for block in self.body.layers]
        self.head = _packed(language_head(model).detach())

    def start(self, ids: Tensor, attention: Tensor) -> Tensor:
        batch, length = ids.shape
        valid = attention.bool()
        self.valid = nn.functional.pad(valid, (0, filled(length + self.room, FEW) - length))
        positions = (attention.cumsum(1) - 1).clamp(min=0)
        self.position = positions[:, -1]
        self.filled = 0
        hidden = self.body.embed_tokens(ids)
        shape = (len(self.blocks), 2, batch, self.groups, self.valid.shape[1], self.width)
        self.kept = torch.zeros(shape, dtype=hidden.dtype)
        each = torch.ones((length, length), dtype=torch.bool)
        # A padding sees itself, or its row of weights would be 0 / 0; nothing else sees it.
        mask = each.tril() & (valid[:, None, None, :] | each.diag().diag())
        return self._forward(hidden, positions, mask)

    def step(self, tokens: Tensor) -> Tensor:
        self.position = self.position + 1
        self.valid[:, self.filled] = True
        mask = self.valid[:, None, None, : filled(self.filled + 1, FEW)]
        return self._forward(self.body.embed_tokens(tokens.unsqueeze(1)), self.position.unsqueeze(1), mask)

    def _forward(self, hidden: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        batch, new, _ = hidden.shape
        self.filled += new
        mask = torch.zeros(mask.shape, dtype=hidden.dtype).masked_fill_(~mask, -torch.inf)
        cos, sin = (table.unsqueeze(2) for table in self.body.rotary_emb(hidden, positions))
        for block, kept in zip(self.blocks, self.kept, strict=True):
            projected = block.attention_in(block.norm_in(hidden))
            seen = self._attend(projected.view(batch, new, -1, self.width), cos, sin, kept, mask)
            hidden = hidden + block.attention_out(seen)
            gate, up = block.mlp_in(block.norm_mlp(hidden)).chunk(2, -1)
            hidden = hidden + block.mlp_out(block.act(gate) * up)
        hidden = self.body.norm(hidden[:, -1])
        return _times(hidden, self.head) if self.head.is_mkldnn else output_logits(hidden, self.head)

    def _attend(self, projected: Tensor, cos: Tensor, sin: Tensor, kept: Tensor, mask: Tensor) -> Tensor:
        """[B, N, H + 2G, W] queries, keys and values of N new tokens ↦ [B, N, H·W]; keys and values join `kept`."""
        batch, new, _, width = projected.shape
        turned = projected[:, :, : self.heads + self.groups]
        turned = turned * cos + torch.cat([-turned[..., width // 2 :], turned[..., : width // 2]], -1) * sin
        keys, values = kept[:, :, :, : mask.shape[-1]]
        own = slice(self.filled - new, self.filled)
        keys[:, :, own] = turned[:, :, self.heads :].transpose(1, 2)
        values[:, :, own] = projected[:, :, self.heads + self.groups :].transpose(1, 2)
        # The queries that share a key stand in one row after another: a kernel for several queries and one head is five
        # times as fast as one that looks up the head of each.
        sharing = self.heads // self.groups
        queries = turned[:, :, : self.heads].transpose(1, 2).reshape(batch, self.groups, sharing * new, width)
        if new > 1:
            mask = mask.repeat(1, 1, sharing, 1)
        seen = nn.functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        return seen.reshape(batch, self.heads, new, width).transpose(1, 2).reshape(batch, new, -1)

    def keep(self, rows: Tensor) -> None:
        self.kept = self.kept.index_select(2, rows)
        self.valid, self.position = self.valid[rows], self.position[rows]


class _Block:
    def __init__(self, block: Any) -> None:
        q, k, v, o, gate, up, down = _linear_layers(block)
        self.norm_in, self.norm_mlp, self.act = block.input_layernorm, block.post_attention_layernorm, block.mlp.act_fn
        self.attention_in, self.attention_out = _Product(q, k, v), _Product(o)
        self.mlp_in, self.mlp_out = _Product(gate, up), _Product(down)


class _Product:
    """x ↦ x·[W_1; W_2; …]ᵀ, and α/r·x·Aᵀ·Bᵀ of the adapters that are switched on."""

    def __init__(self, *layers: Any) -> None:
        weights = [getattr(layer, "base_layer", layer).weight for layer in layers]
        weight = torch.cat(weights) if len(weights) > 1 else weights[0]
        self.weight = _packed(weight.detach())
        self.outer: Tensor | None = None
        adapted = [layer for layer in layers if hasattr(layer, "base_layer") and not layer.disable_adapters]
        if adapted:
            inner, outer = [], []
            for layer, own in zip(layers, weights, strict=True):
                if layer in adapted:
                    (name,) = layer.active_adapters
                    inner.append(layer.lora_A[name].weight)
                    outer.append(layer.lora_B[name].weight * layer.scaling[name])
                else:
                    inner.append(own.new_zeros((0, own.shape[1])))
                    outer.append(own.new_zeros((own.shape[0], 0)))
            self.inner = torch.cat(inner).to(weight.dtype)
            self.outer = torch.block_diag(*outer).to(weight.dtype)

    def __call__(self, x: Tensor) -> Tensor:
        out = _times(x, self.weight)
        if self.outer is not None:
            out = out + nn.functional.linear(nn.functional.linear(x, self.inner), self.outer)
        return out


def _packed(weight: Tensor) -> Tensor:
    """In the order in which oneDNN reads it, where the processor multiplies bfloat16."""
    if weight.dtype is not torch.bfloat16 or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return weight
    return torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)


def _times(x: Tensor, weight: Tensor) -> Tensor:
    if weight.is_mkldnn:
        return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return nn.functional.linear(x, weight)
