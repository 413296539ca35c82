"""From a run record to what the report says. Only files are read; nothing of the trainer is imported."""

import json
import math
import random
from pathlib import Path
from typing import Any

from regard.report.invariants import invariants_of
from regard.report.missing import not_recorded
from regard.report.model import (
    Artifact,
    Fact,
    KeyFigure,
    MarginBin,
    PhaseCost,
    ReliabilityBin,
    ReportData,
    RewardModelReport,
    Sample,
    SampleGroup,
    StageCost,
)
from regard.report.numbers import interval, number, section, show_seconds
from regard.report.panels import frontiers, model_panels, policy_panels
from regard.report.verdict import judge
from regard.runlog.reader import STAGE_ORDER, RunLog, StageLog, read_run

SAMPLES_PER_GROUP = 5

BEFORE_AFTER = (
    ("gold", "Gold judge", "judge units", "an independent judge that the policy was not trained on"),
    ("raters", "Held-back raters", "rating", "a judge fitted on people whose ratings the reward model never saw"),
    ("vader", "VADER", "compound, −1 to 1", "a rule-based second opinion on sentiment"),
    ("score", "Reward-model score", "score", "what the policy was asked to raise; not proof of quality"),
)

FROZEN = ("reference", "reward_model")


def build(run_dir: Path | str) -> ReportData:
    """Read a run directory, finished or not, and gather everything the report says.

    Raises:
        RunLogError: the directory is no run record.
    """
    run = read_run(run_dir)
    samples = _samples(run)
    stages = stage_costs(run)
    invariants, artifacts = invariants_of(run), _artifacts(run)
    reward_model = _reward_model(run)
    figures = _figures(run.summary, reward_model)
    phases = _phases(run.stages.get("ppo"))
    panels = policy_panels(run.stages.get("ppo"))
    notes = [*run.notes, *(f"{name}: {note}" for name, stage in run.stages.items() for note in stage.notes)]
    return ReportData(
        title=str(run.config.get("recipe") or run.run.get("id") or run.path.name),
        verdict=judge(run, invariants, artifacts, stages),
        identity=identity(run, stages),
        figures=figures,
        policy_panels=panels,
        frontiers=frontiers(run.stages.get("ppo")),
        model_panels=model_panels(run.stages),
        reward_model=reward_model,
        sample_groups=_groups(samples),
        num_samples=len(samples),
        stages=stages,
        phases=phases,
        tokens_per_s=_median(run.stages.get("ppo"), "throughput/tokens_per_s"),
        invariants=invariants,
        artifacts=artifacts,
        inputs=tuple((str(k), str(v)) for k, v in section(run.lineage, "inputs").items()),
        config=run.config,
        not_recorded=not_recorded(run, stages, invariants, artifacts, reward_model, phases, len(samples)),
        notes=tuple(notes),
    )


def identity(run: RunLog, stages: tuple[StageCost, ...]) -> tuple[Fact, ...]:
    hardware = section(run.run, "hardware")
    model = section(run.config, "model")
    parts = [hardware.get("cpu"), f"{hardware['cpus']} cores" if hardware.get("cpus") else None]
    memory = number(hardware.get("memory_gb"))
    parts += [f"{memory:.0f} GB" if memory else None, *(hardware.get("gpus") or [])]
    seconds = [stage.seconds for stage in stages if stage.seconds is not None]
    revision = str(run.run.get("git_revision") or "")
    if revision:
        revision = revision[:12] + (" with uncommitted changes" if run.run.get("git_dirty") else "")
    lora = model.get("lora_rank")
    facts = {
        "Recipe": run.config.get("recipe") or run.summary.get("recipe"),
        "Run": run.run.get("id"),
        "Seed": run.run.get("seed", run.summary.get("seed")),
        "Model": " · ".join(
            str(p) for p in (model.get("source"), model.get("dtype"), f"LoRA {lora}" if lora else "") if p
        ),
        "Algorithm": section(run.config, "ppo").get("algorithm"),
        "Created": str(run.run.get("created") or "").replace("T", " ").replace("+00:00", " UTC"),
        "Duration": show_seconds(sum(seconds)) if seconds else None,
        "Hardware": " · ".join(str(part) for part in parts if part),
        "Regard": run.run.get("regard"),
        "Git revision": revision,
    }
    return tuple(Fact(label, str(value)) for label, value in facts.items() if value not in (None, ""))


