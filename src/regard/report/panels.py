"""Which metrics are plotted, and how."""

import math
from dataclasses import dataclass

import numpy as np

from regard.report.model import Curve, Frontier, Panel
from regard.runlog.metrics import METRICS
from regard.runlog.reader import StageLog

KL = "kl/policy_ref_k1/seq_sum"


@dataclass(frozen=True)
class PanelPlan:
    """Attributes:
    keys: (metric key, label of the curve); the unit and the explanation are those of the first one's declaration.
    spread: (what it is, key of the lower, key of the upper edge), or (what it is, key of a deviation around the mean).
    levels: (label, value or metric key) of horizontal lines.
    """

    title: str
    keys: tuple[tuple[str, str], ...]
    spread: tuple[str, ...] = ()
    levels: tuple[tuple[str, float | str], ...] = ()
    log: bool = False


POLICY_PANELS = (
    PanelPlan(
        "Reward-model score", (("score/reward_model/mean", "Score"),), ("± 1 deviation", "score/reward_model/std")
    ),
    PanelPlan("Gold judge", (("gold/judge/mean", "Gold"),)),
    PanelPlan("VADER", (("gold/vader/mean", "VADER"),)),
    PanelPlan("KL to the reference", ((KL, "KL per sequence"),), levels=(("target", "kl/target/value"),)),
    PanelPlan("Entropy", (("entropy/policy/token_mean", "Entropy"),)),
    PanelPlan(
        "Response length",
        (("length/response_tokens/mean", "Length"),),
        ("5th to 95th percentile", "length/response_tokens/p5", "length/response_tokens/p95"),
        (("cap", "length/cap/value"),),
    ),
    PanelPlan("Truncated responses", (("finish/truncated/frac", "Truncated share"),)),
    PanelPlan("Clip fraction", (("clip/policy/frac", "Clip fraction"),)),
    PanelPlan("Old-to-new KL", (("kl/old_new_k2/mean", "Approximate KL of the update"),), levels=(("0.02", 0.02),)),
    PanelPlan(
        "Explained variance of the value",
        (("value/explained_variance/value", "Explained variance"),),
        levels=(("0", 0.0),),
    ),
    PanelPlan("Gradient norm", (("optim/grad_norm/last", "Gradient norm"),), log=True),
    PanelPlan("KL coefficient", (("kl/coef/value", "KL coefficient"),)),
)

MODEL_PANELS = (
    ("pretrain", PanelPlan("Pre-training loss", (("loss/sft/mean", "Training"), ("loss/sft_eval/mean", "Held out")))),
    ("sft", PanelPlan("SFT loss", (("loss/sft/mean", "Training"), ("loss/sft_eval/mean", "Held out")))),
    ("rm", PanelPlan("Ranking loss", (("loss/rm/mean", "Training"),), levels=(("ln 2: chance", math.log(2)),))),
    (
        "rm",
        PanelPlan(
            "Reward-model accuracy",
            (("rm/accuracy_train/mean", "Training"), ("rm/accuracy_val/mean", "Held out")),
            levels=(("chance", 0.5),),
        ),
    ),
)


def policy_panels(ppo: StageLog | None) -> tuple[Panel, ...]:
    return _panels([(ppo, plan) for plan in POLICY_PANELS])


def model_panels(stages: dict[str, StageLog]) -> tuple[Panel, ...]:
    return _panels([(stages.get(stage), plan) for stage, plan in MODEL_PANELS])


def _panels(plans: list[tuple[StageLog | None, PanelPlan]]) -> tuple[Panel, ...]:
    return tuple(panel for stage, plan in plans if stage is not None and (panel := _panel(stage, plan)) is not None)


def _panel(stage: StageLog, plan: PanelPlan) -> Panel | None:
    curves = [_curve(stage, key, label) for key, label in plan.keys if key in stage.metrics]
    if not curves:
        return None
    spec = METRICS[plan.keys[0][0]]
    levels: list[tuple[str, float]] = []
    for label, level in plan.levels:
        if isinstance(level, float):
            levels.append((label, level))
        elif level in stage.metrics and len(stage.metrics[level].values):
            levels.append((label, float(stage.metrics[level].values[-1])))
    return Panel(
        plan.title,
        spec.unit,
        spec.description,
        tuple(curves),
        _band(stage, curves[0], plan.spread),
        tuple(levels),
        plan.log,
    )


def _curve(stage: StageLog, key: str, label: str) -> Curve:
    series = stage.metrics[key]
    return Curve(key, label, tuple(int(s) for s in series.steps), tuple(float(v) for v in series.values))


def _band(
    stage: StageLog, curve: Curve, spread: tuple[str, ...]
) -> tuple[str, tuple[float, ...], tuple[float, ...]] | None:
    if not spread or any(key not in stage.metrics for key in spread[1:]):
        return None
    edges = [dict(zip(stage.metrics[k].steps, stage.metrics[k].values, strict=True)) for k in spread[1:]]
    mean = dict(zip(curve.steps, curve.values, strict=True))
    rows = [[float(edge.get(step, math.nan)) for edge in edges] for step in curve.steps]
    if len(edges) == 1:
        rows = [[mean[step] - row[0], mean[step] + row[0]] for step, row in zip(curve.steps, rows, strict=True)]
    return spread[0], tuple(row[0] for row in rows), tuple(row[1] for row in rows)


def frontiers(ppo: StageLog | None) -> tuple[Frontier, ...]:
    """Score and gold at each step against the KL of the same step."""
    if ppo is None or KL not in ppo.metrics:
        return ()
    kl = ppo.metrics[KL]
    found: list[Frontier] = []
    for key, label in (("score/reward_model/mean", "Reward-model score"), ("gold/judge/mean", "Gold judge")):
        if key not in ppo.metrics:
            continue
        series = ppo.metrics[key]
        steps, at, of = np.intersect1d(kl.steps, series.steps, return_indices=True)
        if len(steps):
            found.append(
                Frontier(
                    label,
                    METRICS[key].unit,
                    tuple(int(s) for s in steps),
                    tuple(float(v) for v in kl.values[at]),
                    tuple(float(v) for v in series.values[of]),
                )
            )
    return tuple(found)
