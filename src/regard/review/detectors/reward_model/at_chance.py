"""RMD001 reward-model-at-chance: on pairs it has not seen, the reward model ranks no better than a coin.

## What it detects
Share of held-out pairs ranked right, at the end of its training.

## Why it matters
Whatever stage 4 gains on this score is noise. Below a half it is worse: the policy is trained for what people reject.

## How it decides
The last value is 0.53 or less: error. Where only training accuracy is logged: the median of its last tenth is 0.53 or
less, since a model that cannot even rank what it trains on cannot rank the rest.

## When it cannot tell
No accuracy is logged, or only training accuracy and it is high, which says nothing about pairs it has not seen.

## False alarms
Few held-out pairs: with 100 of them 0.53 is within noise of 0.6. The log does not say how many there are.

## What to do
Below 0.47: chosen and rejected are swapped. Near 0.5: train longer, raise the learning rate, start from the SFT model,
check that the score is read at the last token and not at padding.

## References
Ouyang et al. 2022 (arXiv 2203.02155): 0.69 to 0.73; DeepSpeedExamples issue 322.
"""

from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import detector
from regard.review.statistics import first_of
from regard.runlog.reader import RunLog, StageLog

HELD_OUT, TRAINING = ("rm/accuracy_val/mean",), ("rm/accuracy_train/mean",)
CHANCE = 0.53
LEAST_TRAINING = 20


@detector("RMD001", "reward-model-at-chance", "error", frozenset({"rm"}))
def at_chance(run: RunLog, stage: StageLog) -> Outcome:
    held_out, training = first_of(stage, HELD_OUT), first_of(stage, TRAINING, LEAST_TRAINING)
    if held_out is not None:
        reading, value = held_out, float(held_out.values[-1])
    elif training is not None:
        reading, value = training, training.end
    else:
        return CannotTell("No accuracy on held-out pairs is logged.", HELD_OUT)
    if value > CHANCE:
        if held_out is None:
            return CannotTell(f"Only training accuracy is logged ({value:.2f}), which is no proof.", HELD_OUT)
        return Clear(f"Right on {value:.3f} of the held-out pairs.")
    last = int(reading.steps[-1])
    return Fired(
        summary=f"Right on {value:.3f} of the pairs ({reading.key}); a coin is right on half.",
        evidence=(Evidence(reading.key, value, CHANCE, last),),
        onset=Onset(int(reading.steps[0]), (int(reading.steps[0]), last)),
        until=last,
        confidence=0.8,
    )
