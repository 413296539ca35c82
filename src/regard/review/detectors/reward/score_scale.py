"""RWD012 score-scale: the scores have another spread than the reward model's own.

## What it detects
Deviation of the scores in stage 4, undone of the recorded divisor, beside that of the reward model on its test texts;
and whether it jumps from one step to the next. Of a score that is a sum with its parts recorded, the main part: what a
bonus adds is RWD014.

## Why it matters
The KL coefficient is in score units per nat. With scores twenty times as large the leash is twenty times as weak, and
the value function chases targets it cannot reach.

## How it decides
At the start the ratio is above 3 or below 1/5, or the deviation grows to more than three times what it was in the
eight steps before and stays there for four: warning. Needs three steps for the first, twelve for the second.

## When it cannot tell
The deviation is not logged in stage 4, or neither the reward model's own is nor are there twelve steps.

## False alarms
Scores of responses that differ much less, or more, than the texts that the reward model was tested on: in healthy runs
of the lab they spread 0.33 to 1.13 times as wide. A score that is
not the reward model's but a rule's: compare with the rule's own spread instead.

## What to do
Divide scores by their deviation on SFT samples (`ppo.scale_scores`) and choose the KL coefficient for that.

## References
Ziegler et al. 2019 (arXiv 1909.08593); Zheng et al. 2023 (arXiv 2307.04964).
"""

import numpy as np

from regard.review.facts import Facts
from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.review.signs.reward_model import spread_of_score
from regard.review.statistics import first_of, growth_in_a_step, smooth
from regard.runlog.reader import RunLog, StageLog

SCORE, SCALE, OWN = ("score/reward_model/std",), ("score/reward_scale/value",), ("rm/score/std",)
WIDER, NARROWER, BEFORE, AFTER, LEAST = 3.0, 1 / 5, 8, 4, 12


@detector("RWD012", "score-scale", "warning", POLICY_STAGES)
def score_scale(run: RunLog, stage: StageLog) -> Outcome:
    facts = Facts(run)
    score = spread_of_score(facts, 3) if facts.policy is stage else first_of(stage, SCORE, 3)
    scale, rm = first_of(stage, SCALE), facts.rm
    own = first_of(rm, OWN) if rm else None
    if score is None or ((own is None or scale is None) and len(score.values) < LEAST):
        return CannotTell("The spread of the scores is not logged beside the reward model's own.", SCORE + OWN)
    last = int(score.steps[-1])
    if own is not None and scale is not None and own.values[-1] > 0:
        ratio = float(np.median(score.values[:3]) * scale.values[0] / own.values[-1])
        if not NARROWER <= ratio <= WIDER:
            limit = WIDER if ratio > 1 else NARROWER
            return Fired(
                summary=f"The first scores spread {ratio:.2g} times as wide as the reward model's on its test texts.",
                evidence=(Evidence(score.key, ratio, limit, int(score.steps[0])),),
                onset=Onset(0, (0, int(score.steps[0]))),
                until=last,
                confidence=0.8,
            )
    before, after = growth_in_a_step(smooth(score.values), BEFORE, AFTER)
    jumps = np.flatnonzero((before > 0) & (after > WIDER * before))
    if len(jumps):
        place = jumps[0]
        low, high = int(score.steps[max(0, place - 2)]), int(score.steps[min(len(after) - 1, place + 1)])
        return Fired(
            summary=f"The scores' spread jumps from {before[place]:.2g} to {after[place]:.2g} at step "
            f"{score.steps[place]}.",
            evidence=(Evidence(score.key, float(after[place]), float(WIDER * before[place]), int(score.steps[place])),),
            onset=Onset(int(score.steps[place]), (low, high)),
            until=last,
            confidence=0.85,
        )
    return Clear(f"The scores spread {score.start:.2g} at the start and {score.end:.2g} at the end.")