def _figures(summary: dict[str, Any], reward_model: RewardModelReport | None) -> tuple[KeyFigure, ...]:
    figures: list[KeyFigure] = []
    for key, label, unit, explanation in BEFORE_AFTER:
        row = section(summary, key)
        if row:
            count = number(row.get("n"))
            figures.append(
                KeyFigure(
                    key,
                    label,
                    unit,
                    explanation,
                    value=number(row.get("policy")),
                    before=number(row.get("sft")),
                    difference=number(row.get("difference")),
                    ci95=interval(row.get("ci95")),
                    n=int(count) if count is not None else None,
                )
            )
    kl, perplexity = section(summary, "kl"), section(summary, "perplexity")
    if kl:
        token = number(kl.get("per_token"))
        figures.append(
            KeyFigure(
                "kl",
                "KL to the reference",
                "nats per sequence",
                "how far the policy has moved: the price of the score",
                value=number(kl.get("per_sequence")),
                beside=("per token", token) if token is not None else None,
            )
        )
    if perplexity:
        figures.append(
            KeyFigure(
                "perplexity",
                "Perplexity ratio",
                "× SFT, under the reference",
                "above 1.5 the text is markedly less fluent to the reference",
                value=number(perplexity.get("ratio")),
            )
        )
    for key, label, unit, explanation in (
        ("length", "Response length", "tokens", "growing with the score suggests that length is rewarded"),
        ("truncated", "Truncated responses", "share", "cut by the cap before the end of the text"),
        ("distinct_2", "Distinct bigrams", "share", "falls when answers repeat each other"),
    ):
        row = section(summary, key)
        if row:
            before, after = number(row.get("sft")), number(row.get("policy"))
            difference = after - before if after is not None and before is not None else None
            figures.append(KeyFigure(key, label, unit, explanation, after, before, difference))
    if reward_model is not None and reward_model.accuracy is not None:
        ceiling = reward_model.human_ceiling
        figures.append(
            KeyFigure(
                "reward_model",
                "Reward-model accuracy",
                "share of held-out pairs",
                "its ceiling is how often two people agree, not 1",
                value=reward_model.accuracy,
                beside=("two people agree", ceiling) if ceiling is not None else None,
            )
        )
    return tuple(figures)


def _reward_model(run: RunLog) -> RewardModelReport | None:
    """The stage's own evaluation; the summary's excerpt where that file is missing."""
    full = _read_json(run.path / "stages/rm/evaluation.json")
    source = full if isinstance(full, dict) else section(run.summary, "reward_model")
    if not source:
        return None
    bins = [
        MarginBin(edges[0], edges[1], _count(row), number(row.get("accuracy")), number(row.get("human_agreement")))
        for row in _rows(source.get("bins"))
        if (edges := interval(row.get("margin"))) is not None
    ]
    reliability: list[ReliabilityBin] = []
    for row in _rows(source.get("reliability")):
        predicted, observed = number(row.get("predicted")), number(row.get("observed"))
        if predicted is not None and observed is not None:
            reliability.append(ReliabilityBin(predicted, observed, _count(row) or 0))
    return RewardModelReport(
        pairs=_count(source),
        accuracy=number(source.get("accuracy")),
        ci95=interval(source.get("ci95")),
        human_ceiling=number(source.get("human_ceiling")),
        kept_rater_accuracy=number(source.get("kept_rater_accuracy")),
        ece=number(source.get("ece")),
        score_length_spearman=number(source.get("score_length_spearman")),
        bins=tuple(bins),
        reliability=tuple(reliability),
    )


def _samples(run: RunLog) -> list[Sample]:
    samples: list[Sample] = []
    for row in _rows(_read_json(run.path / "stages/eval/samples.json")):
        measures = [key.removesuffix("_sft") for key in row if key.endswith("_sft")]
        marks = tuple((m, number(row.get(f"{m}_sft")), number(row.get(f"{m}_policy"))) for m in measures)
        prompt, sft, policy = (str(row.get(key) or "") for key in ("prompt", "sft", "policy"))
        samples.append(Sample(prompt, sft, policy, marks))
    return samples


