"""Causal attention in bfloat16 for the short sequences of training, under a name of transformers' registry.
For models whose attention is that and nothing else (`ONE_STREAM`).

The library's fused kernel is made for long sequences; of some tens of tokens its backward pass is slow. Here queries
that share a key are rows of one product, so no key is copied, and scores are float32, as in the fused kernel.
Everything else (float32, long sequences, padding on the left, a cache) goes to that kernel, which is the oracle of this
one in the tests.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from regard.models.sizes import SHORT

NAME = "regard"


def attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **settings: Any
) -> tuple[Tensor, None]:
    """softmax(QKᵀ·scaling + causal mask)·V.

    Args:
        query: [B, H, L, W]; key, value: [B, G, L, W], each for H/G neighbouring heads.
        attention_mask: None where nothing is hidden but the future.
    Returns:
        [B, L, H, W], and None for the weights.
    """
    (batch, heads, length, width), groups = query.shape, key.shape[1]
    plain = attention_mask is None and key.shape == value.shape == (batch, groups, length, width)
    if not plain or query.dtype is not torch.bfloat16 or not 1 < length <= SHORT:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **settings)[0], None
    rows = batch * groups
    queries = (query.float() * settings.get("scaling", width**-0.5)).reshape(rows, -1, width)
    scores = torch.bmm(queries, key.float().reshape(rows, length, width).mT).view(rows, -1, length, length)
    future = torch.full((length, length), -torch.inf).triu(1)
    weights = torch.softmax(scores + future, -1).to(value.dtype).view(rows, -1, length)
    seen = torch.bmm(weights, value.reshape(rows, length, width)).view(batch, heads, length, width)
    return seen.transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
