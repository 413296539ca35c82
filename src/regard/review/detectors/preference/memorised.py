"""DPO002 pairs-memorised: training pairs are separated without error while held-out pairs get worse.

## What it detects
Loss and accuracy of preference optimisation on training pairs, beside the loss on held-out pairs.

## Why it matters
Past that point the policy learns the pairs by heart and drifts where no pair says anything.

## How it decides
Training accuracy is above 0.98 in the last tenth, and the held-out loss ends more than 10 % and 0.02 above its
lowest: warning. Needs three evaluations on held-out pairs and ten training points.

## When it cannot tell
No held-out loss. A training accuracy of 1 alone is no proof: easy pairs give it too.

## False alarms
A margin that grows while the held-out loss stays level is a healthy, if long, run.

## What to do
One epoch; a learning rate near 5e-7 for large models; a larger β; an SFT term on chosen responses.

## References
trl issue 1236; Rafailov et al. 2024 (arXiv 2406.02900).
"""

import numpy as np

from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import detector
from regard.review.statistics import first_of
from regard.runlog.reader import RunLog, StageLog

ACCURACY, HELD_OUT = ("preference/accuracy/mean",), ("preference/loss_val/mean",)
SEPARATED, RELATIVE, ABSOLUTE = 0.98, 0.1, 0.02
LEAST, LEAST_EVALUATIONS = 10, 3


@detector("DPO002", "pairs-memorised", "warning", frozenset({"dpo"}))
def memorised(run: RunLog, stage: StageLog) -> Outcome:
    accuracy, held_out = first_of(stage, ACCURACY, LEAST), first_of(stage, HELD_OUT, LEAST_EVALUATIONS)
    if accuracy is None or held_out is None:
        return CannotTell(
            "Training accuracy and three evaluations on held-out pairs are needed.", (*ACCURACY, *HELD_OUT)
        )
    best = int(np.argmin(held_out.values))
    lowest, last = float(held_out.values[best]), float(held_out.values[-1])
    limit = lowest + max(ABSOLUTE, RELATIVE * abs(lowest))
    if accuracy.end <= SEPARATED or last <= limit:
        return Clear(f"Training accuracy ends at {accuracy.end:.2f}, the held-out loss at {last:.3f}.")
    after = min(best + 1, len(held_out.steps) - 1)
    return Fired(
        summary=f"Training accuracy is {accuracy.end:.2f}, and the held-out loss rose from {lowest:.3f} to {last:.3f}.",
        evidence=(
            Evidence(held_out.key, last, limit, int(held_out.steps[-1])),
            Evidence(accuracy.key, accuracy.end, SEPARATED, int(accuracy.steps[-1])),
        ),
        onset=Onset(int(held_out.steps[after]), (int(held_out.steps[best]), int(held_out.steps[after]))),
        until=int(held_out.steps[-1]),
        confidence=0.9,
    )
