"""The share of the machine's limit that each phase used, of a real run and by hand."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from support import metric_rows

from regard.models.sizes import Phases, Sizes
from regard.train.throughput import Limit

SIZES = Sizes(hidden=8, intermediate=16, queries=8, keys=4, layers=3, vocabulary=10)
BLOCK, HEAD = 2 * 8 * (16 + 8 + 48), 2 * 8 * 10
"""Operations of one token, without attention."""


def test_shares_are_needed_operations_over_time_and_limit() -> None:
    prompts = [SimpleNamespace(tokens=[1, 2])]
    rollouts = SimpleNamespace(prompts=prompts, responses=[[3, 4, 5]])
    attention = 4 * 8 * (1 + 2 + 3 + 4 + 5)
    passed = 5 * BLOCK + attention  # one block
    full = Limit(Phases(SIZES, SIZES, below=0, backward=2, value_body=True), measured=lambda: 0.0, per_second=1e6)
    found = full.metrics(rollouts, 2, [0.0, 1.0, 3.0, 7.0])  # pyright: ignore[reportArgumentType]
    assert found["throughput/limit/gflops"] == 1e-3
    assert found["throughput/rollout_limit/frac"] == pytest.approx((3 * passed + 3 * HEAD) / 1e6)
    assert found["throughput/score_limit/frac"] == pytest.approx((12 * passed + 6 * HEAD) / 2e6)
    assert found["throughput/update_limit/frac"] == pytest.approx(2 * 3 * (2 * 3 * passed + 3 * HEAD) / 4e6)
    shared = Limit(Phases(SIZES, None, below=2, backward=1, value_body=True), measured=lambda: 0.0, per_second=1e6)
    found = shared.metrics(rollouts, 1, [0.0, 1.0, 3.0, 7.0])  # pyright: ignore[reportArgumentType]
    assert found["throughput/score_limit/frac"] == pytest.approx((5 * passed + 6 * HEAD) / 2e6)
    adapters = Limit(Phases(SIZES, None, below=2, backward=1, value_body=False), measured=lambda: 0.0, per_second=1e6)
    found = adapters.metrics(rollouts, 1, [0.0, 1.0, 3.0, 7.0])  # pyright: ignore[reportArgumentType]
    assert found["throughput/score_limit/frac"] == pytest.approx((4 * passed + 6 * HEAD) / 2e6)
    assert found["throughput/update_limit/frac"] == pytest.approx(2 * (passed + 3 * HEAD) / 4e6)


def test_the_prompt_of_a_group_is_needed_once() -> None:
    prompts = [SimpleNamespace(tokens=[1, 2]), SimpleNamespace(tokens=[1, 2])]
    rollouts = SimpleNamespace(prompts=prompts, responses=[[3], [4]])
    limit = Limit(Phases(SIZES, None, below=0, backward=2, value_body=False), measured=lambda: 0.0, per_second=1e6)
    found = limit.metrics(rollouts, 1, [0.0, 1.0, 3.0, 7.0])  # pyright: ignore[reportArgumentType]
    whole, once = 3 * (3 * BLOCK + 4 * 8 * 6), 3 * (2 * BLOCK + 4 * 8 * 3)
    assert found["throughput/rollout_limit/frac"] == pytest.approx((2 * whole - once + 2 * HEAD) / 1e6)


def test_the_limit_is_the_most_that_was_seen() -> None:
    rollouts = SimpleNamespace(prompts=[SimpleNamespace(tokens=[1, 2])], responses=[[3, 4, 5]])
    rates = iter([5e3, 9e6, 2e6])
    limit = Limit(Phases(SIZES, None, below=0, backward=2, value_body=False), lambda: next(rates), per_second=1.0)
    found = [limit.metrics(rollouts, 1, [0.0, 1.0, 2.0, 3.0]) for _ in range(3)]  # pyright: ignore[reportArgumentType]
    # At first an update reached more than had been measured, then another moment said more.
    assert found[0]["throughput/update_limit/frac"] == 1 and found[0]["throughput/limit/gflops"] * 1e9 > 5e3
    assert [row["throughput/limit/gflops"] for row in found[1:]] == [9e-3, 9e-3]
    assert found[1]["throughput/update_limit/frac"] < 0.1


def test_a_run_records_them_for_every_iteration(micro: Path) -> None:
    rows = [row for step, row in metric_rows(micro, "ppo").items() if step]
    for phase in ("rollout", "score", "update"):
        assert all(0 < row[f"throughput/{phase}_limit/frac"] < 1 for row in rows)
