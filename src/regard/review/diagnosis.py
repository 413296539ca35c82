"""From findings to roots: asks every sign, weighs the causes, and words what speaks for and against each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from regard.review.causes import Cause, all_causes
from regard.review.facts import Facts
from regard.review.inference import DIAGNOSED, RIVAL, UPSTREAM, Posterior, infer, probability
from regard.review.outcome import Onset
from regard.review.signs import Answer, all_signs

LISTED = 0.04
"""Causes less likely than this, if there is one at all, are not listed, nor are those for which nothing speaks."""
AT_MOST = 5
TELLING = 0.3
"""A symptom or sign speaks for a cause if the cause makes it likelier than a healthy run does by this much."""
SELDOM, TIMES = 0.1, 10.0
"""A symptom that is there is one of a cause also from this probability on, if that is so many times a healthy run's."""


@dataclass(frozen=True)
class Symptom:
    """A detector's outcome as the inference sees it."""

    code: str
    holds: bool | None
    summary: str
    onset: Onset | None = None
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Diagnosis:
    """One cause that may be at the root.

    Attributes:
        cause: the entry of the catalogue.
        probability: that it is a root, given what was seen.
        status: diagnosed if it is likely, something that sets it apart was seen, and nothing is missing that may show
            another in its place; else suspected.
        explains: codes of findings that it accounts for.
        evidence: what speaks for it, strongest first.
        against: what speaks against it.
        missing: what would decide between it and its look-alikes, where that is not in the record.
        root_onset: when the root begins; configuration and data are there from the first step.
        symptom_onset: when it first shows; None where only signs without a beginning speak for it.
    """

    cause: Cause
    probability: float
    status: Literal["diagnosed", "suspected"]
    explains: tuple[str, ...]
    evidence: tuple[tuple[str, str], ...]
    against: tuple[tuple[str, str], ...]
    missing: tuple[str, ...]
    root_onset: Onset
    symptom_onset: Onset | None
    rows: tuple[str, ...]
    changes: tuple[dict[str, Any], ...]

    def to_json(self) -> dict[str, Any]:
        cause = self.cause
        return {
            "id": cause.id,
            "name": cause.name,
            "title": cause.title,
            "stage": cause.stage,
            "layman": cause.layman,
            "status": self.status,
            "probability": round(self.probability, 3),
            "root_onset": _onset(self.root_onset),
            "symptom_onset": _onset(self.symptom_onset) if self.symptom_onset else None,
            "explains": list(self.explains),
            "evidence": [{"sign": name, "summary": summary} for name, summary in self.evidence],
            "rows": list(self.rows),
            "against": [f"{name}: {summary}" for name, summary in self.against],
            "missing": list(self.missing),
            "would_overturn": cause.would_overturn,
            "fix": {"changes": [_plain(change) for change in self.changes], "why": cause.why},
        }


def _onset(onset: Onset) -> dict[str, Any]:
    return {"step": onset.step, "interval": list(onset.interval)}


def _plain(change: dict[str, Any]) -> dict[str, Any]:
    return {key: value if isinstance(value, str | int | float | bool | None) else str(value)
            for key, value in change.items()}  # fmt: skip


def diagnose(
    facts: Facts, symptoms: Mapping[str, Symptom], *, ill: bool = False
) -> tuple[Posterior, tuple[Diagnosis, ...]]:
    """The causes that may be at the root, likeliest first; none where the run is likelier healthy.

    Args:
        symptoms: every detector that was asked, by code.
        ill: one of them holds with severity warning or error. Such a run gets its suspects even where no single one is
            likelier than none at all; to be diagnosed, one must be.
    """
    answers = ask(facts, symptoms)
    posterior = infer({name: answer.holds for name, answer in answers.items()})
    if posterior.healthy > 0.5 and not ill:
        return posterior, ()
    least = LISTED * (1 - posterior.healthy)
    listed = [one for one, p in posterior.causes.items() if p >= least][:AT_MOST]
    worded = [_word(all_causes()[one], posterior, facts, answers, symptoms) for one in listed]
    return posterior, tuple(one for one in worded if one.evidence)


def ask(facts: Facts, symptoms: Mapping[str, Symptom]) -> dict[str, Answer]:
    """The answer of every detector and every sign, by code or name."""
    answers = {
        code: Answer(one.holds, one.summary, one.missing, one.onset) for code, one in symptoms.items()
    }  # fmt: skip
    return answers | {name: one.ask(facts) for name, one in all_signs().items()}


def unseen(cause: Cause, answers: Mapping[str, Answer]) -> tuple[str, ...]:
    """What the record lacks to set a cause apart; nothing where something that does was seen."""
    deciders = [answers[name] for name in cause.decided_by if name in answers]
    if any(answer.holds for answer in deciders):
        return ()
    return tuple(item for answer in deciders if answer.holds is None for item in answer.missing)


def accounts_for(cause: Cause, symptom: str) -> bool:
    """Whether a symptom that is there is one of this cause: common with it, or seldom and hardly ever without."""
    there, without = probability(cause, symptom), probability(None, symptom)
    return there - without >= TELLING or (there >= SELDOM and there >= TIMES * without)


def rivals(cause: Cause, posterior: Posterior) -> list[Cause]:
    """Causes that may be at the root in place of this one. One that accounts for this one is a rival already where it
    is hardly likely, since it brings the very evidence for it."""
    others = (all_causes()[one] for one in posterior.causes if one != cause.id)
    return [
        one for one in others if posterior.instead(cause.id, one.id) >= (UPSTREAM if one.explains(cause.id) else RIVAL)
    ]


def _word(
    cause: Cause, posterior: Posterior, facts: Facts, answers: Mapping[str, Answer], symptoms: Mapping[str, Symptom]
) -> Diagnosis:
    p = posterior.causes[cause.id]
    weights = {name: probability(cause, name) - probability(None, name) for name in answers}
    seen = {name: answer for name, answer in answers.items() if answer.holds and weights[name] >= TELLING}
    order = sorted(seen, key=lambda name: -weights[name])
    own = [name for name, one in answers.items() if one.holds and name in symptoms and accounts_for(cause, name)]
    absent = [name for name, answer in answers.items() if answer.holds is False and weights[name] >= TELLING]
    decided = any(answers[name].holds for name in cause.decided_by if name in answers)
    blind = [answers[name] for name in cause.decided_by if name in answers and answers[name].holds is None]
    lacking = [item for other in rivals(cause, posterior) for item in unseen(other, answers)]
    begins = [answer.onset for answer in seen.values() if answer.onset]
    symptom_onset = min(begins, key=lambda onset: onset.step) if begins else None
    roots = [root for name in order if (root := seen[name].root)]
    begun = roots[0] if roots else symptom_onset
    root = Onset(0, (0, 0)) if cause.since == "start" or begun is None else begun
    return Diagnosis(
        cause=cause,
        probability=p,
        status="diagnosed" if p >= DIAGNOSED and decided and not lacking else "suspected",
        explains=tuple(sorted(own, key=lambda name: -weights[name])),
        evidence=tuple((name, seen[name].summary) for name in order),
        against=tuple((name, answers[name].summary) for name in absent),
        missing=tuple(dict.fromkeys([*lacking, *(item for answer in blind for item in answer.missing)])),
        root_onset=root,
        symptom_onset=symptom_onset,
        rows=tuple(dict.fromkeys(row for name in order for row in seen[name].rows))[:8],
        changes=tuple(change.resolve(facts) for change in cause.changes),
    )
