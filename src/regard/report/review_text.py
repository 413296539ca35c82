"""A review for a terminal: verdict, what was found, and as plainly what could not be looked for."""

from regard.review.engine import Review

VERDICTS = {
    "healthy": "[healthy] Nothing was found.",
    "suspect": "[suspect] Something deserves a look.",
    "failed": "[failed] Something is wrong.",
    "inconclusive": "[inconclusive] The log does not hold what would decide it.",
}

WHOLE = 0.15
"""Suspected causes less likely than this are only named."""


def render_review_text(review: Review) -> str:
    """Plain text, ends with a newline."""
    run = review.run
    stages = ", ".join(f"{name} ({_steps(review, name)})" for name in run.stages)
    lines = [VERDICTS[review.verdict], f"  {run.run.get('source', 'regard')}: {run.path}, {stages}"]
    lines += _causes(review)
    for finding in review.findings:
        low, high = finding.fired.onset.interval
        when = f"step {finding.fired.onset.step}" + (f" (between {low} and {high})" if low != high else "")
        lines += [
            "",
            f"{finding.severity.upper()} {finding.detector.code} {finding.detector.name}, {finding.stage}, from {when}",
            f"  {finding.fired.summary}",
            *(
                f"  {e.metric} = {e.value:.4g} (limit {e.threshold:.4g}) at step {e.step}"
                for e in finding.fired.evidence
            ),
            f"  More: regard explain {finding.detector.code}",
        ]
    lines += _section("Looked for and not there", [
        f"{one.detector.code} {one.detector.name}, {one.stage}: {one.outcome.summary}" for one in review.clear
    ])  # fmt: skip
    lines += _section("Could not be looked for", [
        f"{one.detector.code} {one.detector.name}, {one.stage}: {one.outcome.reason} "
        f"Log {' or '.join(one.outcome.missing[:2])}."
        for one in review.not_checked
    ])  # fmt: skip
    notes = [*run.notes, *(note for stage in run.stages.values() for note in stage.notes)]
    lines += _section("Notes of the reader", notes)
    return "\n".join(lines) + "\n"


def _causes(review: Review) -> list[str]:
    """The likeliest roots: what speaks for each, what against, what to change, what would overturn it."""
    lines: list[str] = []
    whole = [one for one in review.causes if one.status == "diagnosed" or one.probability >= WHOLE]
    for one in whole:
        cause = one.cause
        since = f"step {one.root_onset.step}"
        if one.symptom_onset is not None and one.symptom_onset.step != one.root_onset.step:
            since += f", shows from step {one.symptom_onset.step} on"
        lines += [
            "",
            f"CAUSE {cause.id} {cause.name} ({one.status}, probability {one.probability:.2f}), {cause.stage}, "
            f"root at {since}",
            f"  {cause.title}. {cause.layman}",
            *(f"  + {name}: {summary}" for name, summary in one.evidence[:6]),
            *(f"  - {name}: {summary}" for name, summary in one.against[:3]),
            *(f"  Change {c['foreign'] or c['key']}{_from(c['from'])} to: {_short(c['to'])}" for c in one.changes),
            f"  Overturned if: {cause.would_overturn}",
        ]
        if one.missing:
            lines.append(f"  To decide, log: {', '.join(one.missing[:3])}")
        lines.append(f"  More: regard explain {cause.id}")
    rest = [f"{one.cause.id} {one.cause.name} ({one.probability:.2f})" for one in review.causes if one not in whole]
    return [*lines, "", f"Less likely: {', '.join(rest)}"] if rest else lines


def _from(value: object) -> str:
    return "" if value is None else f" from {value}"


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _steps(review: Review, stage: str) -> str:
    lasts = [int(series.steps[-1]) for series in review.run.stages[stage].metrics.values()]
    return f"to step {max(lasts)}" if lasts else "no metrics"


def _section(title: str, rows: list[str]) -> list[str]:
    return ["", title, *(f"  {row}" for row in rows)] if rows else []
