"""RWD015 score-marks-the-prompt: the score differs between prompts, not between responses.

## What it detects
On the first rollouts: the share of the score's variance that lies between prompts (intraclass correlation).

## Why it matters
What differs only between prompts cannot say which response is better. Without a baseline per prompt it is noise in
every advantage, and nobody sees it in the mean.

## How it decides
More than 55 % lies between prompts, and 40 points more than of gold's: warning. Needs eight prompts.

## When it cannot tell
No prompt has several responses in a step, or no judge says how much prompts differ in truth.

## False alarms
Prompts that differ much in how well they can be answered; gold then says so too.

## What to do
Train the reward model on pairs of responses to these prompts; centre scores per prompt.

## References
Bai et al. 2022 (arXiv 2204.05862).
"""

from regard.review.facts import Facts
from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.ranking import between_groups, start_rows
from regard.review.registry import POLICY_STAGES, detector
from regard.runlog.reader import RunLog, StageLog

NEEDS = ("rollouts: gold",)
LIMIT, GAP = 0.55, 0.4


@detector("RWD015", "score-marks-the-prompt", "warning", POLICY_STAGES)
def score_marks_the_prompt(run: RunLog, stage: StageLog) -> Outcome:
    sample = Facts(run).rollouts
    if sample is None or not sample.has("score"):
        return CannotTell("There are no rollouts with a score.", ("rollouts: score",))
    rows = start_rows(sample)
    of_score = between_groups(sample, sample.numbers["score"], rows)
    if of_score is None:
        return CannotTell("Fewer than eight prompts have several responses in a step.", ("rollouts: prompt_id",))
    text = f"{max(0.0, of_score):.0%} of the variance of the first scores lies between prompts"
    if of_score <= LIMIT:
        return Clear(text + ".")
    of_gold = between_groups(sample, sample.numbers["gold"], rows) if sample.has("gold") else None
    if of_gold is None:
        return CannotTell(text + ", and no judge says whether it should.", NEEDS)
    text += f", of gold's {max(0.0, of_gold):.0%}."
    if of_score - of_gold <= GAP:
        return Clear(text)
    step = int(sample.steps[rows].max())
    return Fired(
        summary=text,
        evidence=(Evidence("rollouts: score", of_score, max(LIMIT, of_gold + GAP), step),),
        onset=Onset(0, (0, step)),
        until=step,
        confidence=0.85,
    )
