"""What the arms of an experiment show: is the failure gone, is the result better than every control, is all else whole?

Judged on gold, never on the score that was optimised. Arms are paired: the same seed, prompts and random numbers.
"""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit  # pyright: ignore[reportMissingTypeStubs]

from regard.errors import RunLogError
from regard.review import Review
from regard.review import review as review_run
from regard.runlog.reader import StageLog, read_run
from regard.verify.arms import CONTROLS, FIX, UNCHANGED, WHY, plain_changes

Outcome = Literal["proven", "not proven", "made worse", "cannot be decided"]

GOLD = "gold/judge/mean"
RESAMPLES = 4000
LESS_FLUENT = 1.5
"""Perplexity under the reference, as a multiple of the SFT model's; what the unchanged run has is allowed too."""
LESS_VARIED = 0.5
"""Share of the SFT model's distinct bigrams; likewise. It counts where the review sees a loss of variety too: right
answers to a narrow task are alike."""
COLLAPSED = frozenset({"POL002", "TXT003", "TXT004"})
"""Findings of a review that say whether variety was lost: entropy collapse, repetition, answers alike."""
SAME_PLACE = 0.5
"""Share of the unchanged run's KL that a fix may not reach if it goes on at its last pace for as long again."""
NEARER = 0.9
"""A fix that still moves is only late if its KL is below this share of the unchanged run's."""
SPEED = frozenset(
    f"ppo.{key}"
    for key in ("learning_rate", "clip_range", "clip_range_high", "epochs", "early_stop_kl", "max_grad_norm",
                "num_minibatches", "warmup_steps", "steps")
)  # fmt: skip
"""Keys that say how fast training goes; leash and reward say where to."""


@dataclass(frozen=True)
class Target:
    """The failure that is to go away.

    Attributes:
        codes: findings that the cause explains.
        cause: id of the cause; it stands for the failure where no finding does.
    """

    codes: frozenset[str]
    cause: str | None

    def seen(self, review: Review) -> bool:
        found = {one.detector.code for one in review.findings if one.severity != "info"}
        if self.codes:
            return bool(found & self.codes)
        return any(one.cause.id == self.cause and one.status == "diagnosed" for one in review.causes)


@dataclass(frozen=True)
class ArmRun:
    """One finished run of one arm."""

    arm: str
    seed: int
    path: Path
    gold: NDArray[np.float64]
    """[prompts] of the policy's answers to the held-out prompts."""
    failed: bool
    """Whether the failure is there."""
    errors: frozenset[str]
    """Codes of every finding of severity error."""
    collapsed: bool
    """Whether the review says that variety was lost."""
    perplexity_ratio: float
    distinct_ratio: float
    length: float
    kl: float
    """Nats per sequence, on the held-out prompts."""
    kl_curve: NDArray[np.float64]
    """[steps] KL to the reference while it trained, in one unit for all arms."""
    gold_curve: NDArray[np.float64]
    """[steps] mean gold of the rollouts, at the same steps."""

    def to_json(self) -> dict[str, Any]:
        return {
            "arm": self.arm,
            "seed": self.seed,
            "path": str(self.path),
            "gold": _known(float(self.gold.mean())),
            "failed": self.failed,
            "errors": sorted(self.errors),
            "kl": _known(self.kl),
            "perplexity_ratio": _known(self.perplexity_ratio),
            "distinct_2_ratio": _known(self.distinct_ratio),
            "length": _known(self.length),
        }


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def read_arm(path: Path, arm: str, seed: int, target: Target, review: Review | None = None) -> ArmRun:
    """Read the record of one arm.

    Args:
        review: of that record; made here where it is not given.
    Raises:
        RunLogError: the record is not there, or not finished.
    """
    run = read_run(path)
    answers = path / "stages" / "eval" / "judged.json"
    if not run.summary or not answers.is_file():
        raise RunLogError(f"{path} is not finished. Type the same command again; what is done is not done again.")
    judged = json.loads(answers.read_text(encoding="utf-8"))
    review = review or review_run(run)
    summary = run.summary
    kl_curve, gold_curve = curves(run.stages["ppo"], "kl/policy_ref_k1/seq_sum")
    return ArmRun(
        arm=arm,
        seed=seed,
        path=path,
        gold=np.asarray(judged["gold"]["policy"], dtype=np.float64),
        failed=target.seen(review),
        errors=frozenset(one.detector.code for one in review.findings if one.severity == "error"),
        collapsed=lost_variety(review),
        perplexity_ratio=float(summary["perplexity"]["ratio"]),
        distinct_ratio=float(summary["distinct_2"]["policy"] / max(summary["distinct_2"]["sft"], 1e-9)),
        length=float(summary["length"]["policy"]),
        kl=float(summary["kl"]["per_sequence"]),
        kl_curve=kl_curve,
        gold_curve=gold_curve,
    )


