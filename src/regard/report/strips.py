"""Key curves of a stage as strips over one axis of steps, with a mark where each symptom and each cause began.

A strip is drawn in a box of `WIDTH` × `HEIGHT` units that the page stretches to whatever width it has; strokes keep
their thickness, and words stand beside the drawing as text, so that they are as large on a telephone as on a screen.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from regard.report.evidence import onset_interval
from regard.report.figures import chosen_rows
from regard.report.numbers import show
from regard.report.svg import Scale, nice_ticks, thin, tick_labels, y_domain
from regard.review.registry import POLICY_STAGES
from regard.runlog.metrics import METRICS
from regard.runlog.reader import StageLog
from regard.runlog.series import Series

WIDTH, HEIGHT = 1000, 60
LANE_SHARE = 0.15
"""Share of the width that the name of a mark takes at 400 pixels; nearer marks get another lane."""

MAX_STRIPS = 14

KEY_CURVES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Loss", ("loss/sft/mean", "loss/rm/mean", "preference/loss/mean")),
    ("Held-out loss", ("loss/sft_eval/mean", "rm/loss_val/mean", "preference/loss_val/mean")),
    ("Accuracy", ("rm/accuracy_train/mean", "preference/accuracy/mean")),
    ("Held-out accuracy", ("rm/accuracy_val/mean", "preference/accuracy_val/mean")),
    ("Margin", ("rm/margin/mean", "preference/margin/mean")),
    ("Score", ("score/reward_model/mean", "score/total_reward/mean")),
    ("Gold judge", ("gold/judge/mean", "gold/raters/mean", "gold/vader/mean")),
    (
        "KL to the reference",
        tuple(
            f"kl/policy_ref_{estimator}/{reduction}"
            for reduction in ("seq_sum", "token_mean", "unknown")
            for estimator in ("k1", "k3", "k2", "unknown")
        ),
    ),
    ("KL coefficient", ("kl/coef/value",)),
    ("Entropy", ("entropy/policy/token_mean", "entropy/policy_sampled/token_mean", "entropy/policy/unmasked_mean")),
    ("Response length", ("length/response_tokens/mean",)),
    ("Truncated", ("finish/truncated/frac",)),
    ("Clipped", ("clip/policy/frac", "clip/policy_sequences/frac")),
    ("Old-to-new KL", ("kl/old_new_k2/mean", "kl/old_new_k2/unmasked_mean", "kl/old_new_k1/mean")),
    ("Explained variance", ("value/explained_variance/value",)),
    ("Groups without spread", ("group/zero_std/frac",)),
    ("Sampler mismatch", ("kl/generator_trainer_k3/mean", "kl/generator_trainer_absdiff/mean")),
    ("Gradient norm", ("optim/grad_norm/last",)),
)
"""Name of a strip and the metrics that can fill it, the best first; in the order in which a person reads them."""


@dataclass(frozen=True)
class Mark:
    """Something that began at a step: `style` is a severity or "root"."""

    name: str
    href: str
    style: str
    step: int
    text: str
    left: float = 0.0
    lane: int = 0


@dataclass(frozen=True)
class Strip:
    title: str
    key: str
    unit: str
    last: str
    top: str
    bottom: str
    svg: Markup


@dataclass(frozen=True)
class Strips:
    """All strips of a stage.

    Attributes:
        lanes: number of rows that the names of the marks need.
        ticks: (per cent from the left, label) of the axis.
        header, rows, note: the table of the same numbers.
    """

    stage: str
    strips: tuple[Strip, ...]
    marks: tuple[Mark, ...]
    lanes: int
    ticks: tuple[tuple[float, str], ...]
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str


def stage_range(stage: StageLog) -> tuple[float, float]:
    """First and last step of the stage; from 0 where it begins at 1."""
    ends = [(int(s.steps[0]), int(s.steps[-1])) for s in stage.metrics.values() if len(s.steps)]
    if not ends:
        return 0.0, 1.0
    low, high = min(first for first, _ in ends), max(last for _, last in ends)
    low = 0 if low == 1 else low
    return float(low), float(max(high, low + 1))


def stage_strips(stage: StageLog, marks: Sequence[Mark], extra: Sequence[str] = ()) -> Strips | None:
    """Strips of the key curves that the stage has, then of the `extra` metrics; None where it has none."""
    chosen = [(title, key) for title, keys in KEY_CURVES if (key := next((k for k in keys if k in stage.metrics), ""))]
    have = {key for _, key in chosen}
    chosen += [(_name(key), key) for key in dict.fromkeys(extra) if key in stage.metrics and key not in have]
    chosen = chosen[: max(MAX_STRIPS, len(have))]
    if not chosen:
        return None
    x = Scale(*stage_range(stage), 0, WIDTH)
    placed = _place([mark for mark in marks if x.low <= mark.step <= x.high], x)
    ticks = nice_ticks(x.low, x.high)
    return Strips(
        stage.name,
        tuple(_strip(stage, title, key, x, placed) for title, key in chosen),
        placed,
        1 + max((mark.lane for mark in placed), default=-1),
        tuple((100 * x(t) / WIDTH, label) for t, label in zip(ticks, tick_labels(ticks), strict=True)),
        *_table(stage, [key for _, key in chosen]),
    )


def marks_of(result: Mapping[str, Any], stage: str) -> list[Mark]:
    """Onsets of the findings of a stage and of the causes that explain one of them."""
    findings = [one for one in result["findings"] if one.get("stage") == stage]
    marks = [
        Mark(one["code"], f"#{finding_id(one)}", str(one["severity"]), int(one["onset"]["step"]), _when(one))
        for one in findings
    ]
    for cause in result["causes"]:
        interval = onset_interval(cause.get("root_onset"))
        if interval is None or not concerns(cause, result, stage):
            continue
        step = cause["root_onset"].get("step", interval[0])
        text = f"{cause['id']} {cause['name']}: root, step {step}"
        marks.append(Mark(str(cause["id"]), f"#{cause_id(cause)}", "root", int(step), text))
    return sorted(marks, key=lambda mark: mark.step)


def concerns(cause: Mapping[str, Any], result: Mapping[str, Any], stage: str) -> bool:
    """Whether a cause explains a finding of this stage; one that rests on signs alone belongs to the policy's stage."""
    explains = set(cause.get("explains") or [])
    stages = {one.get("stage") for one in result["findings"] if one["code"] in explains}
    return stage in (stages or POLICY_STAGES)


