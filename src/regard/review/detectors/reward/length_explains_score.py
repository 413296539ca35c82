"""RWD002 length-explains-score: the score rises because responses get longer.

## What it detects
How much longer the last responses are than the first, what a token is worth to the score within prompts, how much of
the score's gain that explains, and what a token is worth to gold.

## Why it matters
Longer responses please most reward models, whether they say more or not; published runs owe 70 to 90 % of their gain to
length alone.

## How it decides
Fires (warning; error where gold fell) if length grew by 40 %, the growth times the price of a token explains half of
the score's gain, and a deviation of length is worth 0.3 deviations more to the score than to gold, with t of 4.

## When it cannot tell
No rollouts with scores and gold, or no two responses to a prompt of different length.

## False alarms
Length that helps: then gold rises with it within prompts, and the two prices are alike.

## What to do
Compare scores at equal length. Balance the reward model's pairs by length, or subtract its price of a token.

## References
Singhal et al. 2023 (arXiv 2310.03716); thresholds for growth as in rldoctor 0.2.0, lowered.
"""

import numpy as np

from regard.review.answers import answers_of
from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.runlog.reader import RunLog, StageLog

GROWTH, SHARE = 1.4, 0.5


@detector("RWD002", "length-explains-score", "warning", POLICY_STAGES)
def length_explains_score(run: RunLog, stage: StageLog) -> Outcome:
    answers = answers_of(stage)
    if answers is None or not answers.sample.has("score"):
        return CannotTell("There are too few rollouts with scores to tell first from last.", ("rollouts: score",))
    score, early, late = answers.sample.numbers["score"], answers.early, answers.late
    before, after = (float(np.nanmean(answers.length[rows])) for rows in (early, late))
    gain = float(np.nanmean(score[late]) - np.nanmean(score[early]))
    grown = f"Responses go from {before:.3g} to {after:.3g} tokens"
    if after < GROWTH * before or gain <= 0:
        return Clear(f"{grown}, the score moves by {gain:+.3g}.")
    rows = answers.later(answers.length)
    token = answers.price(answers.length, answers.centre(score, rows), rows)
    deviation = float(np.nanstd(answers.length))
    paid = answers.overpaid("length", answers.length / deviation if deviation > 0 else answers.length)
    if token is None or paid is None:
        return CannotTell(
            f"{grown}; length does not vary within prompts, so its price is unknown.",
            ("rollouts: several responses to each prompt",),
        )
    share = token.slope * (after - before) / gain
    text = f"{grown}; at {token.slope:.3g} of score a token that is {share:.0%} of the score's gain"
    if share < SHARE or paid.holds is False:
        return Clear(f"{text}.")
    if paid.gap is None:
        return CannotTell(f"{text}; nobody independent says whether longer is better.", ("rollouts: gold",))
    gold = answers.sample.numbers["gold"]
    fell = float(np.nanmean(gold[late]) - np.nanmean(gold[early]))
    last = int(answers.sample.steps[-1])
    shown = answers.witnesses(answers.length)
    return Fired(
        summary=f"{text}, and a deviation of length is worth {paid.gap:+.2f} more to it than to gold, "
        f"which moved by {fell:+.3g}.",
        evidence=(
            Evidence("length/response_tokens/mean", after, GROWTH * before, last, shown),
            Evidence("rollouts/length_share_of_gain", share, SHARE, last),
        ),
        onset=answers.onset(answers.length) or Onset(last, (int(answers.sample.steps[0]), last)),
        until=last,
        confidence=0.85,
        severity="error" if fell < 0 else None,
    )
