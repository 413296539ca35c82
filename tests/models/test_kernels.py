"""Attention of sequences in a row, in C, against torch's in float64. These tests need a C compiler: `cc` or `$CC`."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from regard.models.attention import attention, packed
from regard.models.native import kernels
from regard.models.sizes import SHORT

SCALING = 0.3


def draws(lengths: list[int], heads: int, groups: int, width: int, beyond: int = 0) -> list[Tensor]:
    """Queries, keys and values of a row, and a gradient of what they see; the layouts differ as in a model."""
    assert kernels(width, heads // groups) is not None, "no C compiler: install one, or set CC"
    generator = torch.Generator().manual_seed(sum(lengths))
    total = sum(lengths) + beyond
    query = torch.randn(1, total, heads, width, generator=generator).bfloat16().transpose(1, 2)
    key = torch.randn(1, groups, total, width, generator=generator).bfloat16().mT.contiguous().mT
    value = torch.randn(1, total, groups, width, generator=generator).bfloat16().transpose(1, 2)
    grad = torch.randn(1, total, heads, width, generator=generator).bfloat16()
    return [query.requires_grad_(), key.requires_grad_(), value.requires_grad_(), grad]


def ours(lengths: list[int], query: Tensor, key: Tensor, value: Tensor, grad: Tensor) -> list[Tensor]:
    with packed(lengths, query.shape[2]):
        out = attention(nn.Module(), query, key, value, None, scaling=SCALING)[0]
    assert "_Compiled" in type(out.grad_fn).__name__
    return [out.detach(), *torch.autograd.grad(out, [query, key, value], grad)]


def exact(lengths: list[int], query: Tensor, key: Tensor, value: Tensor, grad: Tensor) -> list[Tensor]:
    inputs = [x.detach().double().requires_grad_() for x in (query, key, value)]
    pieces, at = [], 0
    for length in lengths:
        one = [x[:, :, at : at + length] for x in inputs]
        seen = scaled_dot_product_attention(*one, is_causal=True, scale=SCALING, enable_gqa=True)
        pieces.append(seen.transpose(1, 2))
        at += length
    out = torch.cat(pieces, 1)
    return [out.detach(), *torch.autograd.grad(out, inputs, grad[:, :at].double())]


@pytest.mark.parametrize(
    ("lengths", "heads", "groups", "width"),
    [([1], 2, 2, 4), ([3, 1, 20], 6, 2, 8), ([33, SHORT], 9, 3, 64), ([17, 5], 4, 4, 48), ([9, 9, 2], 5, 1, 6)],
)
def test_values_and_gradients_are_those_of_each_sequence_alone(
    lengths: list[int], heads: int, groups: int, width: int
) -> None:
    inputs = draws(lengths, heads, groups, width)
    for right, found in zip(exact(lengths, *inputs), ours(lengths, *inputs), strict=True):
        assert found.shape == right.shape and found.dtype is torch.bfloat16
        torch.testing.assert_close(found.double(), right, rtol=2**-8, atol=2e-5)


def test_tokens_that_are_no_sequences_get_nothing_and_give_nothing() -> None:
    lengths = [4, 7]
    inputs = draws(lengths, 4, 2, 8, beyond=5)
    with torch.no_grad():
        for x in inputs[:3]:
            x[:, :, 11:] = torch.nan
    found = ours(lengths, *inputs)
    for right, whole in zip(exact(lengths, *inputs), found, strict=True):
        axis = 1 if whole is found[0] else 2
        real, rest = whole.split([11, 5], axis)
        torch.testing.assert_close(real.double(), right.narrow(axis, 0, 11), rtol=2**-8, atol=2e-5)
        assert (rest == 0).all()


def test_large_scores_do_not_overflow() -> None:
    inputs = draws([12], 2, 1, 8)
    with torch.no_grad():
        inputs[0] *= 1000
    for right, found in zip(exact([12], *inputs), ours([12], *inputs), strict=True):
        torch.testing.assert_close(found.double(), right, rtol=2**-7, atol=1e-4)


def test_a_sequence_does_not_depend_on_the_others_nor_on_the_number_of_threads() -> None:
    lengths = [30, 11, 25, 40]
    inputs = draws(lengths, 9, 3, 64)
    threads = torch.get_num_threads()
    found: list[list[Tensor]] = []
    try:
        for number in (2, 1):
            torch.set_num_threads(number)
            found.append(ours(lengths, *inputs))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    alone = ours([25], *(x[:, :, 41:66].detach().requires_grad_() for x in inputs[:3]), inputs[3][:, 41:66])
    assert torch.equal(alone[0], found[0][0][:, 41:66])
    assert all(torch.equal(a, b[:, :, 41:66]) for a, b in zip(alone[1:], found[0][1:], strict=True))


def test_a_compiler_without_openmp_will_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text('#!/bin/sh\ncase "$*" in *openmp*) exit 1;; esac\nexec cc "$@"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    kernels.cache_clear()
    inputs = draws([5, 8], 4, 2, 8)
    found = ours([5, 8], *inputs)
    kernels.cache_clear()
    for right, one in zip(exact([5, 8], *inputs), found, strict=True):
        torch.testing.assert_close(one.double(), right, rtol=2**-8, atol=2e-5)


@pytest.mark.parametrize("case", ["float32", "long", "no compiler"])
def test_what_it_is_not_made_for_goes_on_with_torch(case: str, request: pytest.FixtureRequest) -> None:
    lengths = [SHORT + 1 if case == "long" else 6, 4]
    inputs: list[Any] = draws(lengths, 4, 2, 8)
    if case == "float32":
        inputs = [x.detach().float().requires_grad_() for x in inputs]
    if case == "no compiler":
        request.getfixturevalue("no_compiler")
    module = nn.Module()
    module.num_key_value_groups, module.is_causal = 2, True
    with packed(lengths, sum(lengths)):
        out = attention(module, *inputs[:3], None, scaling=SCALING)[0]
    assert "_Compiled" not in type(out.grad_fn).__name__
    torch.testing.assert_close(out.double(), exact(lengths, *inputs)[0], rtol=0.02, atol=0.02)
