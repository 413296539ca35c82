"""C between the products of a decoding step gives what torch gives. These tests need a C compiler, as `cc` or `$CC`."""

from typing import Any

import pytest
import torch
from test_decode import ROOM, llama, logits
from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb

from regard.rollout.decode import Between, Fused, Modular
from regard.rollout.native import Native


def compiled(width: int = 16, sharing: int = 2) -> Native:
    found = Native.compiled(width, sharing)
    assert found is not None, "no C compiler: install one, or set CC"
    return found


def draws(*shape: int, scale: float = 1.0, seed: int = 3) -> Tensor:
    return (scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))).bfloat16()


@pytest.mark.parametrize("width", [1, 6, 192, 577])
def test_a_row_is_divided_by_its_root_mean_square(width: int) -> None:
    norm = LlamaRMSNorm(width, 1e-5).bfloat16()
    norm.weight.data = draws(width, seed=4)
    x = draws(5, 1, width, scale=30)
    x[2] = 0
    out = compiled().norm(norm, x)
    torch.testing.assert_close(out, norm(x), rtol=2**-7, atol=0)  # where the sum differs in its last bit, one rounding
    assert (out != norm(x)).double().mean() < 0.01
    exact = norm.double()(x.double())
    torch.testing.assert_close(out.double(), exact, rtol=2**-7, atol=1e-30)


def test_gates_let_through_what_silu_says() -> None:
    both = draws(3, 1, 94, scale=4)
    both[0, 0, :6] = torch.tensor([1e4, -1e4, 88.0, -88.0, 0.0, -0.0])
    out = compiled().gated(torch.nn.SiLU(), both)
    expected = Between.gated(torch.nn.SiLU(), both)
    torch.testing.assert_close(out, expected, rtol=2**-7, atol=1e-30)
    assert (out != expected).double().mean() < 0.01


def test_what_is_not_a_number_stays_none() -> None:
    both = draws(1, 8)
    both[0, 1], both[0, 2] = torch.nan, torch.inf
    out = compiled().gated(torch.nn.SiLU(), both)
    assert out.isnan().tolist() == [[False, True, False, False]] and out[0, 2].isinf()
    norm = LlamaRMSNorm(8, 1e-5).bfloat16()
    assert compiled().norm(norm, both.nan_to_num(torch.nan, torch.nan)).isnan().all()


def a_step(rows: int, groups: int, sharing: int, width: int, slot: int, scale: float = 1.0) -> dict[str, Any]:
    """Row b begins at slot b, at most at the newest."""
    slots = slot + 3
    angle = torch.rand(rows, 1, width // 2, generator=torch.Generator().manual_seed(1)) * 6
    angle = torch.cat([angle, angle], -1)
    kept = draws(2, rows, groups, slots, width, seed=5)
    kept[:, :, :, slot + 1 :] = torch.nan  # what has not been written is not looked at
    return {
        "projected": draws(rows, 1, (sharing + 2) * groups, width, scale=scale),
        "rotation": (angle.cos().bfloat16(), angle.sin().bfloat16()),
        "kept": kept,
        "filled": slot,
        "first": torch.arange(rows).clamp(max=slot),
        "mask": torch.empty(0),
    }


def exactly(step: dict[str, Any]) -> Tensor:
    """By the definition, in float64, from the rotation of transformers in bfloat16."""
    projected, (cos, sin), kept, slot = step["projected"], step["rotation"], step["kept"].clone(), step["filled"]
    rows, _, _, width = projected.shape
    groups = kept.shape[2]
    heads = projected.shape[2] - 2 * groups
    by_head = projected.transpose(1, 2)
    query, key = apply_rotary_pos_emb(by_head[:, :heads], by_head[:, heads : heads + groups], cos, sin)
    kept[0, :, :, slot], kept[1, :, :, slot] = key[:, :, 0], by_head[:, heads + groups :, 0]
    out = torch.zeros(rows, 1, heads, width, dtype=torch.float64)
    for row in range(rows):
        for head in range(heads):
            keys, values = kept[:, row, head // (heads // groups), step["first"][row] : slot + 1].double()
            weights = torch.softmax(keys @ query[row, head, 0].double() / width**0.5, 0)
            out[row, 0, head] = weights @ values
    return out.flatten(2)


@pytest.mark.parametrize(
    ("groups", "sharing", "width", "slot"),
    [(2, 2, 16, 9), (3, 3, 64, 75), (4, 1, 48, 31), (1, 5, 6, 0), (2, 8, 128, 16)],
)
def test_a_token_looks_at_its_own_row_from_the_first_slot_to_itself(
    groups: int, sharing: int, width: int, slot: int
) -> None:
    step = a_step(4, groups, sharing, width, slot)
    exact = exactly(step)
    out = compiled(width, sharing).attend(**step)
    torch.testing.assert_close(out.double(), exact, rtol=2**-8, atol=1e-6)
    assert torch.equal(step["kept"][1, :, :, slot], step["projected"][:, 0, -groups:])  # the value joins as it is


def test_large_scores_do_not_overflow_nor_vanish() -> None:
    step = a_step(2, 2, 2, 16, 9, scale=1000)
    torch.testing.assert_close(compiled().attend(**step).double(), exactly(step), rtol=2**-8, atol=1e-6)
    far = a_step(2, 1, 2, 16, 1) | {"first": torch.zeros(2, dtype=torch.int64)}
    far["rotation"] = (torch.ones(2, 1, 16).bfloat16(), torch.zeros(2, 1, 16).bfloat16())
    queries, keys, values = far["projected"].split([2, 1, 1], 2)
    queries.copy_(-1000 * keys)  # every score is far below zero, that of the first slot twice as far
    far["kept"][0, :, :, 0] = 2 * keys[:, 0]
    assert torch.equal(compiled().attend(**far), values.expand(-1, -1, 2, -1).flatten(2))


def test_a_row_does_not_depend_on_the_others_nor_on_the_number_of_threads() -> None:
    step = a_step(64, 3, 3, 64, 40)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        together = compiled(64, 3).attend(**step)
        torch.set_num_threads(1)
        alone = compiled(64, 3).attend(**step)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(together, alone)
    one = step | {"projected": step["projected"][5:6], "kept": step["kept"][:, 5:6].contiguous()}
    one |= {"rotation": tuple(table[5:6] for table in step["rotation"]), "first": step["first"][5:6]}
    assert torch.equal(compiled(64, 3).attend(**one), together[5:6])


@pytest.fixture
def with_and_without(request: pytest.FixtureRequest) -> list[Tensor]:
    """[steps, B, V] logits of one model in bfloat16."""
    model = llama(initializer_range=0.1).bfloat16()
    with_it = Fused(model, ROOM)
    assert isinstance(with_it.between, Native)
    found = [logits(with_it)]
    request.getfixturevalue("no_compiler")
    without = Fused(model, ROOM)
    assert isinstance(without.between, Between)
    return [*found, logits(without)]


def test_a_decoder_runs_with_it_and_without(with_and_without: list[Tensor]) -> None:
    exact = logits(Modular(llama(initializer_range=0.1)))
    ours, torchs = (x.double() for x in with_and_without)
    assert not torch.equal(ours, torchs)
    assert (ours - exact).abs().max() < 1.5 * (torchs - exact).abs().max() < 0.2


@pytest.mark.parametrize("case", ["float32", "another gate"])
def test_other_models_go_on_with_torch(case: str) -> None:
    model = llama() if case == "float32" else llama(hidden_act="gelu").bfloat16()
    assert isinstance(Fused(model.float() if case == "float32" else model, ROOM).between, Between)
