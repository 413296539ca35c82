"""How good a review was, from runs whose truth is known. What each number means is said in `regard.lab.bench`."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from regard.review.causes import all_causes

Z95 = 1.959963984540054
"""Normal quantile of a 95 % interval."""
BINS = 10
TOP = 3
HARM = 0.05
"""A fault that costs less gold than this did no harm; qualities are at most 1."""
FALL = 0.1
"""A control that ends further below its own best has lost gold; twice HARM, since the best of many means is lucky."""


class Share(NamedTuple):
    """How many of how many; `of` may be 0."""

    hits: int
    of: int

    @property
    def value(self) -> float:
        return self.hits / self.of if self.of else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.hits, self.of)

    def to_json(self) -> dict[str, Any]:
        if not self.of:
            return {"hits": 0, "of": 0, "value": None, "ci95": None}
        low, high = self.interval
        return {
            "hits": self.hits,
            "of": self.of,
            "value": round(self.value, 4),
            "ci95": [round(low, 4), round(high, 4)],
        }

    def __str__(self) -> str:
        if not self.of:
            return "–"
        low, high = self.interval
        return f"{self.hits}/{self.of} = {100 * self.value:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def wilson(hits: int, of: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share.

        (p + z²/2n ± z·√(p(1−p)/n + z²/4n²)) / (1 + z²/n),    p = hits / n

    (0, 1) where nothing was counted. Source: Wilson (1927), JASA 22, 209–212. Runs with the same fault are not
    independent of each other, so it is narrower than the truth where a few faults make many runs.
    """
    if not of:
        return 0.0, 1.0
    p, zz = hits / of, Z95**2 / of
    middle = (p + zz / 2) / (1 + zz)
    half = Z95 * math.sqrt(p * (1 - p) / of + zz / (4 * of)) / (1 + zz)
    return max(0.0, middle - half), min(1.0, middle + half)


def share(cases: Iterable[Any], holds: Callable[[Any], bool]) -> Share:
    answers = [holds(one) for one in cases]
    return Share(sum(answers), len(answers))


@dataclass(frozen=True)
class Named:
    """A cause that a review lists."""

    id: str
    probability: float
    diagnosed: bool
    root: tuple[int, int]
    """Steps between which the review says the root begins."""

    @classmethod
    def of(cls, cause: Mapping[str, Any]) -> "Named":
        """From an entry of `causes` of a review result."""
        low, high = cause["root_onset"]["interval"]
        return cls(cause["id"], cause["probability"], cause["status"] == "diagnosed", (low, high))


@dataclass(frozen=True)
class Case:
    """One run: what is true, and what the review said.

    Attributes:
        name: of the job.
        seed: of the run.
        roots: ids of the planted faults; empty for a control.
        severity, start: of the faults; "" for a control.
        kind: of the control; "" for a fault.
        root_step: step as logged at which the faults begin to act; 0 is before the first.
        verdict: healthy, suspect, failed or inconclusive.
        named: causes that the review lists, likeliest first.
        marginals: every cause to its probability.
        seen: every symptom and sign to whether it holds; None where it is unknown.
        findings: code, severity and onset interval of every finding.
        withheld: the review without the datum that decided; None where it was not tried. See `regard.lab.withhold`.
        workload: of the run.
        control: name of the control; "" for a fault.
        gold: mean quality over the last fifth of stage 4; None where it is not logged.
        gold_best: the largest mean quality over a fifth of stage 4.
    """

    name: str
    seed: int
    roots: tuple[str, ...]
    severity: str
    start: str
    kind: str
    root_step: int
    verdict: str
    named: tuple[Named, ...]
    marginals: Mapping[str, float]
    seen: Mapping[str, bool | None]
    findings: tuple[tuple[str, str, tuple[int, int]], ...] = ()
    withheld: Mapping[str, Any] | None = None
    workload: str = ""
    control: str = ""
    gold: float | None = None
    gold_best: float | None = None

    @property
    def positive(self) -> bool:
        return self.verdict in ("suspect", "failed")

    @property
    def diagnosed(self) -> tuple[str, ...]:
        return tuple(one.id for one in self.named if one.diagnosed)

    @property
    def first(self) -> str | None:
        return self.named[0].id if self.named else None

    def root_among(self, top: int) -> bool:
        """Whether a planted fault is among the first `top` causes."""
        return any(one.id in self.roots for one in self.named[:top])

    @property
    def stage_right(self) -> bool:
        """Whether the cause that is named first sits in the same stage as a planted one."""
        stages = {all_causes()[root].stage for root in self.roots if root in all_causes()}
        return self.first is not None and all_causes()[self.first].stage in stages

    @property
    def onset_inside(self) -> bool | None:
        """Whether the interval of the true cause's root holds the step at which it began; None where it is not named.

        A fault that is there from the start is first logged at step 1, so 0 and 1 are both right for it.
        """
        mine = next((one for one in self.named[:TOP] if one.id in self.roots), None)
        if mine is None:
            return None
        first = max(1, self.root_step)
        return mine.root[0] <= first and mine.root[1] >= self.root_step


