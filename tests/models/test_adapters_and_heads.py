"""LoRA in mixed precision, and reward scores that do not depend on what shares a forward pass."""

from pathlib import Path
from typing import Any

import pytest
import torch

from regard.config import ModelConfig, ScratchConfig
from regard.errors import ConfigError
from regard.models.heads import RewardModel
from regard.models.loading import add_lora, build_scratch, merged, save_causal, train_tokenizer
from regard.models.sequences import (
    frozen_blocks,
    make_batch,
    response_hidden,
    response_logprobs,
    with_trunk,
)

TEXTS = ["a good film", "the film was long, and nobody in it could act", "fine", "no", "what a story this film tells"]


@pytest.fixture
def parts() -> tuple[Any, Any]:
    tokenizer = train_tokenizer(TEXTS * 3, 300)
    return build_scratch(ScratchConfig(hidden_size=32, num_layers=2, num_heads=2), tokenizer, 1), tokenizer


def with_adapters(model: Any, last_layers: int = 0) -> Any:
    """Adapters that do something: peft starts them at zero."""
    adapted = add_lora(model, 4, 1, last_layers)
    generator = torch.Generator().manual_seed(2)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return adapted


def test_adapters_keep_float32_weights_and_gradients_on_a_bfloat16_body(parts: tuple[Any, Any]) -> None:
    model = with_adapters(parts[0].to(torch.bfloat16))
    ids = torch.randint(3, 250, (4, 12), generator=torch.Generator().manual_seed(0))
    hidden = model.get_base_model().model(input_ids=ids).last_hidden_state
    assert hidden.dtype == torch.bfloat16
    hidden.float().square().mean().backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert trained and all(p.dtype == torch.float32 for p in trained)
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in trained)
    assert any(p.grad.abs().sum() > 0 for p in trained if p.grad is not None)


def test_adapters_in_bfloat16_agree_with_float32_to_its_precision(parts: tuple[Any, Any]) -> None:
    """bfloat16 has 8 bits: relative error 2^-8 a product, here over two blocks."""
    ids = torch.randint(3, 250, (4, 12), generator=torch.Generator().manual_seed(0))
    exact = with_adapters(parts[0])
    plain = exact.get_base_model().model(input_ids=ids).last_hidden_state
    with exact.disable_adapter():
        without = exact.get_base_model().model(input_ids=ids).last_hidden_state
    half = exact.to(torch.bfloat16).get_base_model().model(input_ids=ids).last_hidden_state.float()
    assert (without - plain).norm() / plain.norm() > 0.1, "the adapters must matter for this to say anything"
    assert (half - plain).norm() / plain.norm() < 0.02


def test_merged_model_is_the_adapted_one(parts: tuple[Any, Any], tmp_path: Path) -> None:
    model, tokenizer = parts
    save_causal(model, tokenizer, tmp_path / "base")
    adapted = with_adapters(model).eval()
    ids = torch.randint(3, 250, (2, 9), generator=torch.Generator().manual_seed(0))
    whole = merged(adapted, ModelConfig(source=str(tmp_path / "base"), lora_rank=4), str(tmp_path / "base"))
    assert torch.allclose(whole(input_ids=ids).logits, adapted(input_ids=ids).logits, atol=1e-5)


def test_what_the_frozen_blocks_computed_once_gives_the_same_logprobs_and_gradients(parts: tuple[Any, Any]) -> None:
    model = with_adapters(parts[0].double(), last_layers=1).double()
    assert frozen_blocks(model) == 1
    batch = make_batch([[5, 6, 7], [8]], [[9, 10], [11, 12, 13]], 0)
    once = with_trunk(model, batch)
    assert once.trunk is not None and not any(states.requires_grad for states in once.trunk)
    # Row by row and put together in another order, as stage 4 does between its epochs.
    turned = make_batch([[8], [5, 6, 7]], [[11, 12, 13], [9, 10]], 0)._replace(trunk=once.trunk[::-1])
    found = []
    for given, order in ((batch, [0, 1]), (once, [0, 1]), (turned, [1, 0])):
        model.zero_grad()
        logprobs = response_logprobs(model, response_hidden(model, given), given).logprobs
        logprobs.sum().backward()
        grads = [p.grad.clone() for p in model.parameters() if p.requires_grad]
        with torch.no_grad(), model.disable_adapter():
            reference = response_logprobs(model, response_hidden(model, given), given).logprobs
        found.append([logprobs.detach()[order], reference[order], *grads])
    assert (found[0][0] - found[0][1]).abs().max() > 1e-3, "the adapters must matter for this to say anything"
    for other in found[1:]:
        for got, want in zip(other, found[0], strict=True):
            torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


def test_a_model_that_stands_apart_does_not_begin_above_anothers_trunk(parts: tuple[Any, Any]) -> None:
    apart = build_scratch(ScratchConfig(hidden_size=32, num_layers=2, num_heads=2), parts[1], 7)
    batch = make_batch([[5, 6]], [[7, 8]], 0)
    kept = with_trunk(with_adapters(parts[0], last_layers=1), batch)
    assert kept.trunk is not None
    assert torch.equal(response_hidden(apart, kept), response_hidden(apart, batch))


def test_without_frozen_blocks_nothing_is_kept(parts: tuple[Any, Any]) -> None:
    batch = make_batch([[5]], [[6]], 0)
    assert with_trunk(parts[0], batch).trunk is None
    assert with_trunk(with_adapters(parts[0]), batch).trunk is None


def test_more_layers_than_there_are_is_one_sentence(parts: tuple[Any, Any]) -> None:
    with pytest.raises(ConfigError, match=r"ppo.lora_layers=3, but this model has 2 blocks"):
        add_lora(parts[0], 4, 1, 3)


@pytest.mark.parametrize("texts_per_pass", [1, 2, 3])
def test_scores_belong_to_their_texts_however_they_share_passes(parts: tuple[Any, Any], texts_per_pass: int) -> None:
    model, tokenizer = parts
    reward_model = RewardModel(model.double(), tokenizer, 64).double()
    torch.nn.init.normal_(reward_model.head.linear.weight, generator=torch.Generator().manual_seed(4))
    alone = torch.cat([reward_model.raw_scores([text]) for text in TEXTS])
    assert len(set(alone.tolist())) == len(TEXTS)
    together = reward_model.raw_scores(TEXTS, texts_per_pass)
    assert torch.allclose(together, alone, atol=1e-10)
    reward_model.center = 0.5
    centred = reward_model.score([""] * len(TEXTS), TEXTS, texts_per_pass)
    assert centred == pytest.approx((alone - 0.5).tolist(), abs=1e-10)
    assert reward_model.score([], []) == []


def test_texts_are_encoded_alike_alone_and_together_and_lose_their_beginning_over_the_limit(
    parts: tuple[Any, Any],
) -> None:
    model, tokenizer = parts
    long = RewardModel(model, tokenizer, 64).encode([*TEXTS, " ".join(TEXTS)])
    assert long[: len(TEXTS)] == [RewardModel(model, tokenizer, 64).encode([text])[0] for text in TEXTS]
    assert all(ids[-1] == tokenizer.eos_token_id for ids in long) and len(long[-1]) > 5
    short = RewardModel(model, tokenizer, 5).encode([" ".join(TEXTS)])[0]
    assert short == long[-1][-5:]
    assert RewardModel(model, tokenizer, 5).encode([]) == []
