"""`regard compare` on micro runs trained for real, and on series made up to part at a known step."""

import json
from pathlib import Path

import numpy as np
import pytest
from support import micro_run, read_json, regard

from regard.compare.runs import best_checkpoint, compare_runs, config_differences, parting
from regard.runlog.reader import RunLog, StageLog, read_run
from regard.runlog.series import Series


@pytest.fixture(scope="module")
def other(micro: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as `micro` until stage 4, which has another coefficient."""
    out = tmp_path_factory.mktemp("compare") / "other"
    done = micro_run(out, "--set", "ppo.kl_coef=0.9", "--from", str(micro))
    assert done.returncode == 0, done.stderr
    return out


def test_two_runs_part_where_the_configuration_parts_them(micro: Path, other: Path, tmp_path: Path) -> None:
    page = tmp_path / "compare.html"
    done = regard("compare", str(micro), str(other), "--json", "--out", str(page))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["config"] == {"ppo.kl_coef": [0.1, 0.9]}
    (parted,) = result["parted"]
    assert parted["first_difference"]["stage"] == "ppo" and parted["first_difference"]["step"] == 1
    assert result["outcome"]["gold, policy"] == [
        read_json(p / "summary.json")["gold"]["policy"] for p in (micro, other)
    ]
    html = page.read_text(encoding="utf-8")
    assert "gold/judge/mean" in html and "<script" not in html and str(other) in html
    text = regard("compare", str(micro), str(other)).stdout
    assert "ppo.kl_coef" in text and "the first number that differs" in text


def test_a_run_and_itself_are_equal_bit_for_bit(micro: Path) -> None:
    result = compare_runs([read_run(micro), read_run(micro)])
    assert result["config"] == {}
    assert result["parted"][0]["first_difference"] is None
    assert "equal, bit for bit" in regard("compare", str(micro), str(micro)).stdout


def test_one_run_or_a_missing_one_is_one_sentence(micro: Path, tmp_path: Path) -> None:
    alone = regard("compare", str(micro))
    assert alone.returncode == 2 and "needs two runs" in alone.stderr
    missing = regard("compare", str(micro), str(tmp_path / "none"))
    assert missing.returncode == 2 and "Traceback" not in missing.stderr


def made_up(path: str, **metrics: np.ndarray) -> RunLog:
    series = {
        key.replace("__", "/"): Series(np.arange(1, len(values) + 1), values, np.zeros(len(values)))
        for key, values in metrics.items()
    }
    return RunLog(Path(path), {}, {}, {}, {}, {"ppo": StageLog("ppo", Path(path), series, [], [])})


def test_a_metric_parts_from_the_step_at_which_it_leaves_its_noise() -> None:
    random = np.random.default_rng(0)
    base = 1 + random.normal(0, 0.01, 80)
    other = 1 + random.normal(0, 0.01, 80)
    other[49:] += 0.5  # from step 50 on
    other[20] += 0.5  # one odd step is not a parting
    noisy = {"kl__policy_ref_k1__seq_sum": base, "time__total_s": base}
    found = parting(made_up("a", **noisy), made_up("b", kl__policy_ref_k1__seq_sum=other, time__total_s=other + 9))
    assert found["metrics_compared"] == 1, "seconds differ between any two runs"
    assert found["first_difference"]["step"] == 1
    (one,) = found["beyond_noise"]
    assert one["step"] == 50 and one["metric"] == "kl/policy_ref_k1/seq_sum"


def test_runs_within_each_others_noise_do_not_part() -> None:
    random = np.random.default_rng(1)
    a, b = (made_up(name, x__y=random.normal(0, 1, 200)) for name in "ab")
    assert parting(a, b)["beyond_noise"] == []


def test_nested_keys_and_keys_of_one_run_alone_are_differences() -> None:
    found = config_differences([{"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": 4}])
    assert found == {"a.c": [2, 3], "d": [None, 4]}


def test_the_checkpoint_is_the_last_unless_an_earlier_one_is_surely_better() -> None:
    steps = np.arange(1, 101)
    noise = np.random.default_rng(2).normal(0, 0.01, 100)
    rising = best_checkpoint(steps, 0.5 + 0.003 * steps + noise, Path("none"))
    assert rising is not None and rising["step"] == 100
    turned = best_checkpoint(steps, 0.8 - 0.0001 * (steps - 40.0) ** 2 + noise, Path("none"))
    assert turned is not None and turned["step"] == pytest.approx(40, abs=5)
    early = 0
    for draw in range(100):
        flat = best_checkpoint(steps, 0.5 + np.random.default_rng(draw).normal(0, 0.01, 100), Path("none"))
        assert flat is not None
        early += flat["step"] < 100
    assert early <= 10, "where gold is flat, chance alone must not pick an earlier step"
    assert best_checkpoint(steps[:5], noise[:5], Path("none")) is None
