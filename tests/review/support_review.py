"""Runs made of a few series, for the detectors."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from regard.runlog.reader import RunLog, StageLog
from regard.runlog.series import Points


def make_run(
    stage: str,
    metrics: Mapping[str, Sequence[float]],
    events: list[dict[str, Any]] | None = None,
    lineage: dict[str, Any] | None = None,
) -> RunLog:
    """One stage whose series have the steps 0, 1, 2 …"""
    points = Points()
    for key, values in metrics.items():
        for step, value in enumerate(values):
            points.add(key, step, float(value))
    log = StageLog(stage, Path("nowhere"), points.series(), events or [], [])
    return RunLog(Path("nowhere"), {"id": "made"}, {}, lineage or {}, {}, {stage: log}, [])
