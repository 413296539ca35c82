"""AdamW on weights that are kept in fewer bits than its steps need."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from regard.models.native import compiled
from regard.train.adamw import CHUNK, SOURCE, AdamW, joined, split


@pytest.fixture(params=["C", "torch"])
def way(request: pytest.FixtureRequest) -> None:
    """Both ways to take a step."""
    if request.param == "torch":
        request.getfixturevalue("no_compiler")
    else:
        assert compiled(SOURCE) is not None


def rounded(whole: Tensor) -> tuple[Tensor, Tensor]:
    weight, remainder = torch.empty_like(whole, dtype=torch.bfloat16), torch.empty_like(whole, dtype=torch.int16)
    split(whole, weight, remainder)
    return weight, remainder


def optimiser(*parameters: nn.Parameter, lr: float) -> AdamW:
    return AdamW([{"params": list(parameters), "lr": lr}])


def whole(optimizer: AdamW, parameter: nn.Parameter) -> Tensor:
    return joined(parameter.detach(), optimizer.state[parameter]["remainder"])


@given(st.lists(st.floats(-(2.0**127), 2.0**127, width=32), min_size=1))
def test_a_weight_is_its_rounding_and_a_remainder_to_the_last_bit(numbers: list[float]) -> None:
    exact = torch.tensor(numbers, dtype=torch.float32)
    weight, remainder = rounded(exact)
    assert torch.equal(joined(weight, remainder).view(torch.int32), exact.view(torch.int32))
    nearest = exact.bfloat16()
    halves = (exact.view(torch.int32) & 0xFFFF) == 0x8000  # torch takes the even one of two that are as near
    assert torch.equal(weight[~halves], nearest[~halves])
    assert bool((weight[halves].double().abs() > exact[halves].double().abs()).all())


def test_a_weight_in_bfloat16_has_no_remainder() -> None:
    weight = torch.randn(1000).bfloat16()
    again, remainder = rounded(weight.float())
    assert torch.equal(weight, again) and not remainder.any()


@pytest.mark.usefixtures("way")
def test_updates_smaller_than_a_rounding_gather_as_torch_gathers_them_in_float32() -> None:
    ours, exact = nn.Parameter(torch.ones(5, dtype=torch.bfloat16)), nn.Parameter(torch.ones(5))
    optimizer, oracle = optimiser(ours, lr=1e-5), torch.optim.AdamW([exact], lr=1e-5, weight_decay=0.0, foreach=False)
    for at in range(300):
        for weight in (ours, exact):
            weight.grad = None
            (weight.float() * (1 + at % 3)).sum().backward()
        optimizer.step()
        oracle.step()
        if at == 9:
            assert torch.equal(ours, torch.ones_like(ours))  # 10 updates of 1e-5 beside a spacing of 1/256
    moved, expected = 1 - whole(optimizer, ours), 1 - exact.detach()
    assert torch.allclose(moved, expected, rtol=0.02, atol=0) and bool((ours < 1).all())


@pytest.mark.usefixtures("way")
def test_many_steps_of_noisy_gradients_are_within_a_hundredth_of_torchs_in_float32() -> None:
    """Over more than one chunk, in two groups with a rate each."""
    draw = torch.Generator().manual_seed(0)
    starts = [torch.randn(CHUNK + 7, generator=draw), torch.randn(3, 5, generator=draw)]
    ours = [nn.Parameter(start.bfloat16()) for start in starts]
    exact = [nn.Parameter(start.bfloat16().float()) for start in starts]
    rates = [{"lr": 1e-4}, {"lr": 1e-3}]
    optimizer = AdamW([{"params": [p], **rate} for p, rate in zip(ours, rates, strict=True)])
    oracle = torch.optim.AdamW(
        [{"params": [p], **rate} for p, rate in zip(exact, rates, strict=True)], weight_decay=0.0
    )
    for _ in range(40):
        for p, q in zip(ours, exact, strict=True):
            q.grad = torch.randn(q.shape, generator=draw) + 0.3
            p.grad = q.grad.clone()
        optimizer.step()
        oracle.step()
    for p, q, start in zip(ours, exact, starts, strict=True):
        moved, expected = whole(optimizer, p) - start.bfloat16().float(), q.detach() - start.bfloat16().float()
        assert float((moved - expected).norm() / expected.norm()) < 0.01
        assert optimizer.state[p]["exp_avg"].dtype is torch.bfloat16


@pytest.mark.usefixtures("way")
def test_weights_in_float32_take_torchs_own_step_beside_those_in_bfloat16() -> None:
    draw = torch.Generator().manual_seed(0)
    ours, small = nn.Parameter(torch.randn(9, generator=draw)), nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    exact, idle = nn.Parameter(ours.detach().clone()), nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    optimizer = optimiser(ours, small, idle, lr=1e-2)
    oracle = torch.optim.AdamW([exact], lr=1e-2, weight_decay=0.0, fused=True)
    for _ in range(5):
        ours.grad = torch.randn(9, generator=draw)
        exact.grad, small.grad = ours.grad.clone(), torch.ones(4)
        optimizer.step()
        oracle.step()
        assert small.grad is not None and torch.equal(small.grad, torch.ones(4))
    assert torch.equal(ours, exact) and bool((small < 1).all())
    assert torch.equal(idle, torch.ones_like(idle)) and idle not in optimizer.state  # without a gradient


def test_micro_batches_add_up_in_float32() -> None:
    weight = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    optimiser(weight, lr=1e-5)
    for factor in (1.0, 2.0**-10, 2.0**-10):
        (weight.float() * factor).sum().backward()
    assert weight.grad is not None and weight.grad.tolist() == [pytest.approx(1 + 2**-9, rel=1e-7)] * 3


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("constant", [1.0, 1.04, 1.99])
def test_where_a_gradient_stays_the_same_the_first_moment_stops_within_four_percent(constant: float) -> None:
    """Torch's step would then be the rate itself, each time."""
    weight = nn.Parameter(torch.zeros(4, dtype=torch.bfloat16))
    optimizer = optimiser(weight, lr=1e-3)
    for _ in range(300):
        weight.grad = torch.full((4,), constant)
        optimizer.step()
    assert (-whole(optimizer, weight)).tolist() == [pytest.approx(0.3, rel=0.04)] * 4


