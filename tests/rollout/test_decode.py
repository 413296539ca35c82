"""Larger products give what the model's own modules give."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from regard.models.loading import add_lora
from regard.rollout.decode import Decoder, Fused, Modular, decoder_for, fusible

SHAPE = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "pad_token_id": 0,
         "initializer_range": 0.3}  # fmt: skip
PROMPTS = [[3, 4], [5, 6, 7, 8, 9], [10], [2, 3, 4, 5]]
ROOM = 14


def llama(heads: int = 4, groups: int = 2, **more: Any) -> Any:
    torch.manual_seed(7)
    config = LlamaConfig(**SHAPE | {"num_attention_heads": heads, "num_key_value_heads": groups} | more)
    return LlamaForCausalLM(config).double().eval()


def adapted(**more: Any) -> Any:
    """Adapters on the last two blocks, far from zero."""
    model = add_lora(llama(**more), 3, 1, last_layers=2).double().eval()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


@torch.no_grad()
def logits(decoder: Decoder) -> Tensor:
    """[steps, B, V] of the prompts and of tokens after them; the second row leaves on the way."""
    length = max(map(len, PROMPTS))
    tokens = torch.tensor([[0] * (length - len(p)) + p for p in PROMPTS])
    attention = torch.tensor([[0] * (length - len(p)) + [1] * len(p) for p in PROMPTS])
    out = [decoder.start(tokens, attention)[[0, 2, 3]]]
    out.append(decoder.step(torch.tensor([7, 8, 9, 11]))[[0, 2, 3]])
    decoder.keep(torch.tensor([0, 2, 3]))
    for step in range(ROOM - 1):
        out.append(decoder.step(torch.tensor([step + 2, 20 - step, 3 * step % 40])))
    return torch.stack(out)


@pytest.mark.parametrize(
    "make",
    [llama, lambda: llama(4, 4), lambda: llama(4, 1), lambda: llama(head_dim=6), adapted,
     lambda: llama(tie_word_embeddings=True),
     lambda: llama(rope_parameters={"rope_type": "linear", "rope_theta": 500.0, "factor": 3.0})],
    ids=["groups", "a key a head", "one key for all", "narrow heads", "adapters", "tied", "other positions"],
)  # fmt: skip
def test_fused_gives_what_the_modules_give(make: Callable[[], Any]) -> None:
    model = make()
    assert fusible(model) and isinstance(decoder_for(model, ROOM), Fused)
    torch.testing.assert_close(logits(Fused(model, ROOM)), logits(Modular(model)), rtol=0, atol=1e-10)


def test_adapters_switched_off_are_left_out() -> None:
    model = adapted()
    on = logits(Fused(model, ROOM))
    with model.disable_adapter():
        off = logits(Fused(model, ROOM))
        torch.testing.assert_close(off, logits(Modular(model)), rtol=0, atol=1e-10)
    torch.testing.assert_close(off, logits(Modular(llama())), rtol=0, atol=1e-10)
    assert (on - off).abs().max() > 0.1


def test_weights_are_those_of_the_moment() -> None:
    model = llama()
    before = logits(decoder_for(model, ROOM))
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight.mul_(2)
    after = logits(decoder_for(model, ROOM))
    assert (after - before).abs().max() > 0.1
    torch.testing.assert_close(after, logits(Modular(model)), rtol=0, atol=1e-10)


def test_bfloat16_rounds_as_the_modules_do() -> None:
    """In the order of the processor or not: the error is that of rounding, not of another sum."""
    model = llama(initializer_range=0.1).bfloat16()
    exact = logits(Modular(llama(initializer_range=0.1)))
    ours, theirs = (logits(decoder).double() for decoder in (Fused(model, ROOM), Modular(model)))
    assert (ours - exact).abs().max() < 2 * (theirs - exact).abs().max() < 0.2


@pytest.mark.parametrize(
    "make",
    [lambda: llama(attention_bias=True), lambda: llama(mlp_bias=True),
     lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE, num_attention_heads=4, num_key_value_heads=2)).double().eval()],
    ids=["bias of attention", "bias of the MLP", "another family"],
)  # fmt: skip
def test_other_models_run_by_their_own_modules(make: Callable[[], Any]) -> None:
    model = make()
    assert isinstance(decoder_for(model, ROOM), Modular)
    assert torch.isfinite(logits(decoder_for(model, ROOM))).all()


def test_a_model_with_a_hook_runs_by_its_own_modules() -> None:
    model = llama()
    model.model.layers[0].mlp.register_forward_hook(lambda module, args, output: 2 * output)
    assert not fusible(model)
