"""TXT003 repetition: responses say the same thing again and again.

## What it detects
Share of a response's word pairs that already stood in it, in its first 64 words; the mean of the last responses against
that of the first.

## Why it matters
Text that repeats itself is what a reward model without such pairs cannot mark down, and what a policy without EOS or
entropy falls into. Nobody wants to read it.

## How it decides
Fires if the share rose by 0.15, by four standard errors, and to twice its start: warning; error from 0.4 on.

## When it cannot tell
Fewer than 40 early and 40 late rollouts with texts.

## False alarms
Lists, code and verse repeat more than prose: the start of the same run is the measure. Longer responses repeat more,
hence only the first 64 words.

## What to do
Read the rollouts named. Append a response's last sentence to it and score it again: a score that does not fall is paid
for repetition.

## References
Ziegler et al. 2019 (arXiv 1909.08593); Li et al. 2016 (distinct-n).
"""

from regard.review.outcome import Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.review.shares import judge_share
from regard.runlog.reader import RunLog, StageLog


@detector("TXT003", "repetition", "warning", POLICY_STAGES)
def repetition(run: RunLog, stage: StageLog) -> Outcome:
    return judge_share(
        stage,
        "rollouts/repeated_pairs",
        "of a response's word pairs are repeated",
        lambda answers: answers.texts.repetition,
        rise=0.15,
        times=2.0,
        grave=0.4,
    )
