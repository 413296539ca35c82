"""The optimiser's step on weights that are kept in fewer bits than it needs."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from regard.runlog.writer import RunWriter
from regard.train.distributed import World
from regard.train.stage import GradientStep, Saver

ALONE = World(0, 1)


def step_of(*parameters: nn.Parameter, lr: float = 1e-5) -> GradientStep:
    return GradientStep([{"params": list(parameters), "lr": lr}], 1e9, ALONE, value_parameters=parameters)


def loss_of(weight: Tensor, at: int) -> Tensor:
    return (weight.float() * (1 + at % 3)).sum()


def test_updates_smaller_than_a_rounding_gather_in_the_master_as_torch_gathers_them_in_float32() -> None:
    rounded, exact = nn.Parameter(torch.ones(5, dtype=torch.bfloat16)), nn.Parameter(torch.ones(5))
    update, oracle = step_of(rounded), torch.optim.AdamW([exact], lr=1e-5, weight_decay=0.0, foreach=False)
    for at in range(300):
        loss_of(rounded, at).backward()
        assert rounded.grad is None
        update.step(1.0)
        oracle.zero_grad()
        loss_of(exact, at).backward()
        oracle.step()
        if at == 9:
            assert torch.equal(rounded, torch.ones_like(rounded))  # 10 updates of 1e-5 beside a spacing of 1/256
    master = update.masters[rounded]
    assert torch.allclose(master, exact, rtol=0, atol=2e-7) and master.dtype is torch.float32
    assert torch.equal(rounded, master.bfloat16()) and bool((rounded < 1).all())


def test_gradients_of_micro_batches_add_up_in_float32() -> None:
    weight = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    update = step_of(weight)
    for factor in (1.0, 2.0**-10, 2.0**-10):
        (weight.float() * factor).sum().backward()
    stats = update.step(1.0)
    assert stats.grad_norm == pytest.approx(3**0.5 * (1 + 2**-9), rel=1e-7) == stats.value_grad_norm


def test_weights_in_float32_are_their_own_master() -> None:
    weight = nn.Parameter(torch.ones(3))
    update = step_of(weight)
    loss_of(weight, 0).backward()
    assert update.masters[weight] is weight and weight.grad is not None
    update.step(1.0)
    assert torch.allclose(weight.detach(), torch.full((3,), 1 - 1e-5))


def test_a_checkpoint_holds_the_masters(tmp_path: Path) -> None:
    """Ten steps, and four with another process for the last six, end with the same bits."""

    def run(log: RunWriter, steps: int) -> tuple[Tensor, Tensor]:
        torch.manual_seed(0)
        weight = nn.Parameter(torch.randn(64).bfloat16())
        update = step_of(weight, lr=1e-4)
        saver = Saver(log.stage("sft"), {"weight": weight}, update, ALONE, every=4, keep_every=0, total=10)
        for at in range(saver.resume(), steps):
            (weight.float() * torch.linspace(-1, 1, 64) * (1 + at % 3)).square().sum().backward()
            update.step(1.0)
            saver.save(at + 1)
        return weight.detach(), update.masters[weight].detach()

    def log(name: str) -> RunWriter:
        return RunWriter(tmp_path / name, config={}, seed=0, argv=[], resume=True)

    with log("whole") as whole:
        weight, master = run(whole, 10)
    with log("parts") as first:
        run(first, 4)
    with log("parts") as second:
        resumed, its_master = run(second, 10)
    assert torch.equal(weight, resumed) and torch.equal(master, its_master)
    assert not torch.equal(master, weight.float())
