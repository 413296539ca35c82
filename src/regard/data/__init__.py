"""Human ratings, comparisons and review texts, from pinned downloads or from the user's files. Nothing here imports
torch, save the one conversion of a downloaded model in `assets`."""
