"""The run record: what a training run leaves on disk, and all that a review needs. No torch here."""

from regard.runlog.metrics import METRICS, MetricSpec
from regard.runlog.reader import RunLog, StageLog, read_run
from regard.runlog.series import Series
from regard.runlog.writer import RunWriter, StageWriter

__all__ = ["METRICS", "MetricSpec", "RunLog", "RunWriter", "Series", "StageLog", "StageWriter", "read_run"]
