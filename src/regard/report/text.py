"""The report for a terminal: the outcome, the checks and what is missing; curves are in the HTML."""

from regard.report.figures import margin_name
from regard.report.model import KeyFigure, ReportData
from regard.report.numbers import show, show_interval, show_percent, show_seconds

LIGHTS = {"good": "[good]", "caution": "[look closer]", "bad": "[bad]", "unknown": "[no verdict]"}


def render_text(data: ReportData) -> str:
    """Plain text, at most about 100 columns, ends with a newline."""
    lines = [
        f"{LIGHTS[data.verdict.light]} {data.verdict.text}",
        *(f"  {reason}" for reason in data.verdict.reasons),
        "",
    ]
    lines += [f"{fact.label:<14}{fact.value}" for fact in data.identity]
    lines += _section("Outcome", [_figure(figure) for figure in data.figures])
    if data.reward_model is not None:
        lines += _section(
            "Reward model by size of the human margin",
            [
                f"{margin_name(b)}: model {show_percent(b.accuracy)}, "
                f"two people {show_percent(b.human_agreement)}, {'–' if b.pairs is None else b.pairs} pairs"
                for b in data.reward_model.bins
            ],
        )
    lines += _section(
        "Time and peak memory",
        [
            f"{stage.stage:<10}{stage.status:<14}{show_seconds(stage.seconds):>12}{show(stage.peak_memory_gb, 2):>8} GB"
            for stage in data.stages
        ],
    )
    lines += _section(
        "Stage 4 by phase",
        [
            f"{phase.phase:<12}{show_seconds(phase.seconds):>12}{show_percent(phase.share):>9}"
            f"{show(phase.tokens_per_s):>8} tokens/s{show_percent(phase.of_limit):>9} of the machine's limit"
            for phase in data.phases
        ],
    )
    marks = {True: "holds", False: "BROKEN", None: "cannot tell"}
    lines += _section(
        "Before the first update",
        [f"{marks[i.passed]:<12}{i.label}: {show(i.value)} {i.unit} ({i.limit})" for i in data.invariants],
    )
    lines += _section(
        "Weights over stage 4",
        [
            f"{marks[a.as_expected]:<12}{a.name} is {'frozen' if a.frozen else 'trained'}: "
            f"{(a.sha256_before or '–')[:12]} → {(a.sha256_after or '–')[:12]}"
            for a in data.artifacts
        ],
    )
    lines += _section("Not recorded", [f"{missing.what}: {missing.consequence}" for missing in data.not_recorded])
    lines += _section("Notes of the reader", list(data.notes))
    return "\n".join(lines) + "\n"


def _section(title: str, rows: list[str]) -> list[str]:
    return ["", title, *(f"  {row}" for row in rows)] if rows else []


def _figure(figure: KeyFigure) -> str:
    text = f"{figure.label}: "
    text += f"{show(figure.before)} → {show(figure.value)}" if figure.before is not None else show(figure.value)
    text += f" {figure.unit}"
    if figure.difference is not None:
        text += f", difference {show(figure.difference, signed=True)}"
    if figure.ci95 is not None:
        text += f" (95 % {show_interval(figure.ci95)}, n = {figure.n if figure.n is not None else '–'})"
    if figure.beside is not None:
        text += f", {figure.beside[0]} {show(figure.beside[1])}"
    return text