def lost_variety(review: Review) -> bool:
    return any(one.detector.code in COLLAPSED for one in review.findings)


def curves(stage: StageLog, kl: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """KL and gold at the steps that have both; KL alone, with NaN beside it, where gold was not logged."""
    one = stage.metrics[kl]
    if GOLD not in stage.metrics:
        finite = one.values[np.isfinite(one.values)]
        return finite, np.full(len(finite), np.nan)
    other = stage.metrics[GOLD]
    _, at_one, at_other = np.intersect1d(one.steps, other.steps, return_indices=True)
    a, b = one.values[at_one], other.values[at_other]
    finite = np.isfinite(a) & np.isfinite(b)
    return a[finite], b[finite]


@dataclass(frozen=True)
class Difference:
    """Mean gold of the fix less that of a control."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.3f} (95 % {self.low:+.3f} … {self.high:+.3f})"


def difference(fix: Sequence[ArmRun], control: Sequence[ArmRun]) -> Difference:
    """fix − control over pairs of seed and prompt, with a 95 % bootstrap interval over seeds and, within, prompts.

    Prompts of one seed share their training run, so seeds are drawn first (Davison & Hinkley 1997, section 3.8). Where
    only a mean per run is known, Student's t over seeds.
    """
    return paired_difference([one.gold for one in fix], [one.gold for one in control])


def paired_difference(new: Sequence[ArrayLike], old: Sequence[ArrayLike]) -> Difference:
    """As `difference`, of [seeds][prompts] values by any judge. Where an arm has fewer held-out prompts, they are the
    first of the others', and those are compared."""
    shared = min(len(np.asarray(one)) for one in (*new, *old))
    first, second = (np.asarray([np.asarray(one)[:shared] for one in arm], dtype=np.float64) for arm in (new, old))
    gaps = first - second
    if gaps.shape[1] == 1:
        return _by_seeds(gaps[:, 0])
    random = np.random.default_rng(0)
    num_seeds, num_prompts = gaps.shape
    seeds = random.integers(0, num_seeds, (RESAMPLES, num_seeds))
    means = np.zeros(RESAMPLES)
    for column in range(num_seeds):
        prompts = random.integers(0, num_prompts, (RESAMPLES, num_prompts))
        means += gaps[seeds[:, column, None], prompts].mean(1) / num_seeds
    low, high = np.quantile(means, [0.025, 0.975])
    return Difference(float(gaps.mean()), float(low), float(high))


def _by_seeds(gaps: NDArray[np.float64]) -> Difference:
    mean, count = float(gaps.mean()), len(gaps)
    if count < 2:
        return Difference(mean, -math.inf, math.inf)
    half = float(stdtrit(count - 1, 0.975) * gaps.std(ddof=1) / math.sqrt(count))
    return Difference(mean, mean - half, mean + half)


@dataclass(frozen=True)
class Judgement:
    """What an experiment says.

    Attributes:
        outcome: proven only if the failure came again without the change, is gone with it, gold is better than in all
            every control and nothing else broke.
        reasons: one sentence for each condition that decided.
        against: the fix's gold against each control.
        open: more seeds could still change the outcome.
        cured: the failure is gone in every run of the fix and there in every run of every control, nothing else broke,
            and gold is surely worse than in no control. A failure that costs no gold can be cured, never proven.
    """

    outcome: Outcome
    reasons: tuple[str, ...]
    against: Mapping[str, Difference]
    open: bool
    cured: bool = False


def trial_json(
    cause: str | None,
    changes: Mapping[str, Mapping[str, tuple[Any, Any]]],
    target: Target,
    runs: Mapping[str, Sequence[ArmRun]],
    judgement: Judgement,
    bit_identical: bool | None = None,
) -> dict[str, Any]:
    """One trial as `verify.json` has it.

    Args:
        changes: arm to what it changes.
        runs: arm to its runs.
        bit_identical: whether the unchanged arm ended with the run's own weights; None where that is not known.
    """
    return {
        "cause": cause,
        "changes": plain_changes(changes[FIX]),
        "failure": sorted(target.codes) or target.cause,
        "unchanged_is_bit_identical": bit_identical,
        "seeds": [one.seed for one in runs[FIX]],
        "arms": {
            name: {"changes": plain_changes(one), "why": WHY[name], "runs": [run.to_json() for run in runs[name]]}
            for name, one in changes.items()
        },
        "outcome": judgement.outcome,
        "cured": judgement.cured,
        "reasons": list(judgement.reasons),
        "against": {
            name: {"difference": gap.mean, "ci95": [gap.low, gap.high]} for name, gap in judgement.against.items()
        },
    }


def judge(arms: Mapping[str, Sequence[ArmRun]], keys: Collection[str] = ()) -> Judgement:
    """Judge arms of the same seeds in the same order; a control may be missing, the unchanged one not.

    Args:
        keys: what the fix changes. One that only sets the speed must also have more gold than the unchanged run had at
            the same KL: less of a failure at the same step is what any shorter step gives.
    """
    fix, unchanged = arms[FIX], arms[UNCHANGED]
    count = len(fix)
    controls = [name for name in CONTROLS if name in arms]
    against = {name: difference(fix, arms[name]) for name in controls}
    came_again = sum(one.failed for one in unchanged)
    if came_again * 2 < count:
        reason = f"Unchanged, the failure came again in {came_again} of {count} runs, so its absence proves nothing."
        return Judgement("cannot be decided", (reason,), against, open=False)
    left = sum(one.failed for one in fix)
    reasons: list[str] = []
    if left:
        reasons.append(f"With the change the failure is still there in {left} of {count} runs.")
    if against[UNCHANGED].high < 0:
        reasons.append(f"Gold is worse than unchanged by {against[UNCHANGED]}.")
        return Judgement("made worse", tuple(reasons), against, open=False)
    not_better = [name for name in controls if against[name].low <= 0]
    reasons += [f"Gold is not surely better than in the arm '{name}': {against[name]}." for name in not_better]
    damage = broken(fix, unchanged)
    reasons += damage
    ahead = ahead_at_equal_kl(fix, unchanged)
    same_way = ahead is None or ahead.low <= 0
    if late(fix, unchanged) and same_way:
        reasons.append(
            "With the change the KL still rises so fast that it may only arrive later, and at equal KL gold is not "
            "surely above that of the unchanged run."
        )
        damage.append(reasons[-1])
    if keys and SPEED.issuperset(keys) and same_way:
        found = f"by {ahead}" if ahead else "as far as the curves say"
        reasons.append(
            "The change only sets how fast training goes, and at equal KL its gold is not surely above that of the "
            f"unchanged run ({found}): it may only be earlier on the same way."
        )
        damage.append(reasons[-1])
    worse = any(against[name].high < 0 for name in controls)
    cured = count > 1 and not (left or damage or worse) and all(one.failed for name in controls for one in arms[name])
    if reasons:
        if cured:
            reasons.append(
                "The failure is gone with the change in every run and there in every control: the change removes it. "
                "That the failure costs gold is not shown."
            )
        return Judgement(
            "not proven", tuple(reasons), against, open=not (left == count or damage or worse), cured=cured
        )
    return Judgement(
        "proven",
        (
            f"Unchanged, the failure came again in {came_again} of {count} runs; with the change in none.",
            *(f"Gold against the arm '{name}': {against[name]}." for name in controls),
        ),
        against,
        open=False,
        cured=cured,
    )


def broken(fix: Sequence[ArmRun], unchanged: Sequence[ArmRun]) -> list[str]:
    """What the change damaged, in sentences."""
    found: list[str] = []
    new = sorted({code for one, other in zip(fix, unchanged, strict=True) for code in one.errors - other.errors})
    if new:
        found.append(f"With the change there are new errors: {', '.join(new)}.")
    fluent, allowed = _mean(fix, "perplexity_ratio"), max(LESS_FLUENT, _mean(unchanged, "perplexity_ratio"))
    if fluent > allowed:
        found.append(f"The text is less fluent: perplexity × {fluent:.2f} of the SFT model's, over {allowed:.2f}.")
    varied, least = _mean(fix, "distinct_ratio"), min(LESS_VARIED, _mean(unchanged, "distinct_ratio"))
    alike = sum(one.collapsed for one in fix)
    if varied < least and alike * 2 > len(fix):
        found.append(
            f"The text is less varied: distinct bigrams × {varied:.2f} of the SFT model's, under {least:.2f}, and in "
            f"{alike} of {len(fix)} runs the review says so."
        )
    return found


def late(fix: Sequence[ArmRun], unchanged: Sequence[ArmRun]) -> bool:
    """Whether most runs of the fix are on their way to the same place: at the pace of their last quarter they would
    reach half of the unchanged run's KL in as many steps again."""
    moving = [
        _going_on(one.kl_curve) >= SAME_PLACE * _level(other.kl_curve)
        and _level(one.kl_curve) < NEARER * _level(other.kl_curve)
        and _pace(one.kl_curve) > 0
        for one, other in zip(fix, unchanged, strict=True)
    ]
    return sum(moving) * 2 > len(moving)


def ahead_at_equal_kl(fix: Sequence[ArmRun], unchanged: Sequence[ArmRun]) -> Difference | None:
    """Gold of the fix in its last quarter less gold of the unchanged run when it first had that KL, over seeds.

    None where a curve is too short, has no gold, or the unchanged run never came so far.
    """
    gaps: list[float] = []
    for one, other in zip(fix, unchanged, strict=True):
        quarter = len(one.kl_curve) // 4
        if quarter < 2 or len(other.kl_curve) < 8:
            return None
        width = max(3, len(other.kl_curve) // 10)
        kl, gold = (np.convolve(x, np.ones(width) / width, "valid") for x in (other.kl_curve, other.gold_curve))
        reached = np.median(one.kl_curve[-quarter:])
        there = np.flatnonzero(kl >= reached)
        if not len(there):
            return None
        around = slice(max(0, there[0] - 1), there[0] + 1)
        gaps.append(float(one.gold_curve[-quarter:].mean() - np.interp(reached, kl[around], gold[around])))
    return _by_seeds(np.asarray(gaps)) if np.isfinite(gaps).all() else None


def _level(curve: NDArray[np.float64]) -> float:
    """Median of the last quarter, which one odd step does not move; 0 for a curve too short to have one."""
    quarter = len(curve) // 4
    return float(np.median(curve[-quarter:])) if quarter else 0.0


def _pace(curve: NDArray[np.float64]) -> float:
    """Growth from the third to the last quarter, beyond twice the scatter of their difference; else 0."""
    quarter = len(curve) // 4
    if not quarter:
        return 0.0
    third, last = curve[-2 * quarter : -quarter], curve[-quarter:]
    growth = float(np.median(last) - np.median(third))
    scatter = float(np.std(np.diff(curve[-2 * quarter :]))) / np.sqrt(quarter)
    return growth if growth > 2 * scatter else 0.0


def _going_on(curve: NDArray[np.float64]) -> float:
    """Where four more quarters at the last pace lead."""
    return _level(curve) + 4 * _pace(curve)


def _mean(runs: Sequence[ArmRun], name: str) -> float:
    return float(np.mean([getattr(one, name) for one in runs]))
