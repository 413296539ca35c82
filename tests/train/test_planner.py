"""What a plan counts against what torch keeps, and what is refused before a run."""

import json
import re
from pathlib import Path

import pytest
import torch
from support import regard
from transformers import LlamaConfig, LlamaForCausalLM

from regard.config import RecipeConfig, changed_config, load_recipe
from regard.errors import ConfigError
from regard.models import attention
from regard.models.between import use_kernels
from regard.models.loading import add_lora
from regard.models.sequences import last_hidden
from regard.models.work import sizes_of
from regard.train.planner import (
    IMPORTED_GB,
    imported_gb,
    kept_bytes,
    memory_gb,
    plan,
    refuse_what_does_not_fit,
    sizes_for,
)

ROWS, LENGTH = 16, 32
FLOAT32 = "model.dtype=float32"
ROLLOUTS = 2**24
TOO_MUCH = [
    word
    for key, value in {"batch_size": ROLLOUTS, "micro_batch_size": ROLLOUTS, "num_minibatches": 1}.items()
    for word in ("--set", f"ppo.{key}={value}")
]
"""More rollouts at once than any machine holds."""


def model_of(layers: int, dtype: torch.dtype, rank: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=100, hidden_size=192, intermediate_size=512, num_hidden_layers=layers, num_attention_heads=6,
        num_key_value_heads=2, tie_word_embeddings=True, attn_implementation=attention.NAME,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to(dtype)
    use_kernels(model)
    return add_lora(model, rank, 0) if rank else model


def kept_by_torch(model: LlamaForCausalLM) -> int:
    """Bytes of the arrays that the backward pass will need, weights apart."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor  # held, or its place would be used again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = last_hidden(model, torch.randint(0, 100, (ROWS, LENGTH)).tolist())
    assert out.requires_grad
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize(("dtype", "rank"), [("float32", 0), ("float32", 16), ("bfloat16", 0), ("bfloat16", 16)])
def test_what_a_block_keeps_is_what_torch_keeps(dtype: str, rank: int) -> None:
    two, four = (model_of(layers, getattr(torch, dtype), rank) for layers in (2, 4))
    by_torch = (kept_by_torch(four) - kept_by_torch(two)) / 2 / (ROWS * LENGTH)
    assert kept_bytes(sizes_of(two), dtype, rank, in_c=True) == pytest.approx(by_torch, rel=0.05)


@pytest.mark.usefixtures("no_compiler")
@pytest.mark.parametrize("rank", [0, 16])
def test_without_a_compiler_a_block_keeps_more(rank: int) -> None:
    two, four = (model_of(layers, torch.bfloat16, rank) for layers in (2, 4))
    by_torch = (kept_by_torch(four) - kept_by_torch(two)) / 2 / (ROWS * LENGTH)
    assert kept_bytes(sizes_of(two), "bfloat16", rank, in_c=False) == pytest.approx(by_torch, rel=0.05)


def test_a_plan_without_a_compiler_needs_more(request: pytest.FixtureRequest) -> None:
    config = load_recipe("tiny", ["model.dtype=bfloat16"])
    with_it = plan(config)
    request.getfixturevalue("no_compiler")
    without = plan(config)
    assert with_it is not None and without is not None and without.gb["ppo"] > with_it.gb["ppo"]


def scratch(hidden: int, layers: int, vocabulary: int = 4096) -> list[str]:
    shape = {"hidden_size": hidden, "num_layers": layers, "num_heads": 8, "vocab_size": vocabulary}
    return [f"model.scratch.{key}={value}" for key, value in shape.items()]


@pytest.mark.parametrize(
    ("dtype", "settings", "gb", "seconds", "answered"),
    [
        ("bfloat16", [], 1.08, 0.44, 0.99),
        ("bfloat16", scratch(768, 4), 1.54, 2.80, 0.35),
        ("bfloat16", scratch(512, 8, 16384), 1.82, 5.09, 0.91),
        ("bfloat16", [*scratch(768, 4), "model.lora_rank=16"], 1.51, 4.14, 0.97),
        ("bfloat16", [*scratch(384, 4), "ppo.max_response_tokens=128", "ppo.micro_batch_size=8"], 1.37, 5.42, 0.64),
        ("float32", scratch(384, 4), 1.39, 3.21, 0.92),
        ("float32", [*scratch(384, 4), "ppo.batch_size=256", "ppo.micro_batch_size=256"], 2.38, 11.62, 0.94),
        ("float32", [*scratch(768, 4), "ppo.value_model=separate"], 2.27, 12.77, 0.66),
        ("float32", [*scratch(384, 4), "ppo.max_response_tokens=128"], 2.03, 8.86, 0.66),
    ],
)
def test_a_plan_is_near_what_was_measured(
    dtype: str, settings: list[str], gb: float, seconds: float, answered: float
) -> None:
    """By benchmarks/planner.py, which reached 435 GFLOP/s in bfloat16 and 180 in float32 (docs/experiments.md)."""
    config = load_recipe("tiny", [f"model.dtype={dtype}", *settings])
    found = plan(config, {"bfloat16": 435.0, "float32": 180.0}[dtype], answered=answered)
    assert found is not None
    assert found.peak_gb == pytest.approx(gb, rel=0.15)
    assert found.step_seconds == pytest.approx(seconds, rel=0.3)


def test_more_at_once_needs_more_and_takes_as_many_operations() -> None:
    small = plan(load_recipe("tiny", ["ppo.micro_batch_size=8"]), gflops=100.0)
    large = plan(load_recipe("tiny", ["ppo.micro_batch_size=32"]), gflops=100.0)
    faster = plan(load_recipe("tiny", ["ppo.micro_batch_size=32"]), gflops=200.0)
    assert small is not None and large is not None and faster is not None
    assert small.gb["ppo"] < large.gb["ppo"]
    assert small.gb["sft"] == large.gb["sft"]
    assert small.step_seconds is not None and large.step_seconds is not None and faster.step_seconds is not None
    assert faster.step_seconds < large.step_seconds < small.step_seconds  # a call of a block costs time of its own


def test_shorter_answers_take_less_time_and_are_given_as_much_memory() -> None:
    config = load_recipe("tiny")
    most, half = plan(config, 100.0, answered=1.0), plan(config, 100.0, answered=0.5)
    assert most is not None and half is not None and most.gb == half.gb
    assert most.step_seconds is not None and half.step_seconds is not None
    assert 0.5 * most.step_seconds < half.step_seconds < 0.9 * most.step_seconds


def test_a_model_that_is_not_here_is_not_planned() -> None:
    unknown = load_recipe("movie-sentiment", ["model.source=someone/some-model"])
    assert sizes_for(unknown.model) is None and plan(unknown) is None
    refuse_what_does_not_fit(unknown, unknown.stages, free_gb=0.001)


def needs(config: RecipeConfig) -> float:
    found = plan(config)
    assert found is not None
    return found.peak_gb


def test_what_does_not_fit_is_refused_with_the_smallest_change_that_fits() -> None:
    config = load_recipe("tiny", ["ppo.batch_size=8192", "ppo.micro_batch_size=8192", "ppo.num_minibatches=1"])
    half = changed_config(config, {"ppo.micro_batch_size": 4096})
    with pytest.raises(ConfigError, match=r"in stage ppo, .* Type --set ppo.micro_batch_size=4096, which needs"):
        refuse_what_does_not_fit(config, config.stages, free_gb=needs(half) + 0.01)
    with pytest.raises(ConfigError, match=r"Type --set ppo.micro_batch_size=2048, which needs"):
        refuse_what_does_not_fit(config, config.stages, free_gb=needs(half) - 0.01)
    refuse_what_does_not_fit(config, ["sft"], free_gb=needs(half) - 0.01)


def test_a_method_is_changed_only_where_smaller_batches_do_not_help() -> None:
    wide = load_recipe(
        "tiny", ["model.scratch.hidden_size=2048", "model.scratch.num_layers=16", "ppo.value_model=separate"]
    )
    with pytest.raises(ConfigError, match=r"--set ppo\.value_model=shared"):
        refuse_what_does_not_fit(wide, ["ppo"], free_gb=needs(changed_config(wide, {"ppo.value_model": "shared"})))
    with pytest.raises(ConfigError, match="Choose a smaller model"):
        refuse_what_does_not_fit(wide, ["ppo"], free_gb=1.0)


def test_a_run_that_cannot_fit_leaves_nothing(tmp_path: Path) -> None:
    done = regard("run", "tiny", "--out", str(tmp_path / "run"), *TOO_MUCH)
    assert done.returncode == 2
    assert "GB in stage ppo, and" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_doctor_plans_a_recipe() -> None:
    printed = regard("doctor", "--recipe", "tiny", "--set", FLOAT32).stdout
    gb, usual = re.search(r"tiny: about (\d+\.\d) GB at most", printed), plan(load_recipe("tiny", [FLOAT32]))
    # this process has more than a run's own, and not always as much
    assert gb is not None and usual is not None
    assert float(gb[1]) == pytest.approx(usual.peak_gb - IMPORTED_GB + imported_gb(), abs=0.3)
    assert "an iteration of stage 4 takes about" in printed
    refused = regard("doctor", "--recipe", "tiny", *TOO_MUCH)
    assert refused.returncode == 2 and "GB in stage ppo, and" in refused.stderr
    assert regard("doctor", "--set", "seed=1").returncode == 2


def test_a_process_that_has_more_before_it_holds_a_model_needs_that_more(tmp_path: Path) -> None:
    config = load_recipe("tiny")
    usual, with_cuda = plan(config), plan(config, imported_gb=0.85)
    assert usual is not None and with_cuda is not None
    assert with_cuda.peak_gb - usual.peak_gb == pytest.approx(0.85 - IMPORTED_GB)
    with pytest.raises(ConfigError, match="in stage"):
        refuse_what_does_not_fit(config, config.stages, usual.peak_gb, imported_gb=10.0)
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "status").write_text("VmRSS:\t  500000 kB\n")
    assert imported_gb(tmp_path) == pytest.approx(0.512)
    assert imported_gb(tmp_path / "none") == IMPORTED_GB


def test_doctor_says_whether_there_is_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "cc -O1")
    assert json.loads(regard("doctor", "--json").stdout)["c_compiler"].endswith("/cc")
    monkeypatch.setenv("CC", "no-such-compiler -O1")
    assert "no  C compiler" in regard("doctor").stdout


def test_processes_share_the_rows_and_not_the_weights() -> None:
    config = load_recipe("tiny")
    alone, shared = plan(config), plan(config, processes=2)
    assert alone is not None and shared is not None
    assert shared.gb["ppo"] < alone.gb["ppo"]
    assert plan(changed_config(config, {"model.scratch.num_layers": 64}), processes=2) is not None


def test_a_micro_batch_larger_than_the_batch_is_halved_from_the_batch() -> None:
    settings = {"model.dtype": "float32", "sft.batch_size": 512, "sft.micro_batch_size": 100_000}
    config = changed_config(load_recipe("tiny", ["sft.max_response_tokens=128"]), settings)
    smaller = changed_config(config, {"sft.micro_batch_size": 256})
    with pytest.raises(ConfigError, match=r"--set sft\.micro_batch_size=256,"):
        refuse_what_does_not_fit(config, ["sft"], free_gb=needs(smaller) + 0.01)


def test_memory_is_what_the_group_allows_and_files_at_hand_are_free(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "status").write_text("Name:\tpython\nVmRSS:\t  500000 kB\n")
    (tmp_path / "meminfo").write_text("MemTotal:  9000000 kB\nMemAvailable:  4000000 kB\n")
    whole = (500_000 + 4_000_000) * 1024 / 1e9
    assert memory_gb(tmp_path, tmp_path) == pytest.approx(whole)
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 700000000\n")
    (tmp_path / "memory.current").write_text("2000000000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_gb(tmp_path, tmp_path) == pytest.approx(whole)
    (tmp_path / "memory.max").write_text("3000000000\n")
    assert memory_gb(tmp_path, tmp_path) == pytest.approx(500_000 * 1024 / 1e9 + 3.0 - 2.0 + 0.7)


def test_memory_is_known_where_there_is_no_proc(tmp_path: Path) -> None:
    assert memory_gb(tmp_path / "none", tmp_path) > 0.1
