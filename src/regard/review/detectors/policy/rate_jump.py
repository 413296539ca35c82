"""POL013 learning-rate-jumps: in the middle of the run the learning rate is more than twice what it ever was.

## What it detects
A rise of the learning rate that is no warm-up.

## Why it matters
The steps of the policy grow with it, and the ratio to the policy that sampled with them; what was a safe rate is none
then.

## How it decides
The rate had stopped rising, and the next three logged values are more than twice the highest before: warning. A jump
from a constant rate within the first fifth of the run is a warm-up.

## When it cannot tell
The learning rate is not logged.

## False alarms
A second phase with a higher rate that was meant, or a log that begins in the tail of a cycle.

## What to do
Compare the schedule with the one that was meant; resume from the checkpoint before the jump.

## References
Engstrom et al. 2020, Implementation matters in deep policy gradients (arXiv 2005.12729), on the learning rate's
weight.
"""

from regard.review.facts import Facts
from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.review.signs import policy as signs
from regard.runlog.reader import RunLog, StageLog


@detector("POL013", "learning-rate-jumps", "warning", POLICY_STAGES)
def learning_rate_jumps(run: RunLog, stage: StageLog) -> Outcome:
    answer = signs.rate_jumps_above_its_peak(Facts(run))
    if answer.holds is None:
        return CannotTell(answer.summary, answer.missing)
    if not answer.holds or answer.onset is None:
        return Clear(answer.summary)
    rate = stage.metrics[signs.RATE]
    before = float(rate.values[rate.steps < answer.onset.step].max())
    value = float(rate.values[rate.steps == answer.onset.step][0])
    evidence = Evidence(signs.RATE, value, signs.JUMP * before, answer.onset.step)
    return Fired(answer.summary, (evidence,), answer.onset, int(rate.steps[-1]), 0.95)
