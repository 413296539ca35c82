"""TXT005 other-script: responses drift into another script.

## What it detects
Share of the letters of a response that belong to scripts which the first responses hardly use.

## Why it matters
A reward model that never saw another language cannot judge it. Users can: they cannot read it.

## How it decides
Scripts that make up less than 2 % of the letters of the first responses count. Fires if their share rose by 0.02, by
four standard errors, and to three times its start: warning; error from 0.2 on.

## When it cannot tell
Fewer than 40 early and 40 late rollouts with texts.

## False alarms
Prompts in other languages are answered in them; look at the prompts of the rollouts named.

## What to do
If such responses score no lower than others to the same prompt, the reward model is blind to them: add rejected ones.
If the score falls with them, look for damage by training first.

## References
Ziegler et al. 2019 (arXiv 1909.08593), training without KL.
"""

from regard.review.outcome import Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.review.shares import judge_share
from regard.runlog.reader import RunLog, StageLog


@detector("TXT005", "other-script", "warning", POLICY_STAGES)
def other_script(run: RunLog, stage: StageLog) -> Outcome:
    return judge_share(
        stage,
        "rollouts/other_script",
        "of the letters are of another script",
        lambda answers: answers.other_script,
        rise=0.02,
        times=3.0,
        grave=0.2,
    )
