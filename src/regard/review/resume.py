"""Where a stage was resumed, and what jumped there."""

from dataclasses import dataclass

import numpy as np

from regard.review.statistics import Floats, first_of
from regard.runlog.reader import RunLog, StageLog
from regard.runlog.series import as_number

CONTROLLED = ("optim/learning_rate/last", "kl/coef/value")
"""Set by a schedule or a controller, so a jump needs no statistics."""
NOISY = (
    "optim/update_norm/value",
    "optim/grad_norm/last",
    "kl/old_new_k2/mean",
    "kl/policy_ref_k1/seq_sum",
    "kl/policy_ref_k1/token_mean",
    "score/reward_model/mean",
    "entropy/policy/token_mean",
)
DEVIATIONS = 6.0
LEAST_BEFORE, LEAST_AFTER = 6, 1


def resume_steps(run: RunLog, stage: StageLog | None) -> list[int] | None:
    """The last steps before each resume within the stage, increasing; None where the record cannot say, because it
    has neither events nor a list of its sessions."""
    if stage is None:
        return None
    steps = {int(step) for event in stage.events if event.get("kind") == "resume"
             and (step := as_number(event.get("step"))) is not None and step > 0}  # fmt: skip
    if not steps and not stage.events and "sessions" not in run.run:
        return None
    return sorted(steps)


@dataclass(frozen=True)
class Jump:
    """What one metric did at a resume: the mean of two steps before and after, and the change in its usual changes."""

    key: str
    before: float
    after: float
    deviations: float


def jumps_at(stage: StageLog, step: int) -> list[Jump]:
    """Metrics that jump between `step` and the next, by more than six of their usual changes from step to step.

    A usual change is 1.4826 times the median size of the changes elsewhere, trend included.
    """
    found: list[Jump] = []
    for key in (*CONTROLLED, *NOISY):
        reading = first_of(stage, (key,), LEAST_BEFORE + LEAST_AFTER)
        if reading is None:
            continue
        after = int(np.searchsorted(reading.steps, step, side="right"))
        if after < LEAST_BEFORE or len(reading.values) - after < LEAST_AFTER:
            continue
        jump = _jump(key, reading.values, after)
        if abs(jump.deviations) > DEVIATIONS:
            found.append(jump)
    return found


def _jump(key: str, values: Floats, after: int) -> Jump:
    before, later = float(values[after - 1]), float(values[after])
    changes = np.delete(np.diff(values), after - 1)
    middle = float(np.median(changes))
    usual = 1.4826 * float(np.median(np.abs(changes - middle)))
    floor = 1e-3 * float(np.median(np.abs(values))) + 1e-12
    return Jump(key, before, later, (later - before - middle) / max(usual, floor))
