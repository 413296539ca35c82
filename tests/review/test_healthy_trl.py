"""Real trainings by TRL that went well, made with benchmarks/trl_healthy.py: a review finds no error in them.

`grpo-solved` has 300 steps instead of 60, of which every fifth is kept: nearly all responses get the highest reward, so
nearly all groups are without variance.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from regard.review import review
from regard.runlog.importers import read_any

LOGS = Path(__file__).parents[1] / "runlog/trl_healthy"
RUNS = sorted(path.name for path in LOGS.iterdir() if path.is_dir())
LEARNED = {
    "ppo": ("score/reward_model/mean", 0.5),
    "grpo": ("score/reward_model/mean", 0.5),
    "rloo": ("score/reward_model/mean", 0.5),
    "dpo": ("preference/loss_val/mean", -0.01),
    "reward": ("rm/loss_val/mean", -0.1),
}
"""A metric that changes in a run that learns something, and by how much at least."""


def test_there_are_three_seeds_of_each_trainer() -> None:
    assert {f"{name}-{seed}" for name in LEARNED for seed in (1, 2, 3)} <= set(RUNS)


@pytest.mark.parametrize("name", RUNS)
def test_healthy_run_of_trl_has_no_error(name: str) -> None:
    algorithm = name.partition("-")[0]
    run = read_any(LOGS / name)
    assert run.run["source"] == f"trl-{algorithm}"
    (log,) = run.stages.values()
    assert log.notes == []
    result = review(run)
    for finding in result.findings:
        print(name, finding.severity, finding.detector.code, finding.fired.summary)
    assert [finding.detector.code for finding in result.findings if finding.severity == "error"] == []
    assert result.verdict in ("healthy", "suspect") and len(result.clear) >= 4
    key, least = LEARNED[algorithm]
    values = log.metrics[key].values
    tenth = max(1, len(values) // 10)
    change = np.mean(values[-tenth:]) - np.mean(values[:tenth])
    assert change / least > 1, f"{key} changed by {change:.3g}"


def test_groups_without_variance_are_an_error_unless_the_task_is_solved() -> None:
    run = read_any(LOGS / "grpo-solved")
    (finding,) = [one for one in review(run).findings if one.detector.code == "POL003"]
    assert finding.severity == "warning" and "prompts seem solved" in finding.fired.summary
    (log,) = run.stages.values()
    score = log.metrics["score/reward_model/mean"]
    log.metrics["score/reward_model/mean"] = replace(score, values=score.values[::-1].copy())  # the same, but it fell
    (finding,) = [one for one in review(run).findings if one.detector.code == "POL003"]
    assert finding.severity == "error"
