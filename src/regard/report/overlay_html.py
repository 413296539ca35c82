"""Pages with the curves of several runs in one plot: of `regard compare` and of `regard verify`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from regard.report import numbers
from regard.report.compare_text import frontier_sentences, letters, parting_sentences
from regard.report.figures import Figure, panel_figure, table_rows
from regard.report.html import environment
from regard.report.model import Curve, Panel
from regard.report.svg import Plot, y_domain
from regard.report.verify_text import heading
from regard.review.registry import POLICY_STAGES
from regard.runlog.metrics import METRICS
from regard.runlog.reader import RunLog, read_run

SHOWN = (
    "gold/judge/mean",
    "score/reward_model/mean",
    "kl/policy_ref_k1/seq_sum",
    "kl/policy_ref_k1/token_mean",
    "kl/policy_ref_k3/token_mean",
    "entropy/policy/token_mean",
    "length/response_tokens/mean",
    "optim/grad_norm/last",
)
"""Metrics of stage 4 that are drawn, as far as the records have them."""
MAX_DRAWN = 4
"""Line styles that a reader can tell apart."""


def render_compare_html(result: Mapping[str, Any], runs: Sequence[RunLog]) -> str:
    """One page for a comparison; `runs` are the records in the order of the result."""
    names = letters(len(runs))
    drawn = list(zip(names, runs, strict=True))[:MAX_DRAWN]
    figures = _overlays({name: [run] for name, run in drawn})
    more = f"; the first {MAX_DRAWN} of {len(runs)} runs are drawn, here and above" if len(runs) > MAX_DRAWN else ""
    plot = _frontiers(list(zip(names, result["frontier"], strict=True))[:MAX_DRAWN])
    sections: list[dict[str, Any]] = [
        {"title": "Configuration", "lead": "Keys that differ.", "header": ["key", *names],
         "rows": [[key, *map(numbers.setting, row)] for key, row in result["config"].items()]},
        {"title": "Outcome", "lead": "The same held-out prompts, as far as seed and data are the same.",
         "header": ["", *names],
         "rows": [[key, *map(numbers.show, row)] for key, row in result["outcome"].items()]},
        {"title": "Where they parted", "lead": "", "sentences": [
            f"{names[0]} and {name}: {sentence}"
            for name, parted in zip(names[1:], result["parted"], strict=True)
            for sentence in parting_sentences(parted)]},
        {"title": "Gold against KL", "lead": "Dots are steps, lines the law with the better fit.", "sentences": [
            f"{name}: {sentence}"
            for name, one in zip(names, result["frontier"], strict=True)
            for sentence in frontier_sentences(one)], "figures": [plot] if plot else []},
        {"title": "Curves", "lead": f"Stage 4{more}.", "figures": figures},
    ]  # fmt: skip
    facts = [(name, run["path"]) for name, run in zip(names, result["runs"], strict=True)]
    return _page(f"{len(runs)} runs compared", "", facts, sections)


def render_verify_html(result: Mapping[str, Any], read: Callable[[str], RunLog] = read_run) -> str:
    """One page for a verification; `read` gives the record of an arm by its path, for the curves."""
    sections: list[dict[str, Any]] = []
    for trial in result["trials"]:
        runs = {arm: [read(one["path"]) for one in tried["runs"]] for arm, tried in trial["arms"].items()}
        sections.append(
            {
                "title": heading(trial),
                "lead": f"{trial['outcome'][0].upper()}{trial['outcome'][1:]}.",
                "sentences": trial["reasons"],
                "header": ["arm", "what for", "seed", "failure", "gold", "KL", "perplexity", "length"],
                "rows": [_arm_row(arm, tried["why"], one)
                         for arm, tried in trial["arms"].items() for one in tried["runs"]],
                "figures": _overlays({arm: logs for arm, logs in runs.items() if logs}),
            }
        )  # fmt: skip
    facts = [
        ("Run", result["run"]["path"]),
        ("Forked at step", result["fork"]["step"]),
        ("Time", numbers.show_seconds(result["seconds"])),
    ]
    return _page("Verification", result["outcome"], facts, sections)


def _arm_row(arm: str, why: str, one: Mapping[str, Any]) -> list[str]:
    shown = [numbers.show(one[key]) for key in ("gold", "kl", "perplexity_ratio", "length")]
    return [arm, why, str(one["seed"]), "there" if one["failed"] else "gone", *shown]


def _page(title: str, verdict: str, facts: Sequence[tuple[str, object]], sections: list[dict[str, Any]]) -> str:
    whole = [{"header": [], "rows": [], "sentences": [], "figures": []} | section for section in sections]
    template = environment().get_template("overlay.html.j2")
    return template.render(title=title, verdict=verdict, facts=facts, sections=whole)


def _overlays(groups: Mapping[str, Sequence[RunLog]]) -> list[Figure]:
    """A plot per metric with one curve per group: the mean over its runs, at steps that all of them logged."""
    stages = {
        name: [stage for run in runs for key, stage in run.stages.items() if key in POLICY_STAGES]
        for name, runs in groups.items()
    }
    figures: list[Figure] = []
    for key in SHOWN:
        curves: list[Curve] = []
        for name, logs in stages.items():
            found = [log.metrics[key] for log in logs if key in log.metrics]
            if not found:
                continue
            steps = sorted(set.intersection(*(set(series.steps.tolist()) for series in found)))
            rows = [dict(zip(series.steps.tolist(), series.values.tolist(), strict=True)) for series in found]
            curves.append(Curve(key, name, tuple(steps), tuple(float(np.mean([r[s] for r in rows])) for s in steps)))
        if not curves:
            continue
        last = max(step for curve in curves for step in curve.steps)
        spec = METRICS[key]
        panel = Panel(key, spec.unit, spec.description, tuple(curves))
        whole = panel_figure(panel, (0.0, float(max(last, 1))))
        figures.append(replace(whole, last=""))  # the last value of which run?
    return figures


def _frontiers(runs: Sequence[tuple[str, Mapping[str, Any]]]) -> Figure | None:
    shown = [(name, one) for name, one in runs if one.get("kl")]
    if not shown:
        return None
    values = [value for _, one in shown for value in one["gold"]]
    most = max(max(one["kl"]) for _, one in shown)
    plot = Plot.over(
        (0.0, max(most, 1e-6) * 1.04),
        y_domain(values),
        alt="Gold against KL to the reference: " + ", ".join(f"{name} {len(one['kl'])} steps" for name, one in shown),
        x_label="KL to the reference, nats per sequence (axis even in √KL)",
        x_kind="sqrt",
    )
    for index, (_, one) in enumerate(shown):
        plot.points(one["kl"], one["gold"], f"c{index}", radius=2.6)
        laws = sorted(one["laws"], key=lambda law: -law["r2"])
        if laws:
            curve = sorted(zip(one["kl"], laws[0]["fitted"], strict=True))
            plot.line([kl for kl, _ in curve], [gold for _, gold in curve], f"c{index}")
    rows = [
        (name, str(step), numbers.show(kl, 4), numbers.show(gold, 4))
        for name, one in shown
        for step, kl, gold in zip(one["steps"], one["kl"], one["gold"], strict=True)
    ]
    body, note = table_rows(rows)
    legend = tuple((f"c{index}", name) for index, (name, _) in enumerate(shown)) if len(shown) > 1 else ()
    unit = METRICS["gold/judge/mean"].unit
    return Figure("Gold judge", unit, "", "", plot.render(), legend, (), ("run", "step", "KL", "gold"), body, note)
