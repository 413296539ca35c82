"""Causes: what can be wrong at the root, one entry each in the file of its family.

A cause says which symptoms (codes of detectors) and signs (names) it brings, how surely, what tells it from its
look-alikes, what to change and what would overturn it. To add one, add an entry to the `CAUSES` of a family; the
documentation, `regard explain` and the inference find it there.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from regard.review.facts import Facts

Stage = Literal[
    "data",
    "SFT",
    "reward model",
    "critic",
    "policy optimisation",
    "KL",
    "rollout engine",
    "infrastructure",
    "measurement",
    "deployment",
]
Since = Literal["start", "symptom"]
"""start: the root lies in configuration or data, so it is there from step 0 however late it shows. symptom: it begins
where its first symptom begins."""

# How surely a cause brings a symptom or sign, before the lab has counted it.
ALWAYS, USUALLY, OFTEN, SOMETIMES = 0.95, 0.8, 0.5, 0.25


@dataclass(frozen=True)
class Change:
    """One change of configuration.

    Attributes:
        key: of our configuration, or "data"/"code" with a dot and a word for what no key says.
        to: the value, or what to do in words, or a function of the present value.
        foreign: framework to its own key, for runs made elsewhere.
    """

    key: str
    to: str | float | bool | Callable[[float], float]
    foreign: Mapping[str, str] | None = None

    def resolve(self, facts: Facts) -> dict[str, Any]:
        """The change as the review result has it; `from` is None where the configuration does not say."""
        present = facts.setting(self.key)
        to = self.to
        if callable(to):
            number = facts.number(self.key)
            to = to(number) if number is not None else "a value on the other side of the present one"
        return {"key": self.key, "from": present, "to": to}


@dataclass(frozen=True)
class Cause:
    """One root.

    Attributes:
        id: permanent, such as K1.
        name: permanent, such as kl-coefficient-too-low.
        title: in a few words.
        stage: where the fault sits.
        since: whether the root is there from the start.
        layman: one sentence for someone who has never trained a model.
        what: what it is and how it comes about, two or three sentences.
        predicts: detector code or sign name to the probability that it is seen when this is the only root.
        decided_by: signs or codes that set it apart from its look-alikes. Where none of them holds, the cause is only
            suspected, and where they are unknown the review says what to log.
        look_alikes: id of another cause to the test that tells the two apart, in words.
        changes: what to change, the first change first.
        why: why that helps.
        would_overturn: the observation that would prove this diagnosis wrong.
        leads_to: ids of causes that follow from this one and are then no roots of their own.
        references: papers and threads.
    """

    id: str
    name: str
    title: str
    stage: Stage
    since: Since
    layman: str
    what: str
    predicts: Mapping[str, float]
    decided_by: tuple[str, ...]
    look_alikes: Mapping[str, str]
    changes: tuple[Change, ...]
    why: str
    would_overturn: str
    leads_to: tuple[str, ...] = ()
    references: str = ""


@cache
def all_causes() -> dict[str, Cause]:
    """Every cause by id, in the order of their families."""
    found: dict[str, Cause] = {}
    for module in pkgutil.iter_modules(__path__, __name__ + "."):
        for cause in getattr(importlib.import_module(module.name), "CAUSES", ()):
            assert cause.id not in found, f"{cause.id} is entered twice"
            found[cause.id] = cause
    return found
