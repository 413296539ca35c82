"""Frozen weights in a file: they compute as before, and memory lets go of them."""

import mmap
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from regard.models.in_file import InFile


def resident_gb() -> float:
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return sum(int(fields[name].split()[0]) for name in ("RssAnon", "RssFile", "RssShmem")) * 1024 / 1e9


def frozen(width: int, dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(width, 3), nn.Linear(3, width, bias=False)).to(dtype).requires_grad_(False)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_weights_and_results_stay_the_same_before_and_after_they_leave(tmp_path: Path, dtype: torch.dtype) -> None:
    model, x = frozen(5, dtype), torch.ones(2, 5, dtype=dtype)
    before, result = {k: v.clone() for k, v in model.state_dict().items()}, model(x)
    kept = InFile([model, model[0]], tmp_path)  # type: ignore[index]
    for _ in range(3):
        assert torch.equal(model(x), result)
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
        kept.leave()
    assert not list(tmp_path.iterdir())  # the file has no name


def test_one_weight_that_two_modules_share_stays_one(tmp_path: Path) -> None:
    one, other = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
    other.weight = one.weight
    InFile([one, other], tmp_path).leave()
    assert other.weight is one.weight and other.weight.data_ptr() == one.weight.data_ptr()


def test_what_is_written_into_a_weight_stays(tmp_path: Path) -> None:
    """A private mapping would forget it when its pages leave."""
    model = frozen(5)
    kept = InFile([model], tmp_path)
    kept.leave()
    model.load_state_dict({k: torch.full_like(v, 7.0) for k, v in model.state_dict().items()})
    kept.leave()
    assert all(bool((v == 7).all()) for v in model.state_dict().values())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts of the kernel of Linux")
def test_memory_lets_go_of_them_until_they_are_read(tmp_path: Path) -> None:
    model = frozen(10_000_000)  # 0.24 GB
    kept = InFile([model], tmp_path)
    kept.leave()
    for _ in range(2):
        model.state_dict()["0.weight"].sum()
        held = resident_gb()
        kept.leave()
        assert resident_gb() < held - 0.1


def test_where_no_file_can_be_made_they_stay_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(mmap, "mmap", full)
    model = frozen(5)
    before = model(torch.ones(1, 5))
    kept = InFile([model], tmp_path)
    kept.leave()
    kept.leave()
    assert torch.equal(model(torch.ones(1, 5)), before)
