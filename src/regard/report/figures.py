"""Each plot of the report, with its alternative text and the table under it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from regard.report.model import Frontier, MarginBin, Panel, ReliabilityBin
from regard.report.numbers import show
from regard.report.svg import Kind, Plot, y_domain

MAX_TABLE_ROWS = 60
SPREAD_TO_VALUES = 8.0
"""A level further away than this many spans of the data would flatten the curve, and is only named."""


@dataclass(frozen=True)
class Figure:
    title: str
    unit: str
    explanation: str
    last: str
    svg: Markup
    legend: tuple[tuple[str, str], ...]
    """(style, label); empty where there is one curve."""
    notes: tuple[str, ...]
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    table_note: str


def panel_figure(panel: Panel, steps: tuple[float, float]) -> Figure:
    """A panel over the shared range of steps."""
    values = [v for curve in panel.curves for v in curve.values]
    kind: Kind = "log" if panel.log and _log_is_possible(values) else "linear"
    shown = values + ([v for edge in panel.band[1:] for v in edge] if panel.band else [])  # type: ignore[misc]
    low, high = y_domain(shown, kind)
    levels = [(label, level) for label, level in panel.levels if math.isfinite(level)]
    near = [level for _, level in levels if _near(level, low, high)]
    if near:
        low, high = y_domain([*shown, *near], kind)
    plot = Plot.over(steps, (low, high), alt=_alt(panel), x_label="step", y_kind=kind)
    if panel.band:
        plot.band(panel.curves[0].steps, panel.band[1], panel.band[2], "c0")
    for label, level in levels:
        plot.level(level, label)
    legend = []
    for index, curve in enumerate(panel.curves):
        style = f"c{index}"
        plot.line(curve.steps, curve.values, style)
        if len(curve.steps) <= 12:
            plot.points(curve.steps, curve.values, style)
        plot.not_finite(curve.steps, curve.values, style)
        legend.append((style, curve.label))
    if len(legend) == 1:
        legend = []
    if panel.band:
        legend.append(("band", panel.band[0]))
    header, rows, note = _curve_table(panel)
    return Figure(
        panel.title,
        panel.unit + (", log scale" if kind == "log" else ""),
        panel.explanation,
        _last(panel),
        plot.render(),
        tuple(legend),
        _notes(panel, levels, low, high),
        header,
        rows,
        note,
    )


def _log_is_possible(values: Sequence[float]) -> bool:
    finite = [v for v in values if math.isfinite(v)]
    return bool(finite) and min(finite) > 0 and max(finite) >= 10 * min(finite)


def _near(level: float, low: float, high: float) -> bool:
    span = high - low
    return low - SPREAD_TO_VALUES * span <= level <= high + SPREAD_TO_VALUES * span


def _last(panel: Panel) -> str:
    """Last recorded value of the first curve, NaN included: a run that ends in NaN must say so."""
    return show(panel.curves[0].values[-1]) if panel.curves[0].values else ""


def _alt(panel: Panel) -> str:
    parts = []
    for curve in panel.curves:
        finite = [v for v in curve.values if math.isfinite(v)]
        if not finite:
            parts.append(f"{curve.label}: no finite value in {len(curve.steps)} steps")
            continue
        parts.append(
            f"{curve.label}: steps {curve.steps[0]} to {curve.steps[-1]}, first {show(curve.values[0])}, "
            f"last {show(curve.values[-1])}, lowest {show(min(finite))}, highest {show(max(finite))}"
        )
    return f"{panel.title} in {panel.unit}. " + "; ".join(parts)


def _notes(panel: Panel, levels: list[tuple[str, float]], low: float, high: float) -> tuple[str, ...]:
    notes = []
    for curve in panel.curves:
        bad = [step for step, value in zip(curve.steps, curve.values, strict=True) if not math.isfinite(value)]
        if bad:
            where = ", ".join(map(str, bad[:5])) + (" …" if len(bad) > 5 else "")
            notes.append(f"{curve.label} is not finite at {len(bad)} step{'s' * (len(bad) > 1)} ({where}).")
    notes += [f"{label}: {show(v)}, off the scale." for label, v in levels if not low <= v <= high]
    return tuple(notes)


def _curve_table(panel: Panel) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...], str]:
    by_step = [dict(zip(curve.steps, curve.values, strict=True)) for curve in panel.curves]
    steps = sorted({step for curve in panel.curves for step in curve.steps})
    rows, note = table_rows([(str(step), *(show(series.get(step), 4) for series in by_step)) for step in steps])
    return ("step", *(curve.label for curve in panel.curves)), rows, note


def chosen_rows(count: int) -> tuple[list[int], str]:
    """Places of the rows that a table shows, all or evenly chosen ones with the last, and a note that says so."""
    if count <= MAX_TABLE_ROWS:
        return list(range(count)), ""
    stride = math.ceil(count / MAX_TABLE_ROWS)
    chosen = sorted({*range(0, count, stride), count - 1})
    return chosen, f"Every {stride}th of {count} steps; all of them are in the record."


def table_rows(rows: list[tuple[str, ...]]) -> tuple[tuple[tuple[str, ...], ...], str]:
    chosen, note = chosen_rows(len(rows))
    return tuple(rows[place] for place in chosen), note


def frontier_figure(frontier: Frontier, max_kl: float) -> Figure:
    """Quality against KL on an axis that is even in √KL, in which over-optimisation laws are simple.

    Source: Gao, Schulman & Hilton (2022), arXiv 2210.10760, equation 1, with d = √KL.
    """
    plot = Plot.over(
        (0.0, max_kl),
        y_domain(frontier.values),
        alt=f"{frontier.label} against KL to the reference, {len(frontier.steps)} steps; "
        f"at the last one KL {show(frontier.kl[-1])} nats and {frontier.label} {show(frontier.values[-1])}",
        x_label="KL to the reference, nats per sequence (axis even in √KL)",
        x_kind="sqrt",
    )
    count = len(frontier.steps)
    shares = [(index + 1) / count for index in range(count)]
    plot.line(frontier.kl, frontier.values, "path")
    stride = math.ceil(count / 300)
    chosen = range(0, count, stride)
    plot.points(
        [frontier.kl[i] for i in chosen],
        [frontier.values[i] for i in chosen],
        "c0",
        radius=3.2,
        titles=[
            f"step {frontier.steps[i]}: KL {show(frontier.kl[i])} nats, {frontier.label} {show(frontier.values[i])}"
            for i in chosen
        ],
        opacities=[0.2 + 0.8 * shares[i] for i in chosen],
    )
    places, note = chosen_rows(count)
    rows = tuple((str(frontier.steps[i]), show(frontier.kl[i], 4), show(frontier.values[i], 4)) for i in places)
    below = sum(k < 0 for k in frontier.kl)
    notes = (f"{below} steps with a KL estimate below 0 are drawn at 0.",) if below else ()
    return Figure(
        frontier.label,
        frontier.unit,
        "One dot per step, fainter at the start of the run.",
        "",
        plot.render(),
        (),
        notes,
        ("step", "KL, nats per sequence", frontier.label),
        rows,
        note,
    )


def reliability_figure(bins: Sequence[ReliabilityBin], ece: float | None) -> Figure:
    """How often people prefer the text, against how sure the reward model is; on the diagonal it is calibrated."""
    plot = Plot.over(
        (0.0, 1.0),
        (0.0, 1.0),
        alt=f"Reliability: {len(bins)} bins of predicted preference against observed preference, ECE {show(ece)}",
        x_label="predicted probability of being preferred",
    )
    plot.diagonal()
    xs, ys = [b.predicted for b in bins], [b.observed for b in bins]
    plot.line(xs, ys, "c0")
    largest = max((b.pairs for b in bins), default=1) or 1
    plot.points(
        xs,
        ys,
        "c0",
        radius=[2.0 + 4.0 * math.sqrt(b.pairs / largest) for b in bins],
        titles=[f"predicted {show(b.predicted)}, observed {show(b.observed)}, {b.pairs} pairs" for b in bins],
    )
    return Figure(
        "Reliability",
        "observed share preferred",
        "On the dashed diagonal the predicted probability is the observed one. A dot's area is its number of pairs.",
        "" if ece is None else f"ECE {show(ece)}",
        plot.render(),
        (),
        (),
        ("predicted", "observed", "pairs"),
        tuple((show(b.predicted), show(b.observed), str(b.pairs)) for b in bins),
        "",
    )


def margin_figure(bins: Sequence[MarginBin]) -> Figure:
    """Accuracy by size of the human margin, beside how often two people agree on the same pairs."""
    nan = float("nan")
    xs = [float(i) for i in range(len(bins))]
    model = [nan if b.accuracy is None else b.accuracy for b in bins]
    people = [nan if b.human_agreement is None else b.human_agreement for b in bins]
    names = [margin_name(b) for b in bins]
    low = min([0.45, *(v - 0.05 for v in [*model, *people] if math.isfinite(v))])
    plot = Plot.over(
        (-0.5, len(bins) - 0.5),
        (max(0.0, low), 1.02),
        alt="Reward-model accuracy and human agreement by margin: "
        + "; ".join(f"{n}: model {show(m)}, people {show(p)}" for n, m, p in zip(names, model, people, strict=True)),
        x_label="size of the human margin",
    )
    plot.level(0.5, "chance")
    for style, ys in (("c1", people), ("c0", model)):
        plot.line(xs, ys, style)
        plot.points(xs, ys, style, radius=3.6)
    svg = plot.render(x_ticks=tuple(zip(xs, names, strict=True)))
    return Figure(
        "Accuracy by margin",
        "share of pairs ranked right",
        "People's agreement on the same pairs is the ceiling: where they disagree, no model can be right more often.",
        "",
        svg,
        (("c0", "Reward model"), ("c1", "Two people agree")),
        (),
        ("human margin", "pairs", "reward model", "two people agree"),
        tuple(
            (n, "–" if b.pairs is None else str(b.pairs), show(b.accuracy), show(b.human_agreement))
            for n, b in zip(names, bins, strict=True)
        ),
        "",
    )


def margin_name(margin: MarginBin) -> str:
    unbounded = math.isinf(margin.high) or margin.high > 1e6
    return f"≥ {margin.low:g}" if unbounded else f"{margin.low:g}–{margin.high:g}"
