"""RWD018 gold-stays-behind: the score went up and an independent judge saw hardly any of it.

## What it detects
What score and gold (a judge that is not optimised) gained from the first to the last rollouts, each in the deviations
that it had among the first.

## Why it matters
A score is optimised for the quality it stands for. RWD001 needs quality that is lost again; where it was never gained
no curve turns, and the score alone looks like success.

## How it decides
Fires if the score gained at least 0.5 deviations, and gold, with two standard errors added, less than a quarter of
that. Deviations are without the noise that texts judged twice show. In 132 runs of the lab without a fault that gained
so much, gold with that gained 0.36 times as much at least; in nine real ones 0.29 times, where it hardly rose.

## When it cannot tell
The rollouts have no score with gold, or too few responses to tell first from last.

## False alarms
A judge that cannot tell good from better responses. A reward model that overpays a word a little: 2 of 204 runs without
a fault of a workload that no rule had seen. Gold that was at its best from the start cannot follow.

## What to do
Read the best-scored of the last responses. Compare the reward model's accuracy on pairs of them with that on its own
test pairs; train it on more of the former, and raise `kl_coef` until then.

## References
Gao, Schulman, Hilton 2022 (arXiv 2210.10760), figure 1: gold against proxy over the distance from the reference.
"""

from regard.review.answers import answers_of
from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.runlog.reader import RunLog, StageLog

LEAST, OF_SCORE = 0.5, 0.25


@detector("RWD018", "gold-stays-behind", "warning", POLICY_STAGES)
def gold_stays_behind(run: RunLog, stage: StageLog) -> Outcome:
    answers = answers_of(stage)
    if answers is None:
        return CannotTell("There are too few rollouts with texts to tell first from last.", ("rollouts: response",))
    score, gold = answers.gain("score"), answers.gain("gold")
    if score is None or gold is None:
        return CannotTell("The rollouts have no score with an independent judgement.", ("rollouts: gold",))
    text = f"From the first to the last rollouts the score gains {score}, gold {gold} of its deviations."
    limit = OF_SCORE * score.size
    if score.size < LEAST or gold.size + 2 * gold.error >= limit:
        return Clear(text)
    last = int(answers.sample.steps[-1])
    return Fired(
        summary=text,
        evidence=(Evidence("rollouts: gold", gold.size, limit, last),),
        onset=answers.onset(answers.sample.numbers["score"]) or Onset(0, (0, last)),
        until=last,
        confidence=0.9,
    )
