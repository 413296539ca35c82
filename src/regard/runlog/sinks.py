"""Dashboards that get the metrics as they are logged. The run record stays the source; a sink is a copy.

Each package is imported when a sink is made, and a missing one is an error that says what to install.
"""

import time
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from regard.errors import RunLogError
from regard.runlog.reader import read_run


def _import(module: str, *, extra: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = module.split(".", 1)[0]
        raise RunLogError(f"{package} is not installed. Type: pip install 'regard[{extra}]'") from error


SINKS = {
    "tensorboard": ("tensorboard.summary.writer.event_file_writer", "tb"),
    "wandb": ("wandb", "wandb"),
    "trackio": ("trackio", "trackio"),
}
"""Sink → module it needs, and the extra that installs it."""


def check_sinks(names: Iterable[str]) -> None:
    """Refuse what cannot be made, before a run directory is begun for it.

    Raises:
        RunLogError: no such sink, or its package is not installed.
    """
    for name in names:
        if name not in SINKS:
            raise RunLogError(f"There is no sink {name!r}. Use one of: {', '.join(SINKS)}.")
        module, extra = SINKS[name]
        _import(module, extra=extra)


def make_sink(name: str, run_dir: Path, run_id: str, config: Mapping[str, Any]) -> Any:
    """A sink by name; the project is "regard". `run_id` keeps runs in directories of one name apart.

    Raises:
        RunLogError: no such sink, or its package is not installed.
    """
    check_sinks([name])
    if name == "tensorboard":
        return TensorBoardSink(run_dir / "tensorboard")
    if name == "wandb":
        return WandbSink(project="regard", name=run_dir.name, config=config, run_id=run_id)
    return TrackioSink(project="regard", name=run_id, config=config)


class TensorBoardSink:
    """TensorBoard event files, one subdirectory per stage, with the metric key as the tag.

    Uses tensorboard's own writer: neither torch nor tensorflow is needed.
    """

    def __init__(self, directory: Path | str) -> None:
        self._directory = Path(directory)
        self._writer_module = _import("tensorboard.summary.writer.event_file_writer", extra="tb")
        self._events = _import("tensorboard.compat.proto.event_pb2", extra="tb")
        self._summaries = _import("tensorboard.compat.proto.summary_pb2", extra="tb")
        self._writers: dict[str, Any] = {}

    def log(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        """Write one step and flush it."""
        self.write(stage, step, metrics, wall_time=time.time())
        self._writers[stage].flush()

    def write(self, stage: str, step: int, metrics: Mapping[str, float], *, wall_time: float) -> None:
        """Write one step as of `wall_time`, in seconds since 1970, without flushing."""
        if stage not in self._writers:
            self._writers[stage] = self._writer_module.EventFileWriter(str(self._directory / stage))
        values = [self._summaries.Summary.Value(tag=key, simple_value=value) for key, value in metrics.items()]
        summary = self._summaries.Summary(value=values)
        self._writers[stage].add_event(self._events.Event(wall_time=wall_time, step=step, summary=summary))

    def close(self) -> None:
        """Flush and close the event files."""
        while self._writers:
            self._writers.popitem()[1].close()


class WandbSink:
    """Weights & Biases: keys `stage/key`, each stage on its own step axis `stage/step`."""

    def __init__(self, *, project: str, name: str, config: Mapping[str, Any], run_id: str | None = None) -> None:
        wandb = _import("wandb", extra="wandb")
        # resume="allow" with our id makes a resumed run continue its chart instead of beginning another.
        self._run = wandb.init(project=project, name=name, config=dict(config), id=run_id, resume="allow")
        self._stages: set[str] = set()

    def log(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        """Send one step. wandb's own step only grows, but each stage begins at 0: hence the axis per stage."""
        if stage not in self._stages:
            self._run.define_metric(f"{stage}/step")
            self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
            self._stages.add(stage)
        self._run.log({f"{stage}/step": step, **{f"{stage}/{key}": value for key, value in metrics.items()}})

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


class TrackioSink:
    """Trackio: keys `stage/key`, at the step of the stage."""

    def __init__(self, *, project: str, name: str, config: Mapping[str, Any]) -> None:
        self._trackio = _import("trackio", extra="trackio")
        self._trackio.init(project=project, name=name, config=dict(config), resume="allow")

    def log(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        """Send one step."""
        self._trackio.log({f"{stage}/{key}": value for key, value in metrics.items()}, step=step)

    def close(self) -> None:
        """Finish the run."""
        self._trackio.finish()


def export_tensorboard(run_dir: Path | str, out_dir: Path | str) -> int:
    """Write a run's metrics as TensorBoard event files under `out_dir`; returns the number of values written."""
    run = read_run(run_dir)
    sink = TensorBoardSink(out_dir)
    count = 0
    for stage, log in run.stages.items():
        by_step: dict[int, dict[str, float]] = {}
        times: dict[int, float] = {}
        for key, series in log.metrics.items():
            for step, value, when in zip(series.steps, series.values, series.times, strict=True):
                by_step.setdefault(int(step), {})[key] = float(value)
                times[int(step)] = float(when)
                count += 1
        for step in sorted(by_step):
            sink.write(stage, step, by_step[step], wall_time=times[step] if times[step] == times[step] else 0.0)
    sink.close()
    return count