def _groups(samples: list[Sample]) -> tuple[SampleGroup, ...]:
    """A fixed random draw from all, and the biggest gains and losses in gold (score where gold is missing)."""
    if not samples:
        return ()
    gains = [(_gain(sample, "gold"), sample) for sample in samples]
    measure = "gold"
    if all(gain is None for gain, _ in gains):
        measure, gains = "score", [(_gain(sample, "score"), sample) for sample in samples]
    ranked = sorted(((g, i) for i, (g, _) in enumerate(gains) if g is not None), key=lambda pair: -pair[0])
    best = [i for gain, i in ranked if gain > 0][:SAMPLES_PER_GROUP]
    worst = [i for gain, i in reversed(ranked) if gain < 0][:SAMPLES_PER_GROUP]
    drawn = sorted(random.Random(0).sample(range(len(samples)), min(SAMPLES_PER_GROUP, len(samples))))
    chosen = (
        ("Random", "drawn from all with a fixed seed, whatever their scores", drawn),
        ("Biggest gain", f"largest rise of {measure} from SFT to policy", best),
        ("Biggest loss", f"largest fall of {measure} from SFT to policy", worst),
    )
    return tuple(SampleGroup(title, why, tuple(samples[i] for i in index)) for title, why, index in chosen if index)


def _gain(sample: Sample, measure: str) -> float | None:
    for name, before, after in sample.marks:
        if name == measure and before is not None and after is not None and math.isfinite(after - before):
            return after - before
    return None


def stage_costs(run: RunLog) -> tuple[StageCost, ...]:
    recorded = section(run.run, "stages")
    seconds, memory = section(run.summary, "seconds"), section(run.summary, "peak_memory_gb")
    order = ["fetch", *STAGE_ORDER]
    names = sorted({*recorded, *seconds, *run.stages}, key=lambda n: (order.index(n) if n in order else len(order), n))
    costs: list[StageCost] = []
    for name in names:
        entry = section(recorded, name)
        spent, peak = number(entry.get("seconds")), number(entry.get("peak_memory_gb"))
        costs.append(
            StageCost(
                name,
                str(entry.get("status") or ("done" if name in seconds else "not recorded")),
                spent if spent is not None else number(seconds.get(name)),
                peak if peak is not None else number(memory.get(name)),
            )
        )
    return tuple(costs)


def _phases(ppo: StageLog | None) -> tuple[PhaseCost, ...]:
    """Seconds over all steps by phase; what the phases leave of the total is `other`."""
    if ppo is None:
        return ()
    totals = {}
    for phase in ("rollout", "score", "update", "checkpoint"):
        series = ppo.metrics.get(f"time/{phase}_s")
        if series is not None:
            totals[phase] = float(sum(v for v in series.values if math.isfinite(v)))
    whole = ppo.metrics.get("time/total_s")
    if whole is not None:
        rest = float(sum(v for v in whole.values if math.isfinite(v))) - sum(totals.values())
        if rest > 0.01 * sum(totals.values()):
            totals["other"] = rest
    everything = sum(totals.values())
    tokens = _tokens(ppo)
    return tuple(
        PhaseCost(
            name,
            spent,
            spent / everything if everything else 0.0,
            tokens / spent if tokens is not None and spent > 0 and name in ("rollout", "score", "update") else None,
            _median(ppo, f"throughput/{name}_limit/frac"),
        )
        for name, spent in totals.items()
    )


def _tokens(ppo: StageLog) -> float | None:
    """Response tokens of all steps."""
    rate, seconds = (ppo.metrics.get(key) for key in ("throughput/tokens_per_s", "time/total_s"))
    if rate is None or seconds is None or len(rate.values) != len(seconds.values):
        return None
    total = sum(float(a * b) for a, b in zip(rate.values, seconds.values, strict=True) if math.isfinite(a * b))
    return total or None


def _median(stage: StageLog | None, key: str) -> float | None:
    series = stage.metrics.get(key) if stage else None
    values = sorted(float(v) for v in series.values if math.isfinite(v)) if series is not None else []
    return values[len(values) // 2] if values else None


def _artifacts(run: RunLog) -> tuple[Artifact, ...]:
    """Frozen weights must hash the same before and after stage 4, trained ones must not."""
    artifacts: list[Artifact] = []
    for name, entry in section(run.lineage, "artifacts").items():
        if not isinstance(entry, dict):
            continue
        before, after = entry.get("sha256_before"), entry.get("sha256_after")
        frozen = name in FROZEN
        expected = (before == after) == frozen if before and after else None
        artifacts.append(Artifact(str(name), str(entry.get("path") or ""), before, after, frozen, expected))
    return tuple(artifacts)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # `not_recorded` names it


def _rows(value: Any) -> list[dict[str, Any]]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _count(row: dict[str, Any]) -> int | None:
    value = number(row.get("pairs"))
    return int(value) if value is not None and math.isfinite(value) else None
