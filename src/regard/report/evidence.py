"""The plot of one piece of evidence: the metric, the limit it was held against, and when the symptom began."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from regard.report.figures import Figure, chosen_rows
from regard.report.model import Curve
from regard.report.numbers import is_finite, show
from regard.report.svg import Kind, Plot, y_domain
from regard.review.answers import Answers, answers_of
from regard.runlog.metrics import METRICS
from regard.runlog.reader import StageLog
from regard.runlog.series import as_number, text_as_number

MAX_FIGURES = 6
"""Plots of one finding; further evidence stands in its table."""

FAR = 8.0
"""A limit further from the curve than this many of its spans would flatten it and is only named."""

LOG_KEYS = ("optim/grad_norm",)
LOG_SPAN = 30.0


def _paid_phrase(answers: Answers) -> Any:
    paid = answers.paid_phrase
    return None if paid is None else answers.with_one_of(paid.phrases)


ROLLOUT_FEATURES: dict[str, Callable[[Answers], Any]] = {
    "rollouts/repeated_pairs": lambda answers: answers.texts.repetition,
    "rollouts/other_script": lambda answers: answers.other_script,
    "rollouts/refusals": lambda answers: answers.flags["refusal"] | answers.flags["hedge"],
    "rollouts/exploits": lambda answers: answers.flags["exploit"],
    "rollouts/self_praise": lambda answers: answers.flags["praise"] | answers.flags["agreement"],
    "rollouts/phrase_share": _paid_phrase,
}
"""Evidence that no trainer logs and that detectors read out of the rollouts: of each response, [N] numbers or flags, or
None."""

ROLLOUT_UNIT = "mean over the responses of a step"


def value_of(value: object) -> float | None:
    """A number of the review result, in which what is not finite is a text."""
    return text_as_number(value) if isinstance(value, str) else as_number(value)


def onset_interval(onset: object) -> tuple[int, int] | None:
    """The steps between which it began; None where the result has none."""
    if not isinstance(onset, dict):
        return None
    step = onset.get("step")
    interval = onset.get("interval")
    if isinstance(interval, list) and len(interval) == 2 and all(isinstance(end, int) for end in interval):
        return interval[0], interval[1]
    return (step, step) if isinstance(step, int) else None


def evidence_figures(finding: Mapping[str, Any], stage: StageLog | None, steps: tuple[float, float]) -> list[Figure]:
    """One plot for each metric of the evidence that is a series of this stage, or that its rollouts give at each step;
    in the order of the evidence."""
    if stage is None:
        return []
    figures: list[Figure] = []
    seen: set[str] = set()
    for evidence in finding.get("evidence") or []:
        key = str(evidence.get("metric"))
        curve = None if key in seen or len(figures) == MAX_FIGURES else _curve(stage, key)
        if curve is not None:
            seen.add(key)
            figures.append(evidence_figure(curve, evidence, finding, steps))
    return figures


def _curve(stage: StageLog, key: str) -> Curve | None:
    if key in stage.metrics:
        series = stage.metrics[key]
        return Curve(key, key, tuple(map(int, series.steps)), tuple(map(float, series.values)))
    answers = answers_of(stage) if key in ROLLOUT_FEATURES else None
    feature = ROLLOUT_FEATURES[key](answers) if answers is not None else None
    if answers is None or feature is None:
        return None
    steps, means = answers.sample.by_step(feature.astype(float))
    return Curve(key, key, tuple(map(int, steps)), tuple(map(float, means)))


def evidence_figure(
    curve: Curve, evidence: Mapping[str, Any], finding: Mapping[str, Any], steps: tuple[float, float]
) -> Figure:
    """The curve over the shared range of steps, the onset interval shaded, the limit dashed, the value ringed."""
    value = value_of(evidence.get("value"))
    limit = value_of(evidence.get("threshold")) if is_finite(value) else None  # NaN is held against nothing
    finite = [v for v in curve.values if math.isfinite(v)]
    kind = _kind(curve.key, finite)
    low, high = y_domain(finite, kind)
    drawn = limit is not None and math.isfinite(limit) and (kind != "log" or limit > 0)
    drawn = drawn and _near(limit, low, high, kind)
    if drawn:
        low, high = y_domain([*finite, limit], kind)  # type: ignore[list-item]
    interval = onset_interval(finding.get("onset"))
    plot = Plot.over(
        steps, (low, high), alt=_alt(curve, finite, limit, value, interval, evidence), x_label="step", y_kind=kind
    )
    if interval is not None:
        plot.interval(*interval, f"began between step {interval[0]} and {interval[1]}")
        plot.upright(float(finding["onset"]["step"]), "onset")
    if drawn:
        plot.level(limit, f"limit {show(limit)}")  # type: ignore[arg-type]
    plot.line(curve.steps, curve.values, "c0")
    if len(curve.steps) <= 12:
        plot.points(curve.steps, curve.values, "c0")
    plot.not_finite(curve.steps, curve.values, "c0")
    step = evidence.get("step")
    if isinstance(step, int) and value is not None:
        plot.points([step], [value], "seen", radius=4.0, titles=[f"{show(value)} at step {step}"])
    spec = METRICS.get(curve.key)
    places, note = chosen_rows(len(curve.steps))
    return Figure(
        curve.key,
        (spec.unit if spec else ROLLOUT_UNIT if curve.key in ROLLOUT_FEATURES else "")
        + (", log scale" if kind == "log" else ""),
        f"{spec.quantity[:1].upper()}{spec.quantity[1:]}." if spec else "",
        show(curve.values[-1]) if curve.values else "",
        plot.render(),
        (),
        _notes(curve, limit, drawn),
        ("step", curve.key),
        tuple((str(curve.steps[i]), show(curve.values[i], 4)) for i in places),
        note,
    )


def _kind(key: str, finite: list[float]) -> Kind:
    spreads = bool(finite) and min(finite) > 0 and max(finite) >= LOG_SPAN * min(finite)
    return "log" if spreads and key.startswith(LOG_KEYS) else "linear"


def _near(limit: float | None, low: float, high: float, kind: Kind) -> bool:
    assert limit is not None
    if kind == "log":
        return low / 100 <= limit <= high * 100
    return low - FAR * (high - low) <= limit <= high + FAR * (high - low)


def _alt(
    curve: Curve,
    finite: list[float],
    limit: float | None,
    value: float | None,
    interval: tuple[int, int] | None,
    evidence: Mapping[str, Any],
) -> str:
    if not finite:
        return f"{curve.key}: no finite value in {len(curve.steps)} steps"
    words = (
        f"{curve.key}, steps {curve.steps[0]} to {curve.steps[-1]}: first {show(curve.values[0])}, last "
        f"{show(curve.values[-1])}, lowest {show(min(finite))}, highest {show(max(finite))}"
    )
    if value is not None:
        words += f"; {show(value)} at step {evidence.get('step')}"
    if limit is not None:
        words += f", limit {show(limit)}"
    return words + (f"; the symptom began between step {interval[0]} and {interval[1]}" if interval else "")


def _notes(curve: Curve, limit: float | None, drawn: bool) -> tuple[str, ...]:
    notes: list[str] = []
    bad = [step for step, value in zip(curve.steps, curve.values, strict=True) if not math.isfinite(value)]
    if bad:
        where = ", ".join(map(str, bad[:5])) + (" …" if len(bad) > 5 else "")
        notes.append(f"Not finite at {len(bad)} step{'s' * (len(bad) > 1)} ({where}).")
    if limit is not None and not drawn:
        notes.append(f"Limit {show(limit)}, off the scale.")
    return tuple(notes)
