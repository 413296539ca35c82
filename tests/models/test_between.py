"""Norms, gates and attention in C against definitions in float64. These tests need a C compiler, `cc` or `$CC`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import CDLL
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from regard.models import attention
from regard.models.between import Attended, LetThrough, Normed, use_kernels
from regard.models.native import BLOCK, kernels
from regard.models.sequences import last_hidden
from regard.models.sizes import SHORT

SCALING = 0.3


def compiled(width: int = 8, sharing: int = 2) -> CDLL:
    found = kernels(width, sharing)
    assert found is not None, "no C compiler: install one, or set CC"
    return found


def draws(*shape: int, scale: float = 1.0, seed: int = 3) -> Tensor:
    return (scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))).bfloat16()


@contextmanager
def threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def with_gradients(function: Callable[..., Any], grad: Tensor, *inputs: Tensor) -> list[Tensor]:
    """The value and the gradients of the inputs."""
    inputs = tuple(x.detach().requires_grad_() for x in inputs)
    out = function(*inputs)
    return [out.detach(), *torch.autograd.grad(out, inputs, grad)]


def norm_in_float64(x: Tensor, weight: Tensor) -> Tensor:
    return weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5)


@pytest.mark.parametrize(("rows", "width"), [(1, 1), (5, 6), (BLOCK, 192), (3 * BLOCK + 1, 577)])
def test_a_norm_and_its_gradients(rows: int, width: int) -> None:
    x, weight, grad = draws(rows, width, scale=3), draws(width, seed=4), draws(rows, width, seed=5)
    ours = with_gradients(lambda x, w: Normed.apply(x, w, 1e-5, compiled()), grad, x, weight)
    exact = with_gradients(norm_in_float64, grad.double(), x.double(), weight.double())
    torch.testing.assert_close(
        ours[0].double(), exact[0], rtol=2**-7, atol=1e-30
    )  # rounded before the weight and after
    torch.testing.assert_close(ours[1].double(), exact[1], rtol=2**-8, atol=1e-6)
    torch.testing.assert_close(ours[2].double(), exact[2], rtol=2**-8, atol=1e-4)


def test_a_frozen_weight_of_a_norm_gets_no_gradient() -> None:
    x, weight = draws(70, 8).requires_grad_(), draws(8, seed=4)
    out: Any = Normed.apply(x, weight, 1e-5, compiled())
    out.sum().backward()  # a gradient that is one number in memory
    exact = with_gradients(norm_in_float64, torch.ones(70, 8).double(), x.double(), weight.double())[1]
    assert x.grad is not None and weight.grad is None
    torch.testing.assert_close(x.grad.double(), exact, rtol=2**-8, atol=1e-6)


def silu_times(x: Tensor, y: Tensor) -> Tensor:
    return nn.functional.silu(x) * y


@pytest.mark.parametrize("shape", [(1, 1), (3, 2, 47), (200, 96)])
def test_a_gate_and_its_gradients(shape: tuple[int, ...]) -> None:
    x, y, grad = draws(*shape, scale=4), draws(*shape, seed=4), draws(*shape, seed=5)
    x.view(-1)[: x.numel() // 3 : 2] *= 30  # where a gate is shut, or open as far as it goes
    ours = with_gradients(lambda x, y: LetThrough.apply(x, y, compiled()), grad, x, y)
    exact = with_gradients(silu_times, grad.double(), x.double(), y.double())
    torch.testing.assert_close(ours[0].double(), exact[0], rtol=2**-7, atol=1e-30)
    for one, other in zip(ours[1:], exact[1:], strict=True):
        torch.testing.assert_close(one.double(), other, rtol=2**-8, atol=1e-6)


def test_numbers_need_not_lie_one_after_another() -> None:
    x, y, weight = draws(6, 40).T, draws(6, 40, seed=4).T, draws(6)
    for function, second in ((Normed, weight), (LetThrough, y)):
        rest = (1e-5, compiled()) if function is Normed else (compiled(),)
        apart, together = (
            with_gradients(lambda x, y: function.apply(x, y, *rest), *inputs)  # noqa: B023
            for inputs in ((y, x, second), (y.contiguous(), x.contiguous(), second.contiguous()))
        )
        assert all(torch.equal(a, b) for a, b in zip(apart, together, strict=True))


def test_rows_of_one_token_lie_one_after_another() -> None:
    x, y = (draws(1, 7, 96, seed=seed).transpose(0, 1) for seed in (3, 4))  # torch says they are 672 apart
    torch.testing.assert_close(LetThrough.apply(x, y, compiled()), silu_times(x, y), rtol=2**-7, atol=1e-30)


def test_what_is_not_a_number_stays_none() -> None:
    x, one = draws(2, 8), torch.ones(2, 8).bfloat16()
    x[0, 1] = torch.nan
    value, of_x, _ = with_gradients(lambda x, w: Normed.apply(x, w, 1e-5, compiled()), one, x, one[0])
    assert value[0].isnan().all() and of_x[0].isnan().all() and not value[1].isnan().any() and not of_x[1].isnan().any()
    found = with_gradients(lambda x, y: LetThrough.apply(x, y, compiled()), one, x, one)
    assert all(part.isnan().nonzero().tolist() == [[0, 1]] for part in found)


def a_row(lengths: list[int], heads: int, groups: int, width: int, beyond: int = 0) -> list[Tensor]:
    """Queries, keys, values and angles of sequences in a row, and a gradient of what they see."""
    total = sum(lengths) + beyond
    query, grad = (draws(total, heads, width, seed=seed) for seed in (1, 2))
    key, value = (draws(total, groups, width, seed=seed) for seed in (3, 4))
    angle = 6 * torch.rand(total, width // 2, generator=torch.Generator().manual_seed(5))
    angle = torch.cat([angle, angle], -1)
    return [query, key, value, angle.cos().bfloat16(), angle.sin().bfloat16(), grad]


def ours(lengths: list[int], *row: Tensor) -> list[Tensor]:
    query, key, value, cosine, sine, grad = row
    library = compiled(query.shape[2], query.shape[1] // key.shape[1])
    begins = torch.tensor([0, *lengths]).cumsum(0)
    return with_gradients(
        lambda *of: Attended.apply(*of, cosine, sine, begins, SCALING, library), grad, query, key, value
    )


def exact(lengths: list[int], *row: Tensor) -> list[Tensor]:
    """By the library in float64, but for the rotation, whose values are rounded as in bfloat16."""
    *_, cosine, sine, grad = row
    total = sum(lengths)

    def turned(x: Tensor) -> Tensor:
        angles = cosine[:total].unsqueeze(0), sine[:total].unsqueeze(0)
        rounded, _ = apply_rotary_pos_emb(x.bfloat16(), x.bfloat16(), *angles)
        smooth, _ = apply_rotary_pos_emb(x, x, *(table.double() for table in angles))
        return smooth + (rounded - smooth).detach()

    def attended(*of: Tensor) -> Tensor:
        query, key, value = (x.unsqueeze(0).transpose(1, 2) for x in of)
        query, key = turned(query), turned(key)
        pieces = zip(*(x.split(lengths, 2) for x in (query, key, value)), strict=True)
        seen = [scaled_dot_product_attention(*one, is_causal=True, scale=SCALING, enable_gqa=True) for one in pieces]
        return torch.cat(seen, 2).transpose(1, 2)[0]

    return with_gradients(attended, grad[:total].double(), *(x[:total].double() for x in row[:3]))


@pytest.mark.parametrize(
    ("lengths", "heads", "groups", "width"),
    [([1], 2, 2, 4), ([3, 1, 20], 6, 2, 8), ([33, SHORT], 9, 3, 64), ([17, 5], 4, 4, 48), ([9, 9, 2], 5, 1, 6)],
)
def test_attention_is_that_of_each_sequence_alone(lengths: list[int], heads: int, groups: int, width: int) -> None:
    row = a_row(lengths, heads, groups, width)
    for right, found in zip(exact(lengths, *row), ours(lengths, *row), strict=True):
        assert found.shape == right.shape and found.dtype is torch.bfloat16
        torch.testing.assert_close(found.double(), right, rtol=2**-8, atol=2e-5)


def test_tokens_that_are_no_sequences_get_nothing_and_give_nothing() -> None:
    lengths = [4, 7]
    row = a_row(lengths, 4, 2, 8, beyond=5)
    for x in row:
        x[11:] = torch.nan
    for right, whole in zip(exact(lengths, *row), ours(lengths, *row), strict=True):
        torch.testing.assert_close(whole[:11].double(), right, rtol=2**-8, atol=2e-5)
        assert (whole[11:] == 0).all()


def test_large_scores_do_not_overflow() -> None:
    row = a_row([12], 2, 1, 8)
    row[0] *= 1000
    for right, found in zip(exact([12], *row), ours([12], *row), strict=True):
        torch.testing.assert_close(found.double(), right, rtol=2**-7, atol=1e-4)


def test_nothing_depends_on_the_number_of_threads_nor_a_row_on_the_others() -> None:
    lengths = [30, 11, 25, 40]
    row = a_row(lengths, 9, 3, 64)
    x, y, weight = draws(1000, 192), draws(1000, 192, seed=4), draws(192, seed=5)
    found: list[list[Tensor]] = []
    for number in (2, 1):
        with threads(number):
            normed = with_gradients(lambda x, w: Normed.apply(x, w, 1e-5, compiled()), y, x, weight)
            gated = with_gradients(lambda x, y: LetThrough.apply(x, y, compiled()), x, x, y)
            found.append([*ours(lengths, *row), *normed, *gated])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    alone = ours([25], *(part[41:66] for part in row))
    assert all(torch.equal(a, b[41:66]) for a, b in zip(alone, found[0], strict=False))
    one = with_gradients(lambda x, w: Normed.apply(x, w, 1e-5, compiled()), y[7:8], x[7:8], weight)
    assert all(torch.equal(a, b[7:8]) for a, b in zip(one[:2], found[0][4:6], strict=True))


@pytest.mark.usefixtures("compile_anew")
def test_a_compiler_without_openmp_will_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text(f'#!/bin/sh\ncase "$*" in *openmp*) exit 1;; esac\ntouch {tmp_path}/called\nexec cc "$@"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    row = a_row([5, 8], 4, 2, 8)
    found = ours([5, 8], *row)
    assert (tmp_path / "called").is_file()
    for right, one in zip(exact([5, 8], *row), found, strict=True):
        torch.testing.assert_close(one.double(), right, rtol=2**-8, atol=2e-5)


FAMILIES = {"llama": LlamaConfig, "mistral": MistralConfig, "qwen2": Qwen2Config, "qwen3": Qwen3Config}
SEQUENCES = torch.randint(0, 90, (5, 12), generator=torch.Generator().manual_seed(1)).tolist()
SEQUENCES[1] = SEQUENCES[1][:3]


def model_of(family: str = "llama", **settings: Any) -> Any:
    torch.manual_seed(0)
    config = FAMILIES[family](
        vocab_size=90, hidden_size=32, intermediate_size=44, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, initializer_range=0.2, **settings,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention.NAME)
    for name, parameter in model.named_parameters():
        if "norm" in name or "bias" in name:
            parameter.data += 0.3 * torch.randn(parameter.shape)
    return model


def states(model: Any, sequences: list[list[int]] = SEQUENCES) -> tuple[Tensor, dict[str, Tensor]]:
    """What the last tokens see, and what they let the weights learn."""
    out = last_hidden(model, sequences)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(2))
    names, parameters = zip(*((n, p) for n, p in model.named_parameters() if n != "lm_head.weight"), strict=True)
    return out, dict(zip(names, torch.autograd.grad(out, parameters, grad.to(out.dtype)), strict=True))


def functions(out: Tensor) -> set[str]:
    """What a backward pass goes through."""
    found, open_nodes = set[Any](), [out.grad_fn]
    while open_nodes:
        if (node := open_nodes.pop()) is not None and node not in found:
            found.add(node)
            open_nodes += [after for after, _ in node.next_functions]
    return {type(node).__name__ for node in found}


IN_C = {"NormedBackward", "LetThroughBackward", "AttendedBackward"}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_computes_the_same_as_near_to_float64_as_by_its_own_modules(family: str) -> None:
    exact, exact_gradients = states(model_of(family).double())
    own, own_gradients = states(model_of(family).bfloat16())
    model = model_of(family).bfloat16()
    use_kernels(model)
    use_kernels(model)  # a second time changes nothing
    out, gradients = states(model)
    assert functions(out) >= IN_C and not torch.equal(out, own)

    def off(found: Tensor, right: Tensor) -> float:
        return float((found.detach().double() - right).norm() / right.norm())

    assert off(out, exact.detach()) < 1.2 * off(own, exact.detach()) < 0.05
    for name, right in exact_gradients.items():
        if not name.endswith("k_proj.bias"):  # moves all scores of a query alike, and has no gradient
            assert off(gradients[name], right) < 0.06, name
    whole, by_own, right = (
        torch.cat([x.double().flatten() for x in found.values()])
        for found in (gradients, own_gradients, exact_gradients)
    )
    assert off(whole, right) < 1.2 * off(by_own, right)


@pytest.mark.parametrize("case", ["float32", "no compiler", "another gate", "long", "dropout"])
def test_what_it_is_not_made_for_goes_on_with_torch(case: str, request: pytest.FixtureRequest) -> None:
    settings: dict[str, Any] = {"another gate": {"hidden_act": "gelu"}, "dropout": {"attention_dropout": 0.5}}.get(
        case, {}
    )
    dtype = torch.float32 if case == "float32" else torch.bfloat16
    own, model = (model_of(**settings).to(dtype) for _ in range(2))
    use_kernels(model)
    if case == "no compiler":
        request.getfixturevalue("no_compiler")
    sequences = [[*range(60), *range(69)], [4, 5]] if case == "long" else SEQUENCES
    assert case != "long" or len(sequences[0]) == SHORT + 1
    out, _ = states(model.train(case == "dropout"), sequences)
    absent = {"another gate": {"LetThroughBackward"}, "long": {"AttendedBackward"}, "dropout": {"AttendedBackward"}}
    assert IN_C - functions(out) == absent.get(case, IN_C)
    if case == "dropout":
        assert not torch.equal(states(model, sequences)[0], out)
    else:
        torch.testing.assert_close(out, states(own.eval(), sequences)[0], rtol=0.05, atol=0.05)


def test_a_model_generates_with_its_cache_as_before() -> None:
    own, model = (model_of().bfloat16().eval() for _ in range(2))
    use_kernels(model)
    prompt = torch.tensor([[1, 2, 3, 4]])
    with torch.no_grad():
        right, found = (m.generate(prompt, max_new_tokens=6, do_sample=False, output_logits=True,
                                   return_dict_in_generate=True, pad_token_id=0) for m in (own, model))  # fmt: skip
    torch.testing.assert_close(found.logits[0], right.logits[0], rtol=0.05, atol=0.1)
