"""What is computed by our own kernels, against the library's modules."""

import copy
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from regard.models.adapters import AdaptedLinear, use_fast_products
from regard.models.attention import NAME, TOGETHER, attention
from regard.models.loading import add_lora, load_causal
from regard.models.sequences import last_hidden, make_batch, response_hidden, transformer_body
from regard.models.sizes import SHORT

BATCH, HEADS, GROUPS, WIDTH = 3, 6, 2, 8


class Module(nn.Module):
    num_key_value_groups = HEADS // GROUPS
    is_causal = True


def heads(length: int, dtype: torch.dtype) -> list[Tensor]:
    torch.manual_seed(length)
    shapes = [(BATCH, HEADS, length, WIDTH), *2 * [(BATCH, GROUPS, length, WIDTH)]]
    return [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]


def with_gradients(kernel, inputs: list[Tensor], mask: Tensor | None = None) -> list[Tensor]:
    out = kernel(Module(), *inputs, mask, scaling=0.7)[0]
    torch.manual_seed(0)
    gradients = torch.autograd.grad((out.float() * torch.randn(out.shape)).sum(), inputs)
    return [out.detach(), *gradients]


@pytest.mark.parametrize("length", [2, 7, 40, SHORT])
def test_attention_is_as_near_to_the_exact_one_as_the_librarys(length: int) -> None:
    inputs = heads(length, torch.bfloat16)
    exact = with_gradients(sdpa_attention_forward, [x.detach().double().requires_grad_() for x in inputs])
    ours, theirs = (with_gradients(kernel, inputs) for kernel in (attention, sdpa_attention_forward))
    for right, a, b in zip(exact, ours, theirs, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        error, allowed = ((x.double() - right).norm() / right.norm() for x in (a, b))
        assert error < 0.01 and error < 2 * allowed


def test_what_it_is_not_made_for_is_left_to_the_librarys_kernel() -> None:
    seen = torch.ones(BATCH, 1, 5, 5, dtype=torch.bool).tril()
    seen[0, :, 3:, 0] = False
    cases = [
        (heads(5, torch.float32), None),
        (heads(SHORT + 1, torch.bfloat16), None),
        (heads(5, torch.bfloat16), seen),
    ]
    for inputs, mask in cases:
        for a, b in zip(*(with_gradients(k, inputs, mask) for k in (attention, sdpa_attention_forward)), strict=True):
            assert torch.equal(a, b)


def test_no_token_sees_the_future() -> None:
    query, key, value = heads(9, torch.bfloat16)
    before = attention(Module(), query, key, value, None, scaling=1.0)[0]
    changed = value.detach().clone()
    changed[:, :, 5:] = 100.0
    after = attention(Module(), query, key, changed, None, scaling=1.0)[0]
    assert torch.equal(before[:, :5], after[:, :5]) and not torch.equal(before[:, 5:], after[:, 5:])


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2"])
def test_a_model_in_bfloat16_is_as_near_to_the_exact_one_as_with_the_librarys_kernel(kind: str) -> None:
    """Mistral's window of 5 tokens hides more than the future, so it is left to the library's."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind, vocab_size=40, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True, **({"sliding_window": 5} if kind == "mistral" else {}),
    )  # fmt: skip
    exact = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").bfloat16().double()
    ids = torch.randint(0, 40, (3, 11))
    found: dict[str, Tensor] = {}
    for name in (NAME, "sdpa"):
        model = copy.deepcopy(exact).bfloat16()
        model.set_attn_implementation(name)
        found[name] = model(input_ids=ids).logits.double()
    right = exact(input_ids=ids).logits
    error, allowed = ((found[name] - right).norm() / right.norm() for name in (NAME, "sdpa"))
    assert error < 0.02 and error < 1.5 * allowed
    assert torch.equal(found[NAME], found["sdpa"]) == (kind == "mistral")


def test_a_loaded_llama_has_it_and_a_model_of_another_kind_has_not(micro: Path, tmp_path: Path) -> None:
    source = micro / "stages" / "sft" / "final"
    model, tokenizer = load_causal(str(source), torch.float32)
    assert model.config._attn_implementation == NAME
    GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_embd=8, n_layer=1, n_head=2)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert load_causal(str(tmp_path), torch.float32)[0].config._attn_implementation == "sdpa"


@pytest.mark.parametrize("bias", [False, True])
def test_a_whole_model_is_that_of_peft_and_so_are_its_gradients(bias: bool) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, attention_bias=bias, tie_word_embeddings=True, attn_implementation=NAME,
    )  # fmt: skip
    model = LlamaForCausalLM(config).double()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)
    lora = LoraConfig(r=3, lora_alpha=9, lora_dropout=0.0, target_modules="all-linear")
    theirs = get_peft_model(copy.deepcopy(model), lora)
    for parameter in theirs.parameters():
        if parameter.requires_grad:
            parameter.data = torch.randn_like(parameter, dtype=torch.float64)
    ours = copy.deepcopy(theirs)
    use_fast_products(ours)
    assert sum(type(module) is AdaptedLinear for module in ours.modules()) == 14
    ids = torch.randint(0, 40, (3, 11))
    for one in (ours, theirs):
        one(input_ids=ids).logits.tanh().sum().backward()
    with torch.no_grad():
        assert torch.allclose(ours(input_ids=ids).logits, theirs(input_ids=ids).logits, rtol=1e-12, atol=1e-12)
        with ours.disable_adapter(), theirs.disable_adapter():
            assert torch.equal(ours(input_ids=ids).logits, theirs(input_ids=ids).logits)
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert a.requires_grad == b.requires_grad
        if a.requires_grad:
            assert a.grad is not None and b.grad is not None
            assert torch.allclose(a.grad, b.grad, rtol=1e-9, atol=1e-12), name


def test_a_second_adapter_is_left_to_peft() -> None:
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(5, 4))
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["0"], init_lora_weights=False))
    model.add_adapter("second", LoraConfig(r=2, target_modules=["0"], init_lora_weights=False))
    model.base_model.set_adapter(["default", "second"])
    x = torch.randn(3, 5)
    expected = model(x)
    use_fast_products(model)
    assert type(model.base_model.model[0]) is AdaptedLinear
    assert torch.equal(model(x), expected)


def test_an_adapter_that_has_learned_nothing_changes_nothing() -> None:
    """Bit for bit, or the KL to the reference would not begin at 0."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True, attn_implementation=NAME,
    )  # fmt: skip
    for dtype in (torch.float32, torch.bfloat16):
        model = add_lora(LlamaForCausalLM(config).to(dtype), 4, 0)
        ids = torch.randint(0, 40, (3, 11))
        with torch.no_grad():
            adapted = model(input_ids=ids).logits
            with model.disable_adapter():
                assert torch.equal(model(input_ids=ids).logits, adapted)


