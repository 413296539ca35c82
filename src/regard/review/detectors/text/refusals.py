"""TXT006 refusals: refusals and hedges become frequent.

## What it detects
Share of responses that hold a phrase of refusal or of hedging.

## Why it matters
Where a refusal never loses, refusing everything is the best policy, and a useless one.

## How it decides
Fires if the share rose by 0.1, by four standard errors, and to three times its start: warning; error from 0.5 on.

## When it cannot tell
Fewer than 40 early and 40 late rollouts with texts.

## False alarms
More harmful prompts are refused more often, rightly. A lexicon knows English only, and does not read.

## What to do
Look whether the prompts of the rollouts named are harmless. Add pairs in which a harmless but edgy question is answered
well or refused.

## References
Bai et al. 2022 (arXiv 2204.05862); the lexicon is `regard.review.texts.LEXICONS`.
"""

from regard.review.outcome import Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.review.shares import judge_share
from regard.runlog.reader import RunLog, StageLog


@detector("TXT006", "refusals", "warning", POLICY_STAGES)
def refusals(run: RunLog, stage: StageLog) -> Outcome:
    return judge_share(
        stage,
        "rollouts/refusals",
        "of the responses refuse or hedge",
        lambda answers: answers.flags["refusal"] | answers.flags["hedge"],
        rise=0.1,
        times=3.0,
        grave=0.5,
    )
