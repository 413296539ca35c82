"""Runs every detector that concerns a run, and gathers what they say."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from regard.review.diagnosis import Diagnosis, Symptom, diagnose
from regard.review.facts import Facts
from regard.review.inference import Posterior
from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Severity
from regard.review.registry import POLICY_STAGES, Detector, catalogue
from regard.runlog.importers.vocabulary import setting
from regard.runlog.reader import RunLog

Verdict = Literal["healthy", "suspect", "failed", "inconclusive"]

SCHEMA = 1
ESSENTIAL = frozenset({"KL001", "RWD001"})
"""Where none of these could be looked at, nothing about stage 4 is known and silence is not health."""


@dataclass(frozen=True)
class Finding:
    """A symptom that is there."""

    detector: Detector
    stage: str
    fired: Fired

    @property
    def severity(self) -> Severity:
        return self.fired.severity or self.detector.severity


@dataclass(frozen=True)
class NotChecked:
    """A symptom that could not be looked for."""

    detector: Detector
    stage: str
    outcome: CannotTell


@dataclass(frozen=True)
class Checked:
    """A symptom that was looked for and is not there."""

    detector: Detector
    stage: str
    outcome: Clear


@dataclass(frozen=True)
class Review:
    """The result of a review."""

    run: RunLog
    findings: tuple[Finding, ...]
    clear: tuple[Checked, ...]
    not_checked: tuple[NotChecked, ...]
    causes: tuple[Diagnosis, ...] = ()
    healthy: float = 1.0
    """Probability that no known cause is at work; see `inference`."""
    posterior: Posterior | None = None
    """Of every cause of the catalogue, listed or not, with what it was inferred from."""

    @property
    def verdict(self) -> Verdict:
        severities = {finding.severity for finding in self.findings}
        if "error" in severities:
            return "failed"
        if "warning" in severities or any(one.status == "diagnosed" for one in self.causes):
            return "suspect"
        looked = {one.detector.code for one in self.clear} | {one.detector.code for one in self.findings}
        blind = {one.detector.code for one in self.not_checked} & ESSENTIAL
        return "inconclusive" if not looked or (blind and not looked & ESSENTIAL) else "healthy"

    def to_json(self) -> dict[str, Any]:
        """The review result as contracted; keys are only ever added."""
        return {
            "schema": SCHEMA,
            "run": {key: self.run.run.get(key) for key in ("id", "source", "recipe", "seed", "created", "file")},
            "verdict": self.verdict,
            "findings": [_finding(one) for one in self.findings],
            "causes": [one.to_json() for one in self.causes],
            "healthy": round(self.healthy, 3),
            "clear": [
                {"code": one.detector.code, "name": one.detector.name, "stage": one.stage,
                 "summary": one.outcome.summary}
                for one in self.clear
            ],
            "not_checked": [
                {"code": one.detector.code, "name": one.detector.name, "stage": one.stage,
                 "reason": one.outcome.reason, "missing": list(one.outcome.missing)}
                for one in self.not_checked
            ],
            "notes": [*self.run.notes, *(note for stage in self.run.stages.values() for note in stage.notes)],
        }  # fmt: skip


def _finding(finding: Finding) -> dict[str, Any]:
    fired = finding.fired
    return {
        "code": finding.detector.code,
        "name": finding.detector.name,
        "stage": finding.stage,
        "severity": finding.severity,
        "confidence": fired.confidence,
        "onset": {"step": fired.onset.step, "interval": list(fired.onset.interval)},
        "span": [fired.onset.step, fired.until],
        "summary": fired.summary,
        "evidence": [_evidence(evidence) for evidence in fired.evidence],
    }


def _evidence(evidence: Evidence) -> dict[str, Any]:
    """JSON has no word for NaN and infinity, so a value that is not finite is a string."""
    value = evidence.value if math.isfinite(evidence.value) else str(evidence.value)
    return asdict(evidence) | {"value": value, "rows": list(evidence.rows)}


def review(run: RunLog) -> Review:
    """Look for every symptom in every stage that it concerns.

    Findings come gravest first, and among equals in the order of their onset.
    """
    findings: list[Finding] = []
    clear: list[Checked] = []
    not_checked: list[NotChecked] = []
    for stage in run.stages.values():
        kind = _kind(run, stage.name)
        for one in catalogue().values():
            if kind not in one.stages:
                continue
            outcome = one.check(run, stage)
            if isinstance(outcome, Fired):
                findings.append(Finding(one, stage.name, outcome))
            elif isinstance(outcome, Clear):
                clear.append(Checked(one, stage.name, outcome))
            else:
                not_checked.append(NotChecked(one, stage.name, outcome))
    order = ("error", "warning", "info")
    findings.sort(key=lambda finding: (order.index(finding.severity), finding.fired.onset.step))
    ill = any(finding.severity != "info" for finding in findings)
    posterior, causes = diagnose(Facts(run), _symptoms(findings, clear, not_checked), ill=ill)
    return Review(run, tuple(findings), tuple(clear), tuple(not_checked), causes, posterior.healthy, posterior)


def _kind(run: RunLog, stage: str) -> str:
    """What a stage is for the detectors: stage 4 of our own runs is called ppo whatever its algorithm."""
    algorithm = setting(run.config, "ppo.algorithm") if stage == "ppo" else None
    return algorithm if isinstance(algorithm, str) and algorithm in POLICY_STAGES else stage


def _symptoms(findings: list[Finding], clear: list[Checked], not_checked: list[NotChecked]) -> dict[str, Symptom]:
    """What the causes are inferred from. A symptom seen in one stage is there; one unseen in some stage and unknown in
    others is not."""
    symptoms = {
        one.detector.code: Symptom(one.detector.code, None, one.outcome.reason, missing=one.outcome.missing)
        for one in not_checked
    }
    symptoms |= {one.detector.code: Symptom(one.detector.code, False, one.outcome.summary) for one in clear}
    for finding in reversed(findings):  # the gravest has the last word
        fired = finding.fired
        symptoms[finding.detector.code] = Symptom(finding.detector.code, True, fired.summary, fired.onset)
    return symptoms
