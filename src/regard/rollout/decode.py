"""The forward passes of sampling: prompts once, then a token a row, with keys and values kept.

`Fused` runs Llama models by larger products than the library's own modules do: weights that multiply one input lie side
by side, those in bfloat16 in the order in which the processor reads them, and queries that share a key are rows of one
product. Between the products stands C where the system has a compiler for it (`native.py`), else torch (`Between`).
Any other model runs by its own modules (`Modular`), which are the oracle of `Fused` in the tests.
"""

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from regard.models.sequences import is_plain, language_head, transformer_body
from regard.models.sizes import FEW, filled
from regard.ops import output_logits
from regard.rollout.native import Native


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
        self.between: Between | Native = Between()
        if self.body.embed_tokens.weight.dtype is torch.bfloat16 and config.hidden_act == "silu":
            self.between = Native.compiled(self.width, self.heads // self.groups) or self.between

    def start(self, ids: Tensor, attention: Tensor) -> Tensor:
        batch, length = ids.shape
        self.first = attention.argmax(1)
        positions = (attention.cumsum(1) - 1).clamp(min=0)
        self.position = positions[:, -1]
        self.filled = 0
        hidden = self.body.embed_tokens(ids)
        slots = filled(length + self.room, FEW)
        self.kept = torch.zeros((len(self.blocks), 2, batch, self.groups, slots, self.width), dtype=hidden.dtype)
        each = torch.ones((length, length), dtype=torch.bool)
        # A padding sees itself, or its row of weights would be 0 / 0; nothing else sees it.
        seen = each.tril() & (attention.bool()[:, None, None, :] | each.diag().diag())
        return self._forward(hidden, positions, seen.repeat(1, 1, self.heads // self.groups, 1))

    def step(self, tokens: Tensor) -> Tensor:
        self.position = self.position + 1
        slots = torch.arange(filled(self.filled + 1, FEW))
        seen = (slots >= self.first.unsqueeze(1)) & (slots <= self.filled)
        return self._forward(
            self.body.embed_tokens(tokens.unsqueeze(1)), self.position.unsqueeze(1), seen[:, None, None]
        )

    def _forward(self, hidden: Tensor, positions: Tensor, seen: Tensor) -> Tensor:
        batch, new, _ = hidden.shape
        mask = torch.zeros(seen.shape, dtype=hidden.dtype).masked_fill_(~seen, -torch.inf)
        rotation = self.body.rotary_emb(hidden, positions)
        # Prompts are one pass, of which torch's attention takes a tenth.
        attend = self.between.attend if new == 1 else Between.attend
        for block, kept in zip(self.blocks, self.kept, strict=True):
            projected = block.attention_in(self.between.norm(block.norm_in, hidden))
            by_head = projected.view(batch, new, -1, self.width)
            hidden = hidden + block.attention_out(attend(by_head, rotation, kept, self.filled, self.first, mask))
            both = block.mlp_in(self.between.norm(block.norm_mlp, hidden))
            hidden = hidden + block.mlp_out(self.between.gated(block.act, both))
        self.filled += new
        hidden = self.body.norm(hidden[:, -1])
        return _times(hidden, self.head) if self.head.is_mkldnn else output_logits(hidden, self.head)

    def keep(self, rows: Tensor) -> None:
        self.kept = self.kept.index_select(2, rows)
        self.first, self.position = self.first[rows], self.position[rows]


class Between:
    """What stands between the products of a block, by torch's operations; `Native` does the same for bfloat16."""

    @staticmethod
    def norm(norm: nn.Module, x: Tensor) -> Tensor:
        return norm(x)

    @staticmethod
    def gated(act: nn.Module, both: Tensor) -> Tensor:
        """[…, 2·I] gates and what they let through ↦ [..., I]."""
        gate, up = both.chunk(2, -1)
        return act(gate) * up

    @staticmethod
    def attend(
        projected: Tensor, rotation: tuple[Tensor, Tensor], kept: Tensor, filled: int, first: Tensor, mask: Tensor
    ) -> Tensor:
        """[B, N, H + 2G, W] queries, keys and values of N new tokens ↦ [B, N, H·W].

        Args:
            rotation: [B, N, W] cosines and sines of their positions.
            kept: [2, B, G, slots, W] keys and values; the new ones join from slot `filled` on.
            first: [B] the first slot that is no padding.
            mask: which slots a query sees, 0 or −∞; broadcasts to [B, G, H/G·N, slots in use].
        """
        batch, new, _, width = projected.shape
        groups = kept.shape[2]
        heads = projected.shape[2] - 2 * groups
        cos, sin = (table.unsqueeze(2) for table in rotation)
        turned = projected[:, :, : heads + groups]
        turned = turned * cos + torch.cat([-turned[..., width // 2 :], turned[..., : width // 2]], -1) * sin
        keys, values = kept[:, :, :, : mask.shape[-1]]
        own = slice(filled, filled + new)
        keys[:, :, own] = turned[:, :, heads:].transpose(1, 2)
        values[:, :, own] = projected[:, :, heads + groups :].transpose(1, 2)
        # The queries that share a key stand in one row after another: a kernel for several queries and one head is five
        # times as fast as one that looks up the head of each.
        queries = turned[:, :, :heads].transpose(1, 2).reshape(batch, groups, heads // groups * new, width)
        seen = nn.functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        return seen.reshape(batch, heads, new, width).transpose(1, 2).reshape(batch, new, -1)


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