def finding_id(finding: Mapping[str, Any]) -> str:
    """Name of its place in the page; a code is found at most once in a stage."""
    return f"finding-{finding.get('stage', '')}-{finding['code']}"


def cause_id(cause: Mapping[str, Any]) -> str:
    return f"cause-{cause['id']}"


def _when(finding: Mapping[str, Any]) -> str:
    return f"{finding['code']} {finding['name']}: {finding['severity']} from step {finding['onset']['step']}"


def _name(key: str) -> str:
    spec = METRICS.get(key)
    return f"{spec.quantity[:1].upper()}{spec.quantity[1:]}" if spec else key


def _place(marks: list[Mark], x: Scale) -> tuple[Mark, ...]:
    """Each mark in the first lane in which its name covers no other name."""
    ends: list[float] = []
    placed: list[Mark] = []
    for mark in marks:
        share = x(mark.step) / WIDTH
        start = min(share, 1 - LANE_SHARE)  # the name of a late mark stands left of its line
        lane = next((index for index, end in enumerate(ends) if end <= start), len(ends))
        if lane == len(ends):
            ends.append(0.0)
        ends[lane] = start + LANE_SHARE
        placed.append(Mark(mark.name, mark.href, mark.style, mark.step, mark.text, 100 * share, lane))
    return tuple(placed)


def _strip(stage: StageLog, title: str, key: str, x: Scale, marks: Sequence[Mark]) -> Strip:
    series = stage.metrics[key]
    steps, values = series.steps.tolist(), series.values.tolist()
    finite = series.values[np.isfinite(series.values)]
    ends = [float(finite.min()), float(finite.max())] if len(finite) else []
    low, high = y_domain(ends)
    y = Scale(low, high, HEIGHT - 2, 2)
    spec = METRICS.get(key)
    alt = f"{title} ({key}), "
    if ends:
        alt += (
            f"steps {steps[0]} to {steps[-1]}: first {show(values[0])}, last {show(values[-1])}, "
            f"lowest {show(ends[0])}, highest {show(ends[1])}"
        )
    else:
        alt += f"no finite value in {len(steps)} steps"
    parts = [Markup('<line class="at {}" x1="{}" x2="{}" y1="0" y2="{}"/>').format(
        mark.style, f"{x(mark.step):.1f}", f"{x(mark.step):.1f}", HEIGHT) for mark in marks]  # fmt: skip
    drawn = thin(steps, values)
    parts += _lines(*drawn, x, y)
    for step, value in zip(*drawn, strict=True):
        if not math.isfinite(value):
            at = f"{x(step):.1f}"
            parts.append(Markup('<line class="gap" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                at, at, HEIGHT - 8, HEIGHT))  # fmt: skip
    svg = Markup('<svg viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, alt, Markup("").join(parts)
    )
    return Strip(title, key, spec.unit if spec else "", show(values[-1]) if values else "", show(high), show(low), svg)


def _lines(xs: Sequence[float], ys: Sequence[float], x: Scale, y: Scale) -> list[Markup]:
    """Polylines that break at what is not finite; a lone point is a line without length, which a round cap shows."""
    runs: list[list[str]] = [[]]
    for step, value in zip(xs, ys, strict=True):
        if math.isfinite(value):
            runs[-1].append(f"{x(step):.1f},{y(value):.1f}")
        else:
            runs.append([])
    return [
        Markup('<polyline class="line c0" points="{}"/>').format(escape(" ".join(run if len(run) > 1 else run * 2)))
        for run in runs
        if run
    ]


def _table(stage: StageLog, keys: Sequence[str]) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...], str]:
    series = [stage.metrics[key] for key in keys]
    steps = np.unique(np.concatenate([one.steps for one in series]))
    places, note = chosen_rows(len(steps))
    rows = tuple((str(int(step)), *(_at(one, int(step)) for one in series)) for step in steps[places])
    return ("step", *keys), rows, note


def _at(series: Series, step: int) -> str:
    """The value at this step, in words; a dash where the metric was not logged."""
    place = int(np.searchsorted(series.steps, step))
    there = place < len(series.steps) and int(series.steps[place]) == step
    return show(float(series.values[place]) if there else None, 4)
