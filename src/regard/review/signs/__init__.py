"""Signs: the tests that tell one cause from its look-alikes. Small questions to the record, each answered yes, no or
unknown. A sign is no finding: it may be harmless by itself.

To add one, write a function in the file of its family:

    @sign("kl-not-zero-at-start")
    def kl_not_zero_at_start(facts: Facts) -> Answer:
        '''KL to the reference is not 0 before the first update.'''

The name is permanent: causes and measured likelihoods refer to it. The docstring is its documentation.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from regard.review.facts import Facts
from regard.review.outcome import Onset


@dataclass(frozen=True)
class Answer:
    """What the record says to one question.

    Attributes:
        holds: yes or no; None where the record does not decide it.
        summary: one sentence with the number that decided, or the reason why nothing could.
        missing: for an unknown: what would decide it; metric keys, `rollouts: column`, `config: key`, `lineage: …`.
        onset: since when, for a yes that has a beginning.
        rows: ids of rollouts that show it.
        root: for a yes: since when what causes it is there, where the record shows that apart from the symptom.
    """

    holds: bool | None
    summary: str
    missing: tuple[str, ...] = ()
    onset: Onset | None = None
    rows: tuple[str, ...] = ()
    root: Onset | None = None


def yes(summary: str, onset: Onset | None = None, rows: tuple[str, ...] = (), root: Onset | None = None) -> Answer:
    return Answer(True, summary, onset=onset, rows=rows, root=root)


def no(summary: str) -> Answer:
    return Answer(False, summary)


def unknown(reason: str, *missing: str) -> Answer:
    return Answer(None, reason, missing)


Ask = Callable[[Facts], Answer]


@dataclass(frozen=True)
class Sign:
    """One question, by its permanent name."""

    name: str
    doc: str
    ask: Ask


_found: list[Sign] = []


def sign(name: str) -> Callable[[Ask], Ask]:
    """Enter a function into the catalogue of signs."""

    def enter(ask: Ask) -> Ask:
        _found.append(Sign(name, (ask.__doc__ or "").strip(), ask))
        return ask

    return enter


@cache
def all_signs() -> dict[str, Sign]:
    """All signs by name, sorted."""
    for module in pkgutil.iter_modules(__path__, __name__ + "."):
        importlib.import_module(module.name)
    by_name = {one.name: one for one in _found}
    assert len(by_name) == len(_found), "a sign's name is used twice"
    return dict(sorted(by_name.items()))
