"""What is in the fetched movie ratings: blocks, comparisons, and how often two people agree.

Run: python examples/data/measure_ratings.py
"""

from itertools import pairwise

from regard.data.assets import fetch
from regard.data.ratings import all_raters, comparisons, human_agreement, load_movie_ratings, split_blocks

EDGES = (0.0, 0.5, 1.0, 2.0, 3.0, 8.0)

blocks = load_movie_ratings(fetch("movie-ratings"))
pairs = [pair for block in blocks for pair in comparisons(block, all_raters(block))]
print(f"{len(blocks)} blocks, {sum(len(block.texts) for block in blocks)} texts, {len(pairs)} comparisons, ", end="")
print(f"{sum(pair.num_raters for pair in pairs)} judgements, {sum(pair.p_chosen == 0.5 for pair in pairs)} even splits")
split = split_blocks(blocks, seed=0)
print("blocks per split:", {name: len(part) for name, part in split.items()})

views = {
    "all blocks, all raters bin and judge": human_agreement(
        blocks, EDGES, bin_raters=all_raters, judge_raters=all_raters
    ),
    "all blocks, label raters bin, kept raters judge": human_agreement(blocks, EDGES),
    "test blocks, label raters bin, kept raters judge": human_agreement(split["test"], EDGES),
}
for view, found in views.items():
    print(f"\n{view}: two people agree on {found.overall:.1%} of the pairs that both decide")
    rows = zip(pairwise(EDGES), found.pairs_by_bin, found.by_bin, found.ties_by_bin, strict=True)
    for (low, high), number, agreement, ties in rows:
        print(
            f"  ratings {low} to {high} apart: {number:6d} pairs, {agreement:6.1%} agree, {ties:6.1%} of judgements tie"
        )
