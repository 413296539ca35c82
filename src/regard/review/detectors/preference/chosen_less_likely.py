"""DPO003 chosen-less-likely: the margin grows because both responses become less likely, the chosen one too.

## What it detects
Implicit reward of the chosen response, β·(logprob − ref_logprob), and its log-probability, over the run.

## Why it matters
The loss only knows the difference. It can be lowered by taking probability from both responses, and the probability
goes to text that no pair has ever shown, sometimes to the opposite of what was wanted.

## How it decides
The chosen response's log-probability ends more than 10 % below its start, or, where that is not logged, the implicit
reward of the chosen response ends below minus half the margin; and the margin rises, and the chosen reward falls, each
by more than three times its usual change from point to point: warning. Needs ten points.

## When it cannot tell
Neither rewards nor log-probabilities of the chosen response are logged.

## False alarms
A small fall of the chosen reward is usual; hence the limits.

## What to do
Add an SFT term on the chosen response; one epoch; a larger β or a lower learning rate; leave out pairs that are nearly
alike.

## References
Razin et al. 2024 (arXiv 2410.08847); Pal et al. 2024, DPO-Positive (arXiv 2402.13228).
"""

import numpy as np

from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Outcome
from regard.review.registry import detector
from regard.review.statistics import Reading, first_of, lasting
from regard.runlog.reader import RunLog, StageLog

CHOSEN, MARGIN = "preference/reward_chosen/mean", "preference/margin/mean"
LOGPROBS = "preference/logprobs_chosen/seq_sum"
LEAST, LOST, OF_MARGIN, USUAL = 10, 0.1, 0.5, 3.0


@detector("DPO003", "chosen-less-likely", "warning", frozenset({"dpo"}))
def chosen_less_likely(run: RunLog, stage: StageLog) -> Outcome:
    chosen, margin, logprobs = (first_of(stage, (key,), LEAST) for key in (CHOSEN, MARGIN, LOGPROBS))
    if chosen is None or margin is None:
        return CannotTell("The rewards of the chosen response and the margin are not logged.", (CHOSEN, MARGIN))
    falls = chosen.start - chosen.end > USUAL * _usual_change(chosen)
    rises = margin.end - margin.start > USUAL * _usual_change(margin)
    if logprobs is not None:
        far = logprobs.end < logprobs.start - LOST * abs(logprobs.start)
        what = f"log-probability of the chosen response from {logprobs.start:.4g} to {logprobs.end:.4g}"
    else:
        far = chosen.end < -OF_MARGIN * margin.end
        what = f"implicit reward of the chosen response from {chosen.start:.3g} to {chosen.end:.3g}"
    spell = lasting(chosen, lambda values: values < min(0.0, chosen.start) - 0.25 * abs(chosen.end))
    if not (falls and rises and far and chosen.end < 0) or spell is None:
        return Clear(
            f"The implicit reward of the chosen response ends at {chosen.end:.3g}, the margin {margin.end:.3g}."
        )
    last = int(chosen.steps[-1])
    return Fired(
        summary=f"The margin rises to {margin.end:.3g}, and yet: {what}.",
        evidence=(Evidence(CHOSEN, chosen.end, 0.0, last), Evidence(MARGIN, margin.end, margin.start, last)),
        onset=spell.onset,
        until=last,
        confidence=0.85,
    )


def _usual_change(reading: Reading) -> float:
    return float(np.median(np.abs(np.diff(reading.values))))
