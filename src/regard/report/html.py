"""The report as one HTML file: no network, no script needed, light and dark, printable."""

import os
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from regard.report import numbers
from regard.report.build import build
from regard.report.figures import Figure, frontier_figure, margin_figure, margin_name, panel_figure, reliability_figure
from regard.report.json_data import to_json
from regard.report.model import KeyFigure, Panel, ReportData

MARKS = {
    "good": ("✓", "Good"),
    "caution": ("!", "Look closer"),
    "bad": ("✕", "Bad"),
    "unknown": ("?", "No verdict"),
}
"""Sign and word of the traffic light, because colour alone is not read by everyone."""

STAGE_NAMES = {
    "fetch": "Fetch data",
    "pretrain": "Pre-training",
    "sft": "SFT",
    "rm": "Reward model",
    "ppo": "Policy (stage 4)",
    "eval": "Evaluation",
}
PHASE_NAMES = {
    "rollout": "Sampling",
    "score": "Scoring",
    "update": "Updating",
    "checkpoint": "Checkpoints",
    "other": "Everything else",
}
SHARES = frozenset({"truncated", "distinct_2", "reward_model"})
"""Key figures that are shares, shown in per cent."""


def render_html(data: ReportData) -> str:
    """The whole page. Text of the run is escaped by Jinja; only SVG and JSON made here are inserted as they are."""
    steps = _range_of_steps(data.policy_panels)
    kl = max((k for f in data.frontiers for k in f.kl if numbers.is_finite(k)), default=1.0)
    reward_model = data.reward_model
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            data=data,
            mark=MARKS[data.verdict.light],
            cards=[_card(figure) for figure in data.figures],
            policy_figures=[panel_figure(panel, steps) for panel in data.policy_panels],
            frontier_figures=[frontier_figure(frontier, max(kl, 1e-6) * 1.04) for frontier in data.frontiers],
            model_figures=[panel_figure(panel, _range_of_steps((panel,))) for panel in data.model_panels],
            reward_model_figures=_reward_model_figures(data),
            bins=[(margin_name(b), b) for b in reward_model.bins] if reward_model else [],
            stage_bar=_bar([(STAGE_NAMES.get(s.stage, s.stage), s.seconds) for s in data.stages]),
            phase_bar=_bar([(PHASE_NAMES.get(p.phase, p.phase), p.seconds) for p in data.phases]),
            stage_names=STAGE_NAMES,
            phase_names=PHASE_NAMES,
            config_yaml=yaml.safe_dump(data.config, sort_keys=False, allow_unicode=True) if data.config else "",
            embedded=_embeddable(to_json(data)),
        )
    )


def write_report(run_dir: Path | str) -> Path:
    """Write RUN/report.html in one move, so that a reader never sees half a page, and return its path."""
    path = Path(run_dir) / "report.html"
    page = render_html(build(run_dir))
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(page, encoding="utf-8")
    temporary.replace(path)
    return path


def environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("regard.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("show", "show_percent", "show_seconds", "show_interval", "show_difference"):
        environment.filters[name] = getattr(numbers, name)
    return environment


def _embeddable(text: str) -> Markup:
    """JSON inside a script element: no `<` can end the element, and JSON parsers read the escapes back."""
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # nothing that HTML treats specially is left


def _range_of_steps(panels: tuple[Panel, ...]) -> tuple[float, float]:
    """One range for all panels, so that a step is in the same place in each."""
    steps = [step for panel in panels for curve in panel.curves for step in curve.steps]
    if not steps:
        return 0.0, 1.0
    low, high = (0, max(steps)) if min(steps) <= 1 else (min(steps), max(steps))
    return float(low), float(max(high, low + 1))


def _reward_model_figures(data: ReportData) -> list[Figure]:
    reward_model = data.reward_model
    if reward_model is None:
        return []
    figures = []
    if reward_model.bins:
        figures.append(margin_figure(reward_model.bins))
    if reward_model.reliability:
        figures.append(reliability_figure(reward_model.reliability, reward_model.ece))
    return figures


def _card(figure: KeyFigure) -> dict[str, Any]:
    """Words of one key figure: the main number, the change, what it stands beside."""
    say = numbers.show_percent if figure.key in SHARES else numbers.show
    beside = ""
    if figure.beside is not None:
        beside = f"{figure.beside[0]} {say(figure.beside[1])}"
    change = ""
    if figure.difference is not None:
        if figure.key in SHARES:
            points = 100 * figure.difference
            change = f"{numbers.show(points, signed=True)} percentage points"
        else:
            change = numbers.show_difference(figure.difference)
    return {
        "figure": figure,
        "before": None if figure.before is None else say(figure.before),
        "value": say(figure.value),
        "change": change,
        "ci95": numbers.show_interval(figure.ci95) if figure.ci95 else "",
        "beside": beside,
    }


def _bar(parts: list[tuple[str, float | None]]) -> list[dict[str, Any]]:
    """Segments of a stacked bar in per cent of the whole; parts without a number are left out."""
    known = [(label, value) for label, value in parts if value is not None and numbers.is_finite(value) and value > 0]
    whole = sum(value for _, value in known)
    return [
        {"label": label, "seconds": value, "percent": 100 * value / whole, "style": f"s{index % 6}"}
        for index, (label, value) in enumerate(known)
    ]