@pytest.mark.parametrize("number", [1, TOGETHER, 2 * TOGETHER + 3])
@pytest.mark.parametrize("case", ["float64", "bfloat16", "bfloat16 without a compiler"])
def test_sequences_that_share_a_row_are_what_each_is_alone(
    number: int, case: str, request: pytest.FixtureRequest
) -> None:
    """In float64 to its last digits, values and gradients; in bfloat16 as near to that as one at a time."""
    if "without" in case:
        request.getfixturevalue("no_compiler")
    dtype = torch.float64 if case == "float64" else torch.bfloat16
    torch.manual_seed(number)
    config = LlamaConfig(
        vocab_size=50, hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=6,
        num_key_value_heads=2, attn_implementation=NAME, initializer_range=0.2,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to(dtype)
    sequences = [torch.randint(0, 50, (length,)).tolist() for length in torch.randint(1, 30, (number,)).tolist()]
    direction = torch.randn(number, 48, dtype=torch.float64)

    def results(model: LlamaForCausalLM, *, together: bool) -> list[Tensor]:
        if together:
            out = last_hidden(model, sequences)
        else:
            body = transformer_body(model)
            out = torch.cat([body(torch.tensor([one]), use_cache=False).last_hidden_state[:, -1] for one in sequences])
        return [out, *torch.autograd.grad((out * direction).sum(), list(model.model.parameters()))]

    exact = results(copy.deepcopy(model).double(), together=False)
    for right, a, b in zip(exact, results(model, together=True), results(model, together=False), strict=True):
        error, allowed = ((x.double() - right).norm() / right.norm() for x in (a, b))
        assert error < (1e-12 if dtype is torch.float64 else min(0.05, 2 * allowed + 0.005))


@pytest.mark.parametrize("longest", [3, SHORT + 5])
@pytest.mark.parametrize("packs", [True, False])
def test_states_before_a_response_are_those_of_the_model_alone(packs: bool, longest: int) -> None:
    """With the kernel that packs and with one that does not, of sequences that are short and longer than its own."""
    torch.manual_seed(longest)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=50, hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=6,
        num_key_value_heads=2, attn_implementation=NAME if packs else "sdpa", initializer_range=0.2,
    )).double()  # fmt: skip
    prompts = [torch.randint(0, 50, (length,)).tolist() for length in (longest, 1, 4)]
    responses = [torch.randint(0, 50, (length,)).tolist() for length in (2, 7, 0)]
    batch = make_batch(prompts, responses, 0)
    hidden = response_hidden(model, batch)
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        alone = model.model(torch.tensor([prompt + response]), use_cache=False).last_hidden_state[0]
        before = alone[len(prompt) - 1 : len(alone) - 1] if response else alone[:0]
        assert torch.allclose(hidden[row, : len(response)], before, rtol=1e-9, atol=1e-9)


def test_packing_ends_with_its_block() -> None:
    model = LlamaForCausalLM(LlamaConfig(vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
                                         num_attention_heads=2, attn_implementation=NAME))  # fmt: skip
    ids = torch.tensor([[1, 2, 3, 4]])
    before = model(ids).logits
    last_hidden(model, [[1, 2], [3]])
    assert torch.equal(model(ids).logits, before)


def test_a_window_shorter_than_a_sequence_is_not_packed() -> None:
    torch.manual_seed(0)
    settings = {"vocab_size": 9, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
                "num_attention_heads": 2, "num_key_value_heads": 2, "initializer_range": 0.5}  # fmt: skip
    model = MistralForCausalLM(MistralConfig(**settings, sliding_window=3, attn_implementation=NAME)).double()
    oracle = MistralForCausalLM(MistralConfig(**settings, sliding_window=3, attn_implementation="eager")).double()
    oracle.load_state_dict(model.state_dict())
    sequences = [[1, 2, 3, 4, 5, 6, 7], [8, 1]]
    expected = torch.cat([oracle.model(torch.tensor([one])).last_hidden_state[:, -1] for one in sequences])
    assert torch.allclose(last_hidden(model, sequences), expected, rtol=0, atol=1e-6)
