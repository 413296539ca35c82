"""A review as one HTML file: what is wrong, why, since when, on what evidence, what to change, what was not checked.

Everything is made from the review result (`Review.to_json`) and, for curves and rollouts, from the record. The page
holds no script at all, loads nothing, and opens from disk.
"""

import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment
from markupsafe import Markup, escape

from regard.report.build import identity, stage_costs
from regard.report.evidence import evidence_figures, onset_interval, value_of
from regard.report.figures import frontier_figure
from regard.report.html import STAGE_NAMES, environment
from regard.report.model import Fact
from regard.report.numbers import is_finite, section, setting, show, show_seconds
from regard.report.panels import frontiers
from regard.report.strips import Strips, cause_id, concerns, finding_id, marks_of, stage_range, stage_strips
from regard.report.witnesses import witnesses
from regard.review import Review, catalogue
from regard.review.causes import all_causes
from regard.runlog.reader import RunLog, StageLog

LIGHTS = {
    "healthy": ("good", "✓", "Healthy"),
    "suspect": ("caution", "!", "Suspect"),
    "failed": ("bad", "✕", "Failed"),
    "inconclusive": ("unknown", "?", "Inconclusive"),
}
"""Verdict to the class, the sign and the word of the light, because colour alone is not read by everyone."""

SEVERITIES = {
    "error": ("bad", "✕", "Error"),
    "warning": ("caution", "!", "Warning"),
    "info": ("unknown", "i", "Note"),
}

FIRST_SCREEN = 3
"""Causes and findings that are named beside the verdict."""

DATA_FACTS = 3
"""Input files whose hashes are shown in the head of the page."""

_CONTROL = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_HARMLESS = frozenset("\n\t\u00ad\u200c\u200d")
"""Line breaks, and what some scripts and emoji need between their letters."""


def render_review_html(review: Review) -> str:
    """The whole page. Text of the run is escaped; only drawings made here are inserted as they are."""
    page = render_result(review.to_json(), review.run)
    return page.encode("utf-8", errors="backslashreplace").decode("utf-8")


def render_result(result: dict[str, Any], run: RunLog) -> str:
    """The page of a review result and the record it was made from."""
    causes = sorted(result["causes"], key=lambda cause: -(value_of(cause.get("probability")) or 0.0))
    findings = [_finding(one, run, causes) for one in result["findings"]]
    return (
        _environment()
        .get_template("review.html.j2")
        .render(
            title=str(run.config.get("recipe") or run.run.get("id") or run.path.name),
            result=result,
            light=LIGHTS.get(result["verdict"], LIGHTS["inconclusive"]),
            headline=headline(result, causes),
            facts=_facts(run),
            causes=causes,
            findings=findings,
            blind=_codes(result["not_checked"]),
            looked=_codes([*result["clear"], *result["findings"]]),
            first_screen=FIRST_SCREEN,
            groups=witnesses(run, result),
            has_rollouts=any(stage.rollout_steps for stage in run.stages.values()),
            strips=_strips(result, run),
            frontiers=_frontiers(run),
            stages=_stage_rows(result, run),
            severities=SEVERITIES,
            catalogue=all_causes(),
            embedded=json.dumps(result, indent=1),
        )
    )


def headline(result: Mapping[str, Any], causes: list[dict[str, Any]]) -> tuple[str, str]:
    """The verdict in a sentence, and when it began and how it shows where a cause is known."""
    findings = result["findings"]
    if causes:
        cause = causes[0]
        words = str(cause.get("title") or cause["name"]).rstrip(".")
        suspected = "Suspected: " if cause.get("status") == "suspected" else ""
        root, shows = onset_interval(cause.get("root_onset")), onset_interval(cause.get("symptom_onset"))
        second = f"Began at {when(cause['root_onset'])}." if root else ""
        if shows:
            symptoms = ", ".join(cause.get("explains") or [])
            second += f" Shows from {when(cause['symptom_onset'])} on" + (f" as {symptoms}." if symptoms else ".")
        return f"{suspected}{words[:1].upper()}{words[1:]}.", second.strip()
    if findings:
        errors = sum(one["severity"] == "error" for one in findings)
        warnings = sum(one["severity"] == "warning" for one in findings)
        parts = [
            _count(errors, "error"),
            _count(warnings, "warning"),
            _count(len(findings) - errors - warnings, "note"),
        ]
        return f"Found: {', '.join(part for part in parts if part)}. None of the known root causes fits.", ""
    if result["verdict"] == "inconclusive":
        return "The log does not hold what would decide it.", ""
    return f"None of the {len(_codes(result['clear']))} symptoms that could be looked for is there.", ""


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'s' * (number > 1)}" if number else ""


def _codes(entries: list[Mapping[str, Any]]) -> list[str]:
    return sorted({str(entry["code"]) for entry in entries})


