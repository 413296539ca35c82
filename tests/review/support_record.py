"""Small records of several stages with rollouts on disk, for what compares stages or looks at responses."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from regard.runlog.reader import RunLog, StageLog
from regard.runlog.rollouts import encode_rollouts, rollouts_name
from regard.runlog.series import Points

Row = dict[str, Any]
Rows = Callable[[int], list[Row]]
"""step ↦ rows of that step."""


def make_record(
    path: Path,
    stages: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    rollouts: Rows | None = None,
    steps: int = 4,
    events: Mapping[str, list[Row]] | None = None,
    config: Row | None = None,
    eval_prompts: Sequence[str] = (),
) -> RunLog:
    """Stages whose series have the steps 0, 1, 2 …; `rollouts` fill the first `steps` steps of stage ppo."""
    logs: dict[str, StageLog] = {}
    for stage, metrics in stages.items():
        points = Points()
        for key, values in metrics.items():
            for step, value in enumerate(values):
                points.add(key, step, float(value))
        logs[stage] = StageLog(stage, path / "stages" / stage, points.series(), list((events or {}).get(stage, [])), [])
    if rollouts:
        folder = path / "stages" / "ppo" / "rollouts"
        folder.mkdir(parents=True)
        for step in range(1, steps + 1):
            (folder / rollouts_name(step)).write_bytes(encode_rollouts(step, rollouts(step)))
    if eval_prompts:
        (path / "stages" / "eval").mkdir(parents=True)
        samples = [{"prompt": prompt} for prompt in eval_prompts]
        (path / "stages" / "eval" / "samples.json").write_text(json.dumps(samples))
    return RunLog(path, {"id": "made"}, config or {}, {}, {}, logs, [])


def groups(
    change: Callable[[Row, np.random.Generator], Row] = lambda row, random: row,
    *,
    prompts: int = 16,
    size: int = 4,
    different: int = 10_000,
    drop: Sequence[str] = (),
) -> Rows:
    """`size` responses to each of `prompts` prompts a step; the score is gold with half as much noise. `different`
    prompts take turns; `change` alters a row; columns in `drop` are left out."""

    def rows(step: int) -> list[Row]:
        random = np.random.default_rng(step)
        made: list[Row] = []
        for number in range(prompts):
            prompt = ((step - 1) * prompts + number) % different
            for response in range(size):
                gold, length = random.normal(), int(random.integers(3, 12))
                row = {
                    "rollout_id": f"ppo-{step:06d}-{number:03d}-{response}",
                    "prompt_id": str(prompt),
                    "prompt": f"question {prompt} :",
                    "response": f"answer {step} {number} {response}",
                    "prompt_tokens": [2, 10 + prompt % 7, 5],
                    "tokens": [20 + response] * length,
                    "score": gold + 0.5 * random.normal(),
                    "gold": gold,
                    "length": length,
                }
                row = change(row, random)
                made.append({key: value for key, value in row.items() if key not in drop})
        return made

    return rows


def shifted(column: str, by: Callable[[Row], float]) -> Callable[[Row, np.random.Generator], Row]:
    """A change of `groups` that sets a column to a function of the row."""
    return lambda row, random: row | {column: by(row)}
