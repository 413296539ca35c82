"""Several runs side by side: what was set differently, where they parted, and what each bought with its KL."""

from regard.compare.laws import LawFit, fit_law
from regard.compare.runs import compare_runs

__all__ = ["LawFit", "compare_runs", "fit_law"]
