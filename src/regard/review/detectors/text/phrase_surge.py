"""TXT002 phrase-surge: a phrase spreads to most responses because the score pays for it.

## What it detects
Phrases of up to three words that the better-scored last responses hold and the first hardly did; and what each is worth
to the score and to gold within prompts.

## Why it matters
A stock phrase, a bullet or a cheerful word is cheaper than quality. Once it is paid for, every response has it, and the
score says nothing any more.

## How it decides
Log-odds with an informative prior of texts that hold the phrase, last against first, with z beyond Bonferroni's limit;
held by 15 % of the last responses, to at least 35 % of their prompts, and four times as often as at first; then the
difference in score between responses to one prompt with and without it, at equal length and repetition, in deviations
within prompts, against the same difference in gold. Fires if the score pays 0.75 more than gold with t of 4; if gold
does not pay for a fifth of it or more; and if that gap times the rise of the phrase's share, which is what it bought,
is half a deviation of the mean score or more: error if half of the responses hold it, warning below. If none does, up
to three phrases of which hardly any response has two are asked about as one: where each is paid for, none earns more
than the others. Without gold, a phrase in half of the responses that is paid with one deviation is an info.

## When it cannot tell
Fewer than 40 early and 40 late rollouts with texts, no scores, or no two responses to a prompt that differ in it.

## False alarms
A format that people asked for, or a good word, spreads in the same way; gold pays for it too, if not as much.
A right word in the wrong place, under a weak reward model that is hardly exploited yet: 16 of 189 such runs of the lab.

## What to do
Score some first responses again with the phrase inserted. Add pairs that differ in it and are ties, or remove it before
scoring.

## References
Monroe, Colaresi, Quinn 2008, Fightin' Words (Political Analysis 16), equations 16 to 22; Ziegler et al. 2019
(arXiv 1909.08593).
"""

from regard.review.answers import PHRASE_BOUGHT, answers_of
from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.runlog.reader import RunLog, StageLog

MOST, DEAR = 0.5, 1.0


@detector("TXT002", "phrase-surge", "error", POLICY_STAGES)
def phrase_surge(run: RunLog, stage: StageLog) -> Outcome:
    answers = answers_of(stage)
    if answers is None:
        return CannotTell("There are too few rollouts with texts to tell first from last.", ("rollouts: response",))
    if not answers.phrases:
        return Clear("No phrase spread from few responses to many prompts.")
    if not answers.sample.has("score"):
        return CannotTell("A phrase spread, and the rollouts have no scores.", ("rollouts: score",))
    paid = answers.paid_phrase
    if paid is None:
        return CannotTell(
            f"“{answers.phrases[0].text}” spread; no two responses to a prompt differ in it, so its price is unknown.",
            ("rollouts: several responses to each prompt",),
        )
    spread = (
        f"“{paid.name}” stands in {paid.surge.after:.0%} of the last responses, {paid.surge.before:.0%} of the first"
    )
    price = f"worth {paid.score.slope:+.2f} deviations of the score within prompts"
    if paid.holds is False:
        few = paid.gap is not None and paid.gap >= paid.least and paid.bought < PHRASE_BOUGHT
        why = (
            f"in too few responses to matter, {paid.bought:.2f} of the mean score"
            if few
            else "too little to matter"
            if paid.gap is None
            else "not far beyond what it is worth to gold"
        )
        return Clear(f"{spread}, and is {price}: {why}.")
    if paid.holds is None and (paid.surge.after < MOST or paid.score.slope < DEAR):
        return CannotTell(f"{spread}, {price}; nobody independent says whether rightly.", ("rollouts: gold",))
    feature = answers.with_one_of(paid.phrases)
    last = int(answers.sample.steps[-1])
    rows = answers.witnesses(feature)
    gold = "; there is no gold to compare with" if paid.gap is None else f", {paid.gap:+.2f} more than to gold"
    return Fired(
        summary=f"{spread}; it is {price}{gold}.",
        evidence=(
            Evidence("rollouts/phrase_share", paid.surge.after, paid.surge.before, last, rows),
            Evidence(
                "rollouts/phrase_price", paid.score.slope if paid.gap is None else paid.gap, paid.least, last, rows
            ),
        ),
        onset=answers.onset(feature) or Onset(last, (int(answers.sample.steps[0]), last)),
        until=last,
        confidence=0.9 if paid.gap is not None else 0.6,
        severity="info" if paid.holds is None else "error" if paid.surge.after >= MOST else "warning",
    )
