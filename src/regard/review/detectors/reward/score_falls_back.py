"""RWD017 score-falls-back: the score was higher earlier in the run.

## What it detects
The mean score, which is what training raises, over the steps of the run.

## Why it matters
An optimiser that loses what it optimises is held back, misled or broken: by a leash that tightens, noise, an entropy
bonus that outweighs the score, steps that are too large, or scores whose unit has changed.

## How it decides
As the sign `score-falls-back`: the mean of the last fifth of the run lies below that of the best fifth by three
standard errors and half of a deviation of the scores: warning. Needs ten points and the deviation.

## When it cannot tell
The score is not logged, or in fewer than ten steps; or its deviation is not.

## False alarms
New prompts in the middle of the run that are harder, or another reward model.

## What to do
See which of KL, entropy, length and learning rate turned at the same step.

## References
trl issue 1098, where the reward ends below its start.
"""

from regard.review.facts import Facts
from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.review.signs.kl import SCORE, SCORE_STD, reading
from regard.review.signs.policy import score_falls_back
from regard.runlog.reader import RunLog, StageLog


@detector("RWD017", "score-falls-back", "warning", POLICY_STAGES)
def score_falls(run: RunLog, stage: StageLog) -> Outcome:
    facts = Facts(run)
    answer, score = score_falls_back(facts), reading(facts, SCORE, least=10)
    if answer.holds is None or score is None:
        return CannotTell(answer.summary, (SCORE,))
    if reading(facts, SCORE_STD, least=1) is None:
        return CannotTell("The deviation of the scores is not logged, so no fall can be called large.", (SCORE_STD,))
    if not answer.holds:
        return Clear(answer.summary)
    last = int(score.steps[-1])
    evidence = Evidence(score.key, float(score.end), float(score.values.max()), last)
    return Fired(answer.summary, (evidence,), answer.onset or Onset(last, (0, last)), last, 0.9)
