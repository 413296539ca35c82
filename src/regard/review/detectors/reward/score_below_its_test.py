"""RWD013 score-below-its-test: in stage 4 the score ranks far worse than it did in its own evaluation.

## What it detects
Concordance of score and gold on the first rollouts, beside accuracy by trusted labels on the test pairs.

## Why it matters
Both are shares of pairs ranked right by the same measure. A gap says that something happens between the reward model
and stage 4: another format, another token, a scale per prompt, a sign; or that the policy writes what it has not seen.

## How it decides
The gap is above 12 points and above three standard errors of the difference: info, since a noisy judge
makes such a gap too; with other evidence it speaks for a cause.

## When it cannot tell
There are no trusted labels, no independent judgement of rollouts, or no prompt with several responses.

## False alarms
Test pairs that are much easier than the policy's own responses.

## What to do
Score the test pairs through the code of stage 4. Compare the token ids that the reward model gets in both.

## References
Huang et al. 2024 (arXiv 2403.17031).
"""

from regard.review.facts import Facts
from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.ranking import concordance, start_rows
from regard.review.registry import POLICY_STAGES, detector
from regard.review.statistics import first_of
from regard.runlog.reader import RunLog, StageLog

TRUSTED, PAIRS, GOLD = "rm/accuracy_trusted/mean", "rm/pairs_test/count", "rollouts: gold"
GAP, ERRORS = 0.12, 3.0


@detector("RWD013", "score-below-its-test", "info", POLICY_STAGES)
def score_below_its_test(run: RunLog, stage: StageLog) -> Outcome:
    facts = Facts(run)
    sample, rm = facts.rollouts, facts.rm
    trusted, pairs = (first_of(rm, (key,)) if rm else None for key in (TRUSTED, PAIRS))
    if trusted is None or pairs is None or pairs.values[-1] <= 0:
        return CannotTell("There is no accuracy by trusted labels with its number of pairs.", (TRUSTED, PAIRS))
    rows = start_rows(sample) if sample is not None and sample.has("score", "gold") else None
    found = (
        concordance(sample, sample.numbers["score"], sample.numbers["gold"], rows)
        if sample and rows is not None
        else None
    )
    if sample is None or rows is None or found is None or not found.within_prompts:
        return CannotTell("No prompt has several responses that a judge scored too.", (GOLD,))
    tested, step = float(trusted.values[-1]), int(sample.steps[rows].max())
    noise = (found.error**2 + 0.25 / float(pairs.values[-1])) ** 0.5
    limit = tested - max(GAP, ERRORS * noise)
    text = f"Score and judge order {found} of the first pairs alike; on the test pairs it was {tested:.2f}."
    if found.share >= limit:
        return Clear(text)
    return Fired(
        summary=text,
        evidence=(Evidence("rollouts: score, gold", found.share, limit, step),),
        onset=Onset(0, (0, step)),
        until=step,
        confidence=0.8,
    )
