"""What held before the first update of stage 4, and within which limit."""

from regard.report.model import Invariant
from regard.report.numbers import number, show
from regard.runlog.reader import RunLog

INVARIANTS = (
    ("invariant/ratio_max_deviation/value", "Ratio of new to old policy is 1", "ratio", 1.0),
    ("invariant/kl_ref/value", "KL to the reference is 0", "nats/sequence", 4.0),
    ("invariant/two_forwards_max_diff/value", "Two identical forward passes agree", "nats", 0.0),
    ("invariant/padding_max_diff/value", "Padding changes no log-probability", "nats", 1.0),
    ("invariant/microbatch_max_diff/value", "Batch composition changes no log-probability", "nats", 1.0),
    ("invariant/generator_trainer_max_diff/value", "Sampler and trainer agree on each log-probability", "nats", 1.0),
)
"""Key, what must hold, unit, limit in multiples of the tolerance that the trainer recorded for its number format."""

HASHES_EQUAL = "invariant/frozen_hashes_equal/flag"
INVARIANT_LABELS = {key: label for key, label, _, _ in INVARIANTS} | {HASHES_EQUAL: "Frozen models are the ones loaded"}


def invariants_of(run: RunLog) -> tuple[Invariant, ...]:
    """Those that the run recorded; a value without a limit is neither passed nor failed."""
    ppo = run.stages.get("ppo")
    if ppo is None:
        return ()
    event = next((e for e in reversed(ppo.events) if e.get("kind") == "invariants"), {})
    tolerance = number(event.get("tolerance"))
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
        found.append(Invariant(HASHES_EQUAL, INVARIANT_LABELS[HASHES_EQUAL], value, "0 or 1", "= 1", value == 1))
    return tuple(found)
