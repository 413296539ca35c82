"""The step that every stage takes: gradients gathered, scaled, applied or skipped, and kept across a restart."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from regard.errors import RunLogError
from regard.models.checkpoints import load_checkpoint, save_checkpoint
from regard.runlog.writer import RunWriter
from regard.train.adamw import joined
from regard.train.distributed import World
from regard.train.stage import GradientStep, Saver, StepStats

ALONE = World(0, 1)


def step_of(*parameters: nn.Parameter, lr: float = 1e-5) -> GradientStep:
    return GradientStep([{"params": list(parameters), "lr": lr}], 1e9, ALONE, value_parameters=parameters)


def test_norms_are_of_the_gradients_of_all_micro_batches() -> None:
    weight = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    update = step_of(weight)
    update.begin()
    for factor in (1.0, 2.0**-10, 2.0**-10):
        (weight.float() * factor).sum().backward()
    stats = update.step(1.0)
    assert stats.grad_norm == pytest.approx(3**0.5 * (1 + 2**-9), rel=1e-7) == stats.value_grad_norm
    assert weight.grad is None


def test_only_weights_that_were_begun_with_are_stepped() -> None:
    """Two models that share no weight: the moments of the other would decay, and its weights move on by them."""
    first, second = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    update = step_of(first, second, lr=0.1)
    for _ in range(3):
        update.begin([first])
        first.sum().backward()
        update.step(1.0)
    assert bool((first < 0.8).all()) and torch.equal(second, torch.ones(2)) and second not in update.optimizer.state
    update.begin()
    assert first.grad is not None and second.grad is not None and not first.grad.any()


def test_stats_of_models_that_step_one_by_one() -> None:
    policy, value = StepStats(3.0, False, True, None), StepStats(4.0, True, False, 4.0)
    assert StepStats.of([policy, value]) == StepStats(5.0, True, False, 4.0)
    assert StepStats.of([policy]) == policy


def test_a_checkpoint_holds_what_weights_in_bfloat16_lack(tmp_path: Path) -> None:
    """Ten steps, and four with another process for the last six, end with the same bits."""

    def run(log: RunWriter, steps: int) -> tuple[Tensor, Tensor]:
        torch.manual_seed(0)
        weight = nn.Parameter(torch.randn(64).bfloat16())
        update = step_of(weight, lr=1e-4)
        saver = Saver(log.stage("sft"), {"weight": weight}, update, ALONE, every=4, keep_every=0, total=10)
        for at in range(saver.resume(), steps):
            update.begin()
            (weight.float() * torch.linspace(-1, 1, 64) * (1 + at % 3)).square().sum().backward()
            update.step(1.0)
            saver.save(at + 1)
        return weight.detach(), joined(weight.detach(), update.optimizer.state[weight]["remainder"])

    def log(name: str) -> RunWriter:
        return RunWriter(tmp_path / name, config={}, seed=0, argv=[], resume=True)

    with log("whole") as whole:
        weight, exact = run(whole, 10)
    with log("parts") as first:
        run(first, 4)
    with log("parts") as second:
        resumed, its_exact = run(second, 10)
    assert torch.equal(weight, resumed) and torch.equal(exact, its_exact)
    assert not torch.equal(exact, weight.float())


def test_a_checkpoint_of_weights_in_another_format_is_refused(tmp_path: Path) -> None:
    weight = nn.Parameter(torch.ones(3))
    save_checkpoint(tmp_path, 1, {"weight": weight}, step_of(weight).optimizer, {})
    rounded = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    with pytest.raises(RunLogError, match=r"weights in torch.float32, where torch.bfloat16 is trained"):
        load_checkpoint(tmp_path / "step-00000001", {"weight": rounded}, step_of(rounded).optimizer)