@pytest.mark.parametrize("size", [1, 13, CHUNK + 5])
def test_c_takes_the_step_of_torch(size: int, request: pytest.FixtureRequest) -> None:
    """From equal states, over sizes that fill no register and more than one chunk."""
    draw = torch.Generator().manual_seed(0)
    start, first = torch.randn(size, generator=draw).bfloat16(), 0.1 * torch.randn(size, generator=draw)
    state = {
        "step": torch.tensor(3.0),
        "exp_avg": first.bfloat16(),
        "exp_avg_sq": torch.rand(size, generator=draw),
        "remainder": torch.randint(-(2**15), 2**15, (size,), generator=draw).short(),
    }
    gradient = torch.randn(size, generator=draw)

    def stepped() -> tuple[Tensor, dict[str, Tensor]]:
        weight = nn.Parameter(start.clone())
        optimizer = optimiser(weight, lr=1e-3)
        optimizer.state[weight] = {key: value.clone() for key, value in state.items()}
        weight.grad = gradient.clone()
        optimizer.step()
        return whole(optimizer, weight), optimizer.state[weight]

    assert compiled(SOURCE) is not None
    ours, now = stepped()
    request.getfixturevalue("no_compiler")
    theirs, expected = stepped()
    assert torch.allclose(ours, theirs, rtol=3e-7, atol=1e-8) and now["step"] == expected["step"] == 4
    assert torch.allclose(now["exp_avg_sq"], expected["exp_avg_sq"], rtol=1e-6, atol=0)
    mean, its_mean = now["exp_avg"].float(), expected["exp_avg"].float()
    assert torch.allclose(mean, its_mean, rtol=2**-7, atol=1e-9)  # where the one is rounded up and the other down
    assert float((mean == its_mean).float().mean()) > 0.99
    assert float((ours - joined(start, state["remainder"])).abs().max()) > 1e-5
