"""The sampler against plain forward passes and exact probabilities."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from regard.data.assets import fetch
from regard.models.loading import load_causal
from regard.models.sequences import make_batch, response_hidden, response_logprobs
from regard.rollout.generator import PolicyGenerator, sample
from regard.runlog.invariants import LIMITS
from regard.train.invariants import TOLERANCE

PAD, EOS = 0, 1


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=12,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        initializer_range=0.6,
        tie_word_embeddings=True,
        pad_token_id=PAD,
        eos_token_id=EOS,
    )
    return LlamaForCausalLM(config).double().eval()


def test_draws_have_the_softmax_frequencies() -> None:
    """A grid of uniforms must land on each token in proportion to its probability, to within one grid cell."""
    logits = torch.tensor([[0.3, -1.0, 2.0, 0.0]]).expand(10_000, 4)
    grid = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    tokens, logprobs = sample(logits, grid, temperature=0.7)
    expected = torch.softmax(torch.tensor([0.3, -1.0, 2.0, 0.0]) / 0.7, 0)
    counts = torch.bincount(tokens, minlength=4) / 10_000
    assert torch.allclose(counts, expected, atol=2e-4)
    assert torch.allclose(logprobs.exp(), expected[tokens], atol=1e-6)


def test_a_token_of_probability_zero_is_never_drawn() -> None:
    logits = torch.tensor([[float("-inf"), 0.0, float("-inf")]] * 3)
    tokens, _ = sample(logits, torch.tensor([0.0, 0.5, 1 - 1e-12], dtype=torch.float64), 1.0)
    assert tokens.tolist() == [1, 1, 1]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_sampled_logprobs_equal_those_of_a_plain_forward_pass(model: LlamaForCausalLM, temperature: float) -> None:
    prompts = [[3, 4], [5, 6, 7, 8, 9], [10], [2, 3, 4, 5]]
    uniforms = torch.rand((4, 12), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    generator = PolicyGenerator(model, pad_id=PAD, eos_id=EOS, temperature=temperature)
    out = generator.generate(prompts, uniforms)
    for prompt, response, logprobs in zip(prompts, out.responses, out.logprobs, strict=True):
        ids = torch.tensor([prompt + response])
        plain = torch.log_softmax(model(ids).logits[0].double() / temperature, -1)
        expected = [float(plain[len(prompt) - 1 + t, token]) for t, token in enumerate(response)]
        assert logprobs == pytest.approx(expected, abs=1e-5)  # the sampler keeps float32 log-probabilities
        batch = make_batch([prompt], [response], PAD)
        scored = response_logprobs(model, response_hidden(model, batch), batch, temperature=temperature).logprobs[0]
        assert scored.tolist() == pytest.approx(expected, abs=1e-10)


def test_a_response_does_not_depend_on_the_rows_beside_it(model: LlamaForCausalLM) -> None:
    prompts = [[3, 4], [5, 6, 7, 8, 9], [10], [2, 3, 4, 5], [7, 7], [8], [3, 4], [10], [3, 4]] * 4  # groups
    uniforms = torch.rand((36, 20), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    generator = PolicyGenerator(model, pad_id=PAD, eos_id=EOS)
    together = generator.generate(prompts, uniforms)
    alone = [generator.generate([p], uniforms[i : i + 1]) for i, p in enumerate(prompts)]
    assert together.responses == [one.responses[0] for one in alone]
    assert together.finished == [one.finished[0] for one in alone]
    assert len({len(r) for r in together.responses}) > 1, "rows must end at different times for this to mean anything"


def test_finished_means_eos_and_nothing_follows_it(model: LlamaForCausalLM) -> None:
    uniforms = torch.rand((40, 15), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    out = PolicyGenerator(model, pad_id=PAD, eos_id=EOS).generate([[3, 4]] * 40, uniforms)
    assert True in out.finished and False in out.finished
    for response, finished in zip(out.responses, out.finished, strict=True):
        assert finished == (response[-1] == EOS)
        assert response.count(EOS) == int(finished)
        assert finished or len(response) == 15


@pytest.mark.slow
@pytest.mark.parametrize(("temperature", "agree"), [(1.0, True), (0.9, False)])
def test_the_limit_in_bfloat16_lies_between_rounding_and_a_temperature_that_only_the_sampler_knows(
    temperature: float, agree: bool
) -> None:
    """On SmolLM2 itself: rounding grows with the logits, and a small model of random weights has small ones."""
    model, tokenizer = load_causal(str(fetch("smollm2-135m")), torch.bfloat16)
    openings = ["The film was", "I had never", "This is a story of", "My wife and I", "Nobody who", "It was"]
    prompts = [tokenizer.encode(text, add_special_tokens=False) for text in openings]
    uniforms = torch.rand((len(prompts), 24), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    generator = PolicyGenerator(
        model, pad_id=tokenizer.pad_token_id, eos_id=tokenizer.eos_token_id, temperature=temperature
    )
    sampled = generator.generate(prompts, uniforms)
    batch = make_batch(prompts, sampled.responses, tokenizer.pad_token_id)
    with torch.no_grad():
        scored = response_logprobs(model, response_hidden(model, batch), batch).logprobs
    gap = max(
        float((scored[row, : len(logprobs)] - torch.tensor(logprobs)).abs().max())
        for row, logprobs in enumerate(sampled.logprobs)
    )
    limit = LIMITS["invariant/generator_trainer_max_diff/value"] * TOLERANCE["bfloat16"]
    assert (gap <= limit) == agree, gap
