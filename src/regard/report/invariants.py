"""What held before the first update of stage 4, and within which limit."""

from regard.report.model import Invariant
from regard.report.numbers import show
from regard.runlog.invariants import HASHES_EQUAL, HASHES_LABEL, INVARIANTS, recorded_tolerance
from regard.runlog.reader import RunLog

INVARIANT_LABELS = {spec.key: spec.label for spec in INVARIANTS} | {HASHES_EQUAL: HASHES_LABEL}


def invariants_of(run: RunLog) -> tuple[Invariant, ...]:
    """Those that the run recorded; a value without a limit is neither passed nor failed."""
    ppo = run.stages.get("ppo")
    if ppo is None:
        return ()
    tolerance = recorded_tolerance(ppo)
    found: list[Invariant] = []
    for key, label, unit, multiple in INVARIANTS:
        series = ppo.metrics.get(key)
        if series is None or not len(series.values):
            continue
        value = float(series.values[0])
        limit = 0.0 if multiple == 0 else tolerance * multiple if tolerance is not None else None
        passed = None if limit is None else abs(value) <= limit  # NaN is never within a limit
        says = "not recorded" if limit is None else "= 0" if limit == 0 else f"≤ {show(limit)}"
        found.append(Invariant(key, label, value, unit, says, passed))
    series = ppo.metrics.get(HASHES_EQUAL)
    if series is not None and len(series.values):
        value = float(series.values[0])
        found.append(Invariant(HASHES_EQUAL, HASHES_LABEL, value, "0 or 1", "= 1", value == 1))
    return tuple(found)