def of_kind(cases: Sequence[Case]) -> tuple[list[Case], list[Case], list[Case]]:
    """Controls, runs with one fault, runs with several."""
    controls = [one for one in cases if not one.roots]
    single = [one for one in cases if len(one.roots) == 1]
    return controls, single, [one for one in cases if len(one.roots) > 1]


def row(cases: Sequence[Case]) -> dict[str, Share]:
    """The columns of every table of faults."""
    inside = [one.onset_inside for one in cases]
    return {
        "recall": share(cases, lambda one: one.positive),
        "top1": share(cases, lambda one: one.root_among(1)),
        "top3": share(cases, lambda one: one.root_among(TOP)),
        "stage": share(cases, lambda one: one.stage_right),
        "onset": Share(sum(one is True for one in inside), sum(one is not None for one in inside)),
        "diagnosed_right": share(cases, lambda one: any(cause in one.roots for cause in one.diagnosed)),
        "diagnosed_wrong": share(cases, lambda one: any(cause not in one.roots for cause in one.diagnosed)),
    }


def split(cases: Sequence[Case], by: Callable[[Case], str]) -> dict[str, dict[str, Share]]:
    return {group: row([one for one in cases if by(one) == group]) for group in sorted({by(one) for one in cases})}


def harms(cases: Sequence[Case]) -> Callable[[Case], str]:
    """What a fault cost: the gold of the healthy run of the same workload and seed, less that of the run."""
    healthy = {(one.workload, one.seed): one.gold for one in cases if one.control == "healthy"}

    def harm(case: Case) -> str:
        twin = healthy.get((case.workload, case.seed))
        if twin is None or case.gold is None:
            return "not known"
        return "gold fell" if twin - case.gold > HARM else "gold as without it"

    return harm


def false_positives(controls: Sequence[Case]) -> dict[str, dict[str, Share]]:
    """Of all controls, of each kind, and of those that kept their gold and that lost some of it."""
    groups = {"all": list(controls)}
    for one in controls:
        groups.setdefault(one.kind, []).append(one)
    for one in controls:
        if one.gold is not None and one.gold_best is not None:
            groups.setdefault("gold lost" if one.gold_best - one.gold > FALL else "gold kept", []).append(one)
    return {
        kind: {
            "positive": share(group, lambda one: one.positive),
            "diagnosed": share(group, lambda one: bool(one.diagnosed)),
            "inconclusive": share(group, lambda one: one.verdict == "inconclusive"),
        }
        for kind, group in groups.items()
    }


def confusion(cases: Sequence[Case]) -> dict[str, dict[str, int]]:
    """Planted fault to the cause named first, or "none"; counts."""
    table: dict[str, dict[str, int]] = {}
    for one in cases:
        line = table.setdefault(one.roots[0], {})
        line[one.first or "none"] = line.get(one.first or "none", 0) + 1
    return {true: dict(sorted(line.items(), key=lambda item: -item[1])) for true, line in sorted(table.items())}


def brier(cases: Sequence[Case]) -> float:
    """Mean over runs of Σ_c (p_c − [c was planted])²; 0 is perfect, 1 what naming nothing costs on a single fault."""
    total = 0.0
    for one in cases:
        causes = one.marginals.keys() | set(one.roots)
        total += sum((one.marginals.get(cause, 0.0) - (cause in one.roots)) ** 2 for cause in causes)
    return total / len(cases) if cases else math.nan


