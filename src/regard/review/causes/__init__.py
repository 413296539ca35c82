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
from regard.runlog.importers.vocabularies import VOCABULARIES

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
HACKS = ("H1", "H2", "H3", "H4", "H5", "H6", "H7")
"""What a policy finds where the score is not quality, or where nothing holds it: no second root beside such a fault."""
HACKED = dict.fromkeys(
    ("TXT002", "TXT003", "RWD002", "paid-marker", "phrase-pays-by-itself", "score-pays-length", "score-pays-repetition",
     "length-surge", "repetition-surge"),
    0.15,
)  # fmt: skip
"""How surely such a fault brings what shows these, before the lab has counted it; entries that know better say so."""
MUST = 1.0
"""The cause is not there without it, by what the cause is: no reference moves while its hash stays."""


@dataclass(frozen=True)
class Change:
    """One change of configuration.

    Attributes:
        key: of our configuration, or "data"/"code" with a dot and a word for what no key says.
        to: the value, or what to do in words, or a function of the present value.
        sized_by: the value that the record asks for, goes before `to`; None where the record does not say.
        foreign: framework to its own words for what none of our keys says. What a key of ours is called elsewhere is
            `config_keys` of the trainer's vocabulary.
    """

    key: str
    to: str | float | bool | Callable[[float], float]
    foreign: Mapping[str, str] | None = None
    sized_by: Callable[[Facts], float | None] | None = None

    def elsewhere(self) -> dict[str, str]:
        """Trainer or framework to what it calls this."""
        named = {name: one.config_keys[self.key] for name, one in VOCABULARIES.items() if self.key in one.config_keys}
        return named | dict(self.foreign or {})

    def resolve(self, facts: Facts) -> dict[str, Any]:
        """The change as the review result has it.

        `from` is None where the configuration does not say; `foreign` is the key of the trainer that wrote the log,
        None for our own runs and where it has none.
        """
        source, elsewhere = str(facts.run.run.get("source") or ""), self.elsewhere()
        foreign = elsewhere.get(source, elsewhere.get(source.partition("-")[0]))
        names = (foreign, self.key) if foreign else (self.key,)
        present, number = facts.setting(*names), facts.number(*names)
        sized = self.sized_by(facts) if self.sized_by else None
        to = self.to if sized is None else sized
        if callable(to):
            to = to(number) if number is not None else "a value on the other side of the present one"
        return {"key": self.key, "from": present, "to": to, "foreign": foreign}


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
        passes_for: ids of causes that this one does not bring about, and whose evidence it leaves all the same; no
            second roots beside it either.
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
    passes_for: tuple[str, ...] = ()
    references: str = ""

    def explains(self, other: str) -> bool:
        """Whether this cause accounts for the evidence of another, by id."""
        return other in self.leads_to or other in self.passes_for


@cache
def all_causes() -> dict[str, Cause]:
    """Every cause by id, in the order of their families."""
    found: dict[str, Cause] = {}
    for module in pkgutil.iter_modules(__path__, __name__ + "."):
        for cause in getattr(importlib.import_module(module.name), "CAUSES", ()):
            assert cause.id not in found, f"{cause.id} is entered twice"
            found[cause.id] = cause
    return found
