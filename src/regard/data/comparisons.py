"""One comparison of two responses, whoever made it."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Comparison:
    """Raters read `prompt + chosen` and `prompt + rejected`, and said which is better."""

    prompt: str
    chosen: str
    rejected: str
    p_chosen: float
    """Share of the raters that preferred `chosen`, a tie counting half; at least 0.5 as read from data."""
    num_raters: int
    num_ties: int
    """How many of the raters saw no difference."""
    rater_ids: tuple[str, ...]
    """Who judged; empty where the source does not say. Ids that start alike with a block or a row are of that one
    only."""
    margin: float | None
    """Size of the preference in the source's own unit, never negative; None where the source has only the choice."""
    group: str
    """Comparisons that share texts or a prompt share a group. Split and batch by group, never by row."""
    source: str
    """`file:line`, or the name of the corpus."""

    def swap(self) -> "Comparison":
        """The same judgement with the two responses exchanged."""
        return replace(self, chosen=self.rejected, rejected=self.chosen, p_chosen=1 - self.p_chosen)
