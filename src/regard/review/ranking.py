"""Do two judges of the same responses agree which is better? Counted on pairs of responses to the same prompt.

Unlike a correlation over everything, this does not credit a judge for knowing which prompts are hard, and it has the
same scale as a reward model's accuracy on held-out pairs.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from regard.runlog.sample import Floats, Ints, RolloutSample

LEAST_ROWS = 32


class Concordance(NamedTuple):
    """How often two judges order a pair of responses alike.

    Attributes:
        share: concordant pairs over pairs that both judges decide; 0.5 where they have nothing to do with each other.
        error: standard error of the share, taking one independent comparison for each response beyond the first of its
            group: 0.5 / sqrt(responses - groups).
        within_prompts: whether the pairs are of responses to one prompt; else of one step, since no prompt repeats.
    """

    share: float
    error: float
    within_prompts: bool

    def __str__(self) -> str:
        return f"{self.share:.2f} ± {self.error:.2f}"


def start_rows(sample: RolloutSample) -> NDArray[np.bool_]:
    """[N] rows of the first step, more steps until there are 128 rows; the policy has hardly moved."""
    return sample.early(share=0.0, least=128)


def group_keys(sample: RolloutSample, rows: NDArray[np.bool_]) -> Ints:
    """[rows] the same number for responses to one prompt of one step."""
    return sample.steps[rows] * (int(sample.prompt_codes.max(initial=0)) + 1) + sample.prompt_codes[rows]


def concordance(sample: RolloutSample, first: Floats, second: Floats, rows: NDArray[np.bool_]) -> Concordance | None:
    """Agreement of two columns of numbers, [N] each, on these rows; None where fewer than 32 can be compared."""
    rows = rows & np.isfinite(first) & np.isfinite(second)
    if rows.sum() < LEAST_ROWS:
        return None
    keys, within = group_keys(sample, rows), True
    if len(np.unique(keys)) > 0.75 * len(keys):
        keys, within = sample.steps[rows], False
    a, b = first[rows], second[rows]
    agreeing = decided = spare = 0.0
    for key in np.unique(keys):
        members = np.flatnonzero(keys == key)
        product = np.sign(a[members, None] - a[None, members]) * np.sign(b[members, None] - b[None, members])
        agreeing += float((product > 0).sum()) / 2
        decided += float((product != 0).sum()) / 2
        spare += len(members) - 1
    if not decided or spare < LEAST_ROWS / 2:
        return None
    return Concordance(agreeing / decided, 0.5 / spare**0.5, within)


def between_groups(sample: RolloutSample, values: Floats, rows: NDArray[np.bool_]) -> float | None:
    """Share of the variance of a column that lies between prompts: the intraclass correlation of one-way ANOVA.

        ICC = (MSB - MSW) / (MSB + (n - 1) MSW),    n = responses a prompt

    None where prompts do not repeat or nothing varies.
    """
    rows = rows & np.isfinite(values)
    keys = group_keys(sample, rows)
    _, place, count = np.unique(keys, return_inverse=True, return_counts=True)
    if len(count) < 8 or len(keys) < 1.5 * len(count):
        return None
    x = values[rows]
    means = np.bincount(place, weights=x) / count
    within = float(((x - means[place]) ** 2).sum()) / (len(x) - len(count))
    between = float((count * (means - x.mean()) ** 2).sum()) / (len(count) - 1)
    size = len(x) / len(count)
    total = between + (size - 1) * within
    return (between - within) / total if total > 0 else None
