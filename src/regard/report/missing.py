"""What a report would need and the run does not hold. Named, because a silent gap reads as a pass."""

from collections.abc import Callable

from regard.report.invariants import INVARIANT_LABELS
from regard.report.model import Artifact, Invariant, Missing, PhaseCost, RewardModelReport, StageCost
from regard.report.numbers import interval, number, section
from regard.report.panels import POLICY_PANELS
from regard.runlog.reader import RunLog

FIGURES = {
    "gold": "whether the answers got better",
    "score": "how much of the optimised score was gained",
    "vader": "the rule-based second opinion",
    "kl": "how far the policy has moved",
    "perplexity": "whether the text stayed fluent",
    "length": "whether answers grew or shrank",
    "truncated": "how many answers were cut",
    "distinct_2": "whether answers repeat each other",
    "reward_model": "how good the reward model is",
}
IDENTITY = {
    "created": "when the run was made",
    "seed": "how to repeat the run",
    "git_revision": "which code made the run",
    "hardware": "what the times mean",
}


def not_recorded(
    run: RunLog,
    stages: tuple[StageCost, ...],
    invariants: tuple[Invariant, ...],
    artifacts: tuple[Artifact, ...],
    reward_model: RewardModelReport | None,
    phases: tuple[PhaseCost, ...],
    num_samples: int,
) -> tuple[Missing, ...]:
    missing: list[Missing] = []

    def add(what: str, consequence: str) -> None:
        missing.append(Missing(what, f"Cannot tell {consequence}."))

    for key, consequence in IDENTITY.items():
        if run.run.get(key) in (None, "", {}):
            add(f"run.json: {key}", consequence)
    if not run.config:
        add("config.yaml", "which settings were used")
    if not run.summary:
        add("summary.json", "the outcome: " + ", ".join(FIGURES.values()))
    else:
        for key, consequence in FIGURES.items():
            if not section(run.summary, key):
                add(f"summary.json: {key}", consequence)
        for key in ("gold", "score"):
            if section(run.summary, key) and interval(section(run.summary, key).get("ci95")) is None:
                add(f"summary.json: {key}.ci95", f"whether the change of {key} is more than chance")
    _missing_stages(run, stages, add)
    if "ppo" in run.stages:
        metrics = run.stages["ppo"].metrics
        for plan in POLICY_PANELS:
            for key, label in plan.keys:
                if key not in metrics or not len(metrics[key].steps):
                    add(key, f"the course of “{label}”")
        if not invariants:
            add("stages/ppo: invariant/*", "whether sampler, trainer and reference agreed before the first update")
        recorded = {invariant.key for invariant in invariants}
        for key, label in INVARIANT_LABELS.items() if invariants else ():
            if key not in recorded:
                add(key, f"whether this held before the first update: {label}")
        for invariant in invariants:
            if invariant.passed is None:
                add(f"limit of {invariant.key}", f"whether this holds: {invariant.label}")
        if not phases:
            add("stages/ppo: time/*", "which phase of the steps took the time")
        if not run.stages["ppo"].rollout_steps:
            add("stages/ppo/rollouts", "what the policy wrote during training")
    if not artifacts:
        add("lineage.json: artifacts", "whether the reference and the reward model stayed as they were")
    for artifact in artifacts:
        if artifact.as_expected is None:
            add(f"lineage.json: hashes of {artifact.name}", "whether its weights changed")
    if reward_model is None or not (reward_model.bins or reward_model.reliability):
        add("stages/rm/evaluation.json", "the reward model's accuracy by margin and its calibration")
    else:
        for name, consequence in (
            ("human_ceiling", "how good the reward model could be"),
            ("kept_rater_accuracy", "whether the reward model holds for raters it never saw"),
            ("ece", "whether its probabilities are calibrated"),
            ("score_length_spearman", "whether length alone pleases it"),
        ):
            if getattr(reward_model, name) is None:
                add(f"stages/rm/evaluation.json: {name}", consequence)
    if not num_samples:
        add("stages/eval/samples.json", "what the answers look like before and after")
    return tuple(missing)


def _missing_stages(run: RunLog, stages: tuple[StageCost, ...], add: Callable[[str, str], None]) -> None:
    by_name = {stage.stage: stage for stage in stages}
    for name in ("sft", "rm", "ppo", "eval"):
        stage = by_name.get(name)
        if stage is None:
            add(f"stage {name}", "anything about it: it has not begun or left nothing")
        elif stage.status != "done":
            add(f"end of stage {name}", f"how it ends: its status is “{stage.status}”")
    for stage in stages:
        if stage.seconds is None:
            add(f"seconds of stage {stage.stage}", "how long it took")
        if number(stage.peak_memory_gb) is None:
            add(f"peak memory of stage {stage.stage}", "how much memory it needed")
