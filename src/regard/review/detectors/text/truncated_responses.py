"""TXT001 truncated-responses: a large share of the responses is cut by the cap.

## What it detects
Share of responses that reach the maximum of new tokens without EOS.

## Why it matters
A cut response has no end to be judged at: the score is of half a sentence, and the policy is not told to stop.

## How it decides
The running median lies above 0.3 to the end, and is not falling by half from the start: warning. Needs five points.

## When it cannot tell
The share is not logged.

## False alarms
In a run on a fixed number of tokens, such as a continuation task without EOS, every response is cut on purpose. A share
of 0.2 to 0.35 at the start is usual and goes away.

## What to do
Raise the cap; add a missing-EOS penalty; check that EOS is in the SFT data and is not the padding that the loss masks.

## References
verl issue 1051; Yu et al. 2025, DAPO (arXiv 2503.14476), overlong responses.
"""

from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.review.statistics import first_of, lasting
from regard.runlog.reader import RunLog, StageLog

NEEDS = ("finish/truncated/frac",)
LIMIT, LEAST = 0.3, 5


@detector("TXT001", "truncated-responses", "warning", POLICY_STAGES)
def truncated_responses(run: RunLog, stage: StageLog) -> Outcome:
    cut = first_of(stage, NEEDS, LEAST)
    if cut is None:
        return CannotTell(f"There are not {LEAST} values of the share of cut responses.", NEEDS)
    spell = lasting(cut, lambda values: values > LIMIT)
    if spell is None or cut.end < cut.start / 2:
        return Clear(f"{cut.start:.0%} of the responses are cut at the start, {cut.end:.0%} at the end.")
    return Fired(
        summary=f"{cut.end:.0%} of the responses are cut by the cap, above {LIMIT:.0%} from step "
        f"{spell.onset.step} on.",
        evidence=(Evidence(cut.key, cut.end, LIMIT, int(cut.steps[-1])),),
        onset=spell.onset,
        until=int(cut.steps[-1]),
        confidence=0.95,
    )
