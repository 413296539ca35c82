"""A loss on held-out data that rises again: what SFT and the reward model ask of theirs."""

import numpy as np

from regard.review.outcome import Clear, Evidence, Fired, Onset, Outcome
from regard.review.statistics import Reading

RELATIVE = 0.1


def rise(loss: Reading, absolute: float) -> Outcome:
    """Fired if the last value is above the lowest by a tenth of it and by `absolute`, in the unit of the loss."""
    best = int(np.argmin(loss.values))
    lowest, last = float(loss.values[best]), float(loss.values[-1])
    limit = lowest + max(absolute, RELATIVE * abs(lowest))
    if last <= limit:
        return Clear(f"The held-out loss ends at {last:.3f}; its lowest is {lowest:.3f}.")
    after = min(best + 1, len(loss.steps) - 1)
    return Fired(
        summary=f"The held-out loss rose from {lowest:.3f} at step {loss.steps[best]} to {last:.3f}.",
        evidence=(Evidence(loss.key, last, limit, int(loss.steps[-1])),),
        onset=Onset(int(loss.steps[after]), (int(loss.steps[best]), int(loss.steps[after]))),
        until=int(loss.steps[-1]),
        confidence=0.85,
    )
