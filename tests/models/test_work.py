"""Counted operations against those that torch counts; it knows no fused attention on a processor."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

from regard.models.loading import add_lora
from regard.models.work import operations_per_second, sizes_of

LENGTH, ROWS = 24, 3


@pytest.fixture(params=[4, 2])
def model(request: pytest.FixtureRequest) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=72, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=request.param, tie_word_embeddings=True, attn_implementation="eager",
    )  # fmt: skip
    return LlamaForCausalLM(config)


def counted(work) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def test_a_forward_pass_is_what_torch_counts_less_the_attention_that_is_masked(model: LlamaForCausalLM) -> None:
    sizes, ids = sizes_of(model), torch.randint(0, 50, (ROWS, LENGTH))
    masked = 4 * sizes.queries * sizes.layers * ROWS * LENGTH * (LENGTH - 1) / 2
    body = counted(lambda: model.model(input_ids=ids, use_cache=False))
    assert sizes.blocks([LENGTH] * ROWS) + masked == body
    whole = counted(lambda: model(input_ids=ids, use_cache=False))
    assert sizes.logits(LENGTH * ROWS) == whole - body
    assert sizes.blocks([LENGTH], 1) * 3 == pytest.approx(sizes.blocks([LENGTH]))


def test_sizes_are_seen_through_adapters(model: LlamaForCausalLM) -> None:
    plain = sizes_of(model)
    assert sizes_of(add_lora(model, 2, 0)) == plain


def test_a_model_with_other_blocks_is_not_counted() -> None:
    small = GPTNeoXConfig(
        vocab_size=50, hidden_size=32, intermediate_size=72, num_hidden_layers=1, num_attention_heads=4
    )
    with pytest.raises(ValueError, match="gpt_neox"):
        sizes_of(GPTNeoXForCausalLM(small))


def test_the_machines_rate_is_that_of_the_fastest_product_after_one_that_warms_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = iter([0.0, 0.001, 1.0, 1.5, 2.0, 2.25])  # three products: the first does not count
    monkeypatch.setattr("regard.models.work.time.perf_counter", lambda: next(seconds))
    assert operations_per_second(size=64, rounds=2) == 2 * 64**3 / 0.25


@pytest.mark.parametrize("tied", [True, False])
def test_weights_and_adapters_are_those_of_the_model(tied: bool) -> None:
    config = LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=72, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=tied,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    sizes = sizes_of(model)
    assert sizes.weights == sum(p.numel() for p in model.parameters())
    adapted = add_lora(model, 2, 0)
    assert 3 * sizes.adapters(2) == sum(p.numel() for p in adapted.parameters() if p.requires_grad)
