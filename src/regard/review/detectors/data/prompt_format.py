"""DAT003 prompt-format: stage 4 begins or ends its prompts otherwise than SFT did.

## What it detects
Token ids of prompts as SFT saw them and as stage 4 sends them: the first and the last token.

## Why it matters
A model answers the tokens it gets. A missing separator or a second begin-of-text puts it off its distribution, and
nothing in the text shows it.

## How it decides
A first or last token that nine in ten prompts have in one stage and fewer than half have in the other: error. Needs
eight prompts of each.

## When it cannot tell
The token ids are not recorded in both stages.

## False alarms
Prompts that are cut off from running text have no format, and share no token.

## What to do
Print the token ids of one prompt in every stage; use one function that renders prompts.

## References
Huang et al. 2024 (arXiv 2403.17031).
"""

from regard.review.facts import Facts
from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.review.signs.data import format_difference
from regard.runlog.reader import RunLog, StageLog

NEEDS = ("rollouts: prompt_tokens",)


@detector("DAT003", "prompt-format", "error", POLICY_STAGES)
def prompt_format(run: RunLog, stage: StageLog) -> Outcome:
    found = format_difference(Facts(run))
    if found is None:
        return CannotTell("The token ids of prompts are not recorded in both stages.", NEEDS)
    if not found.text:
        return Clear("Prompts begin and end as they did in SFT.")
    first, last = min(stage.rollout_steps), max(stage.rollout_steps)
    return Fired(
        summary=found.text,
        evidence=(Evidence("rollouts: prompt_tokens", found.share, found.limit, first),),
        onset=Onset(0, (0, first)),
        until=last,
        confidence=0.95,
    )
