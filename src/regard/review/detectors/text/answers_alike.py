"""TXT004 answers-alike: all responses become the same, although each is varied.

## What it detects
Distinct word pairs over all responses, in equal numbers of pairs of the first and the last responses, and the share of
responses to one prompt that differ.

## Why it matters
Measures of one response see nothing of it, and best-of-n, exploration and users who ask twice lose what they had.

## How it decides
Fires (warning) if the pooled share of distinct pairs falls below a quarter of its start while pairs repeated within
responses account for less than half of the fall, or if less than half of the responses to one prompt differ at last and
nine in ten did at first. Not while gold rises: then the answers are alike because they are right.

## When it cannot tell
Fewer than 40 early and 40 late rollouts with texts.

## False alarms
Where every prompt has one right answer, responses to it should be the same; they are from the start, then. Every policy
becomes less varied as it learns what is asked for, by half in our healthy runs.

## What to do
Raise `kl_coef`, add prompts, or stop when the score saturates.

## References
Kirk et al. 2023 (arXiv 2310.06452); Li et al. 2016 (distinct-n).
"""

import numpy as np

from regard.review.answers import POOLED, answers_of
from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.review.statistics import GOLD, first_of, rose
from regard.runlog.reader import RunLog, StageLog

ALIKE, DIFFERENT = 0.5, 0.9
LEAST = 15


@detector("TXT004", "answers-alike", "warning", POLICY_STAGES)
def answers_alike(run: RunLog, stage: StageLog) -> Outcome:
    answers = answers_of(stage)
    if answers is None:
        return CannotTell("There are too few rollouts with texts to tell first from last.", ("rollouts: response",))
    first, last = answers.pooled_variety()
    within = [1 - float(answers.texts.repetition[rows].mean()) for rows in (answers.early, answers.late)]
    share = first_of(stage, ("group/distinct_text/frac",), 8)
    same = share is not None and share.start >= DIFFERENT and share.end < ALIKE
    step = int(answers.sample.steps[-1])
    if not np.isfinite(first) or first <= 0:
        return CannotTell("The responses are too short for word pairs.", ("rollouts: response",))
    text = f"{last:.0%} of the word pairs over all last responses are distinct, {first:.0%} over as many of the first"
    narrow = last < POOLED * first and within[1] / within[0] > (last / first) ** 0.5
    if not same and not narrow:
        return Clear(f"{text}.")
    gold = first_of(stage, GOLD, LEAST)
    if gold is not None and rose(gold):
        return Clear(f"{text}, while gold goes from {gold.start:.3g} to {gold.end:.3g}: right answers are alike.")
    evidence = [Evidence("rollouts/distinct_pairs", last, POOLED * first, step)]
    if share is not None:
        text += f"; {share.end:.0%} of the responses to one prompt differ"
        evidence.append(Evidence(share.key, share.end, ALIKE, int(share.steps[-1])))
    begun = int(answers.sample.steps[answers.early][-1])
    return Fired(
        summary=f"{text}.",
        evidence=tuple(evidence),
        onset=Onset((begun + step) // 2, (begun, step)),
        until=step,
        confidence=0.8,
    )
