"""GEN002 score-outage: for some steps nearly all responses have the same score, suddenly, although their texts differ.

## What it detects
In each step the share of rollouts with one and the same score, beside the share of different texts.

## Why it matters
A grader that times out, fails to parse or falls back to a default gives everything the same score. Nothing can be
learned from such steps, and with a score of 0 for a right answer the policy is taught that it was wrong.

## How it decides
At least three steps in which 95 % of the rollouts have exactly one score, although more than half of their texts are
different, where the step before the first of them, or the one after the last, had fewer than half alike: error.

## When it cannot tell
The rollouts have no scores with texts, or fewer than eight steps.

## False alarms
A coarse reward on a task that is solved, or not yet solvable, is constant too, but gets there gradually; hence the
jump.

## What to do
Give failures of the grader a code of their own and drop those rollouts; retry; send a few known right and wrong answers
with every batch.

## References
Public run logs with a constant reward for thousands of steps; Yu et al. 2025, DAPO (arXiv 2503.14476), on truncated
answers graded as wrong.
"""

import numpy as np

from regard.review.facts import Facts
from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.runlog.reader import RunLog, StageLog

SAME, BEFORE, VARIETY = 0.95, 0.5, 0.5
LEAST, LEAST_STEPS, LEAST_ROWS = 3, 8, 8


@detector("GEN002", "score-outage", "error", POLICY_STAGES)
def score_outage(run: RunLog, stage: StageLog) -> Outcome:
    facts = Facts(run)
    sample = facts.rollouts if facts.policy is stage else None
    if sample is None or not sample.has("score", "response") or len(sample.distinct_steps) < LEAST_STEPS:
        return CannotTell("There are not eight steps of rollouts with texts and scores.", ("rollouts: score",))
    steps = sample.distinct_steps
    same, variety = np.zeros(len(steps)), np.zeros(len(steps))
    for place, step in enumerate(steps):
        rows = np.flatnonzero((sample.steps == step) & np.isfinite(sample.numbers["score"]))
        if len(rows) < LEAST_ROWS:
            continue
        _, counts = np.unique(sample.numbers["score"][rows], return_counts=True)
        same[place] = counts.max() / len(rows)
        variety[place] = len({sample.texts["response"][row] for row in rows}) / len(rows)
    out = (same >= SAME) & (variety > VARIETY)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], out, [False]]).astype(int)))
    for first, end in zip(edges[::2], edges[1::2], strict=True):
        sudden = (first > 0 and same[first - 1] < BEFORE) or (end < len(steps) and same[end] < BEFORE)
        if end - first >= LEAST and sudden:
            low = int(steps[first - 1]) if first else int(steps[0])
            return Fired(
                summary=f"From step {steps[first]} to {steps[end - 1]} {same[first:end].mean():.0%} of the responses "
                "have the same score, although their texts differ.",
                evidence=(Evidence("rollouts: score", float(same[first]), SAME, int(steps[first])),),
                onset=Onset(int(steps[first]), (low, int(steps[first]))),
                until=int(steps[end - 1]),
                confidence=0.95,
            )
    return Clear(f"At most {same.max():.0%} of the responses of a step have the same score.")
