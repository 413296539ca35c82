"""What happens after training: the prompts of users, fresh pairs, and old pairs labelled again.

A record has these where production is recorded as a stage named `live`: its rollouts are what users asked and got, its
metrics those under `live/`.
"""

import numpy as np
from numpy.typing import NDArray

from regard.review.facts import Facts
from regard.review.signs import Answer, no, sign, unknown, yes
from regard.review.statistics import first_of
from regard.review.texts import Texts
from regard.runlog.reader import StageLog
from regard.runlog.sample import read_sample

Floats = NDArray[np.float64]

LEAST_PROMPTS = 50
NEW_WORDS, PSI, BINS = 0.1, 0.25, 10
ACCURACY, AGREEMENT = 0.05, 0.1


def live(facts: Facts) -> StageLog | None:
    return facts.run.stages.get("live")


@sign("live-prompts-shifted")
def live_prompts_shifted(facts: Facts) -> Answer:
    """A tenth of the words that users write stand in no prompt of training, or the length of their prompts has a
    population stability index above 0.25 against it."""
    stage, trained = live(facts), facts.rollouts
    sample = read_sample(stage) if stage else None
    if stage is None or sample is None or not sample.has("prompt"):
        return unknown("What users ask is not recorded.", "a stage `live` with rollouts: prompt")
    if trained is None or not trained.has("prompt"):
        return unknown("The prompts of training are not recorded.", "rollouts: prompt")
    before, after = (Texts(sorted(set(one.texts["prompt"]))) for one in (trained, sample))
    if min(len(before), len(after)) < LEAST_PROMPTS:
        return unknown(f"There are fewer than {LEAST_PROMPTS} prompts on one side.", "live rollouts: prompt")
    known = set(before.lower_words)
    counts = np.bincount(after.ids, minlength=len(after.lower_words))
    new = sum(int(count) for word, count in zip(after.lower_words, counts, strict=True) if word not in known)
    share = new / max(1, int(counts.sum()))
    index = stability_index(before.lengths.astype(np.float64), after.lengths.astype(np.float64))
    text = f"{share:.0%} of the words in live prompts are new; the stability index of their length is {index:.2f}."
    return yes(text) if share > NEW_WORDS or index > PSI else no(text)


def stability_index(before: Floats, after: Floats) -> float:
    """Population stability index Σ (a − b) ln (a / b) over the tenths of `before`."""
    edges = np.unique(np.quantile(before, np.linspace(0, 1, BINS + 1)[1:]))  # the last bin: longer than any before
    bins = [np.digitize(values, edges, right=True) for values in (before, after)]
    counts = [np.bincount(one, minlength=len(edges) + 1) + 0.5 for one in bins]
    b, a = (count / count.sum() for count in counts)
    return float(np.sum((a - b) * np.log(a / b)))


@sign("fresh-pairs-misranked")
def fresh_pairs_misranked(facts: Facts) -> Answer:
    """The reward model ranks fresh pairs of the deployed policy worse than its own held-out pairs by 0.05."""
    stage, rm = live(facts), facts.rm
    fresh = first_of(stage, ("live/rm_accuracy/mean",)) if stage else None
    held_out = first_of(rm, ("rm/accuracy_val/mean",)) if rm else None
    if fresh is None or held_out is None:
        return unknown(
            "Fresh pairs, or held-out ones, were not ranked.", "live/rm_accuracy/mean", "rm/accuracy_val/mean"
        )
    text = f"The reward model ranks {fresh.end:.0%} of fresh pairs right, {held_out.end:.0%} of held-out ones."
    return yes(text) if fresh.end < held_out.end - ACCURACY else no(text)


@sign("old-labels-disowned")
def old_labels_disowned(facts: Facts) -> Answer:
    """Old pairs that are labelled again get another label more often than raters used to differ, by 0.1."""
    stage = live(facts)
    again = first_of(stage, ("live/old_label_agreement/mean",)) if stage else None
    if again is None:
        return unknown("No old pairs were labelled again.", "live/old_label_agreement/mean")
    raters = first_of(facts.rm, ("rm/rater_agreement/mean",)) if facts.rm else None
    usual = raters.end if raters else 0.75
    text = f"{again.end:.0%} of old labels hold when given again; raters used to agree on {usual:.0%}."
    return yes(text) if again.end < usual - AGREEMENT else no(text)