def reliability(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Of all causes listed with a probability within a bin: its mean, and the share that was planted."""
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for one in cases:
        for cause in one.named:
            bins[min(BINS - 1, int(cause.probability * BINS))].append((cause.probability, cause.id in one.roots))
    return [
        {"stated": sum(p for p, _ in inside) / len(inside), "true": Share(sum(hit for _, hit in inside), len(inside))}
        for inside in bins
        if inside
    ]


def calibration_error(bins: Sequence[Mapping[str, Any]]) -> float:
    """Σ_bins (share of the listed causes) · |stated − true|."""
    total = sum(one["true"].of for one in bins)
    return sum(one["true"].of * abs(one["stated"] - one["true"].value) for one in bins) / total if total else math.nan


def abstention(cases: Sequence[Case]) -> dict[str, Any]:
    """What the reviews say without the datum that decided for the planted fault."""
    tried = [one for one in cases if one.withheld and one.withheld["status"] == "withheld"]

    def diagnosed(one: Case) -> list[str]:
        return one.withheld["diagnosed"] if one.withheld else []

    return {
        "no_wrong_cause": share(tried, lambda one: not set(diagnosed(one)) - set(one.roots)),
        "no_cause": share(tried, lambda one: not diagnosed(one)),
        "still_right": share(tried, lambda one: bool(set(diagnosed(one)) & set(one.roots))),
        "no_decider_held": sum(one.withheld is not None and one.withheld["status"] == "no decider" for one in cases),
        "not_withholdable": sum(one.withheld is not None and one.withheld["status"] == "cannot" for one in cases),
        "wrong": {one.name: diagnosed(one) for one in tried if set(diagnosed(one)) - set(one.roots)},
    }


def onsets(cases: Sequence[Case]) -> dict[str, Any]:
    """How the stated onsets stand to the true step; only faults that begin in the middle say much."""
    found: dict[str, Any] = {}
    for start in sorted({one.start for one in cases}):
        group = [one for one in cases if one.start == start]
        inside = [one.onset_inside for one in group]
        flagged = [one for one in group if one.findings]
        found[start] = {
            "root_inside": Share(sum(one is True for one in inside), sum(one is not None for one in inside)),
            "symptom_not_before_root": share(
                flagged, lambda one: min(interval[1] for _, _, interval in one.findings) >= one.root_step
            ),
        }
    return found


def score(cases: Sequence[Case]) -> dict[str, Any]:
    """Everything that is printed, as Shares, numbers and dictionaries of them."""
    controls, single, several = of_kind(cases)
    bins = reliability(cases)
    looks = {cause.id: sorted(cause.look_alikes) for cause in all_causes().values()}
    matrix = confusion(single)
    return {
        "controls": false_positives(controls),
        "faults": row(single),
        "faults_flagged": row([one for one in single if one.positive]),
        "onset": onsets(single),
        "by_severity": split(single, lambda one: one.severity),
        "by_start": split(single, lambda one: one.start),
        "by_harm": split(single, harms(cases)),
        "by_cause": split(single, lambda one: one.roots[0]),
        "pairs": {
            "recall": share(several, lambda one: one.positive),
            "first_is_one": share(several, lambda one: one.root_among(1)),
            "one_in_three": share(several, lambda one: one.root_among(TOP)),
            "all_in_three": share(several, lambda one: set(one.roots) <= {c.id for c in one.named[:TOP]}),
        },
        "confusion": matrix,
        "look_alikes": {
            true: {other: line[other] for other in looks.get(true, []) if other in line}
            for true, line in matrix.items()
            if any(other in line for other in looks.get(true, []))
        },
        "brier": brier(cases),
        "brier_of_silence": brier([_silent(one) for one in cases]),
        "reliability": bins,
        "calibration_error": calibration_error(bins),
        "abstention": abstention(single),
    }


def _silent(case: Case) -> Case:
    """The case with a review that names nothing: what the Brier score has to beat."""
    return Case(case.name, case.seed, case.roots, case.severity, case.start, case.kind, case.root_step, "healthy", (),
                {}, {})  # fmt: skip


def plain(value: Any) -> Any:
    """A score as JSON knows it: Shares as objects, numbers that are not finite as null."""
    if isinstance(value, Share):
        return value.to_json()
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    return value
