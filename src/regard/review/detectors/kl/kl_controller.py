"""KL005 kl-controller: the automatic KL coefficient swings, or runs away from where it began.

## What it detects
Turns of the KL coefficient by a factor of three or more, and a coefficient that goes one way throughout.

## Why it matters
A controller whose gain is too high makes training alternate between pulled back and let go; one whose target is in
another unit than the KL it is fed takes the leash off, or ties it down, without anyone having asked.

## How it decides
Three turns by a factor of three: warning. A span of a factor of ten, or one direction in nine of ten steps, a factor of
three from first to last and a KL 20 times above or below its target: warning. Needs eight points.

## When it cannot tell
The KL coefficient is not logged.

## False alarms
A controller near its target, with the score level, is doing what it was asked to (trl issue 1178). At the start the KL
is below any target and the coefficient falls for a while; hence the factor.

## What to do
Lengthen the horizon tenfold; state the target in the unit of the KL that the controller is fed; or fix the coefficient.

## References
Ziegler et al. 2019 (arXiv 1909.08593), section 2.2; trl issues 18 and 1178.
"""

from regard.review.facts import Facts
from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.review.signs.kl import COEF, controller_runs_away, controller_swings, controller_target_out_of_reach
from regard.review.statistics import first_of
from regard.runlog.reader import RunLog, StageLog

SPAN = 10.0


@detector("KL005", "kl-controller", "warning", POLICY_STAGES)
def kl_controller(run: RunLog, stage: StageLog) -> Outcome:
    facts = Facts(run)
    swings, runs = controller_swings(facts), controller_runs_away(facts)
    coef = first_of(stage, (COEF,))
    if swings.holds is None or coef is None:
        return CannotTell(swings.summary, swings.missing)
    span = float(coef.values.max()) > SPAN * max(float(coef.values.min()), 1e-300)
    away = runs.holds and (span or controller_target_out_of_reach(facts).holds)
    if not swings.holds and not away:
        return Clear(f"{runs.summary} {swings.summary}")
    last = int(coef.steps[-1])
    return Fired(
        summary=swings.summary if swings.holds else runs.summary,
        evidence=(Evidence(COEF, float(coef.values[-1]), float(coef.values[0]), last),),
        onset=Onset(0, (0, int(coef.steps[min(len(coef.steps) - 1, 5)]))),
        until=last,
        confidence=0.9,
    )
