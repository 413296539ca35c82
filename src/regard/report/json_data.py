"""The report as JSON that any parser reads."""

import json
import math
from dataclasses import asdict
from typing import Any

from regard.report.model import ReportData

SCHEMA_VERSION = 1


def to_json(data: ReportData) -> str:
    """All of `data`; NaN and infinities, which JSON lacks, become the texts "NaN", "Infinity", "-Infinity"."""
    return json.dumps({"schema": SCHEMA_VERSION, **_plain(asdict(data))}, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