def _facts(run: RunLog) -> list[Fact]:
    """Which run this is, also for a log that only says where it came from."""
    facts = list(identity(run, stage_costs(run)))
    have = {fact.label for fact in facts}
    read = {"Written by": run.run.get("source"), "File": run.run.get("file"), "Format": run.run.get("format")}
    for name, stage in run.stages.items():
        if any(len(series.steps) for series in stage.metrics.values()):
            first, last = stage_range(stage)
            read[STAGE_NAMES.get(name, name)] = f"steps {first:.0f} to {last:.0f}"
    inputs = section(run.lineage, "inputs")
    if inputs:
        shown = [f"{name} {str(sha)[:12]}" for name, sha in list(inputs.items())[:DATA_FACTS]]
        read["Data (SHA-256)"] = " · ".join(shown) + (" · …" if len(inputs) > DATA_FACTS else "")
    return facts + [Fact(label, str(value)) for label, value in read.items() if value and label not in have]


def _finding(finding: dict[str, Any], run: RunLog, causes: list[dict[str, Any]]) -> dict[str, Any]:
    """A finding with its plots, its documentation and the causes that explain it."""
    stage = run.stages.get(str(finding.get("stage")))
    detector = catalogue().get(finding["code"])
    return {
        "is": finding,
        "id": finding_id(finding),
        "severity": SEVERITIES.get(finding["severity"], SEVERITIES["info"]),
        "figures": evidence_figures(finding, stage, stage_range(stage) if stage else (0.0, 1.0)),
        "causes": [cause for cause in causes if finding["code"] in (cause.get("explains") or [])],
        "title": detector.title if detector else "",
        "why": doc_section(detector.doc, "Why it matters") if detector else "",
        "what_to_do": doc_section(detector.doc, "What to do") if detector else "",
        "false_alarms": doc_section(detector.doc, "False alarms") if detector else "",
    }


def doc_section(doc: str, heading: str) -> str:
    """The text under one heading of a detector's documentation."""
    found = re.search(rf"^## {re.escape(heading)}[ ]*(.*?)(?=^## |\Z)", doc, re.MULTILINE | re.DOTALL)
    return found.group(1).strip() if found else ""


def _strips(result: Mapping[str, Any], run: RunLog) -> list[Strips]:
    """Strips of every stage; those with findings first, since a reader comes for them."""
    found: list[Strips] = []
    for name, stage in run.stages.items():
        findings = [one for one in result["findings"] if one.get("stage") == name]
        extra = [str(e.get("metric")) for one in findings for e in (one.get("evidence") or [])[:2]]
        strips = stage_strips(stage, marks_of(result, name), extra)
        if strips is not None:
            found.append(strips)
    return sorted(found, key=lambda strips: not strips.marks)


def _frontiers(run: RunLog) -> list[Any]:
    found = [one for stage in run.stages.values() for one in frontiers(stage)]
    kl = max((k for one in found for k in one.kl if is_finite(k)), default=1.0)
    return [frontier_figure(one, max(kl, 1e-6) * 1.04) for one in found]


def _stage_rows(result: Mapping[str, Any], run: RunLog) -> list[dict[str, Any]]:
    """What each stage is, did, and was found to be."""
    costs = {cost.stage: cost for cost in stage_costs(run)}
    names = [*dict.fromkeys([*costs, *run.stages])]
    rows: list[dict[str, Any]] = []
    for name in names:
        cost, stage = costs.get(name), run.stages.get(name)
        rows.append(
            {
                "name": STAGE_NAMES.get(name, name),
                "status": cost.status if cost else "",
                "time": show_seconds(cost.seconds) if cost and cost.seconds is not None else "",
                "steps": _steps(stage),
                "findings": [(one["code"], finding_id(one), one["severity"]) for one in result["findings"]
                             if one.get("stage") == name],
                "causes": [(one["id"], cause_id(one)) for one in result["causes"] if concerns(one, result, name)],
                "clear": sum(one.get("stage") == name for one in result["clear"]),
                "not_checked": sum(one.get("stage") == name for one in result["not_checked"]),
            }
        )  # fmt: skip
    return rows


def _steps(stage: StageLog | None) -> str:
    if stage is None or not any(len(series.steps) for series in stage.metrics.values()):
        return ""
    first, last = stage_range(stage)
    return f"{first:.0f} to {last:.0f}"


def _environment() -> Environment:
    made = environment()
    made.finalize = _visible_if_text
    made.filters["prose"] = prose
    made.filters["number"] = lambda value: show(value_of(value)) if value_of(value) is not None else str(value)
    made.filters["measure"] = lambda value: f"{value:.0f}" if value == round(value) else show(value)
    made.filters["when"] = when
    made.filters["setting"] = setting
    made.globals["cause_id"] = cause_id
    return made


def when(onset: object) -> str:
    """An onset in words."""
    interval = onset_interval(onset)
    if interval is None:
        return "unknown"
    assert isinstance(onset, dict)
    step = onset.get("step", interval[0])
    return f"step {step}" + (f" (between {interval[0]} and {interval[1]})" if interval[0] != interval[1] else "")


def prose(text: object) -> Markup:
    """Text with `code` in backticks."""
    return Markup(re.sub(r"`([^`\n]+)`", r"<code>\1</code>", str(escape(visible(str(text))))))


def visible(text: str) -> str:
    """Control, direction and other invisible characters by their code, so that no text hides or turns round another."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c if c in _HARMLESS or unicodedata.category(c) not in _CONTROL else f"⟦U+{ord(c):04X}⟧" for c in text
    )


def _visible_if_text(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
