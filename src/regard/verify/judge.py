"""What the arms of an experiment show: is the failure gone, is the result better than every control, is all else whole?

Judged on gold, never on the score that was optimised. Arms are paired: the same seed, prompts and random numbers.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from regard.errors import RunLogError
from regard.review import Review
from regard.review import review as review_run
from regard.runlog.reader import read_run
from regard.verify.arms import CONTROLS, FIX, UNCHANGED

Outcome = Literal["proven", "not proven", "made worse", "cannot be decided"]

RESAMPLES = 4000
LESS_FLUENT = 1.5
"""Perplexity under the reference, as a multiple of the SFT model's; what the unchanged run has is allowed too."""
LESS_VARIED = 0.5
"""Share of the SFT model's distinct bigrams; likewise."""
STILL_RISING = 0.15
"""Growth of the KL from the third to the last quarter, as a share of the last, from which it has not settled."""
NEARER = 0.9
"""A fix that has not settled is only late if its KL is below this share of the unchanged run's."""


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
    perplexity_ratio: float
    distinct_ratio: float
    length: float
    kl: float
    """Nats per sequence, on the held-out prompts."""
    kl_curve: NDArray[np.float64]
    """[steps] nats per sequence, while it trained."""

    def to_json(self) -> dict[str, Any]:
        return {
            "arm": self.arm,
            "seed": self.seed,
            "path": str(self.path),
            "gold": float(self.gold.mean()),
            "failed": self.failed,
            "errors": sorted(self.errors),
            "kl": self.kl,
            "perplexity_ratio": self.perplexity_ratio,
            "distinct_2_ratio": self.distinct_ratio,
            "length": self.length,
        }


def read_arm(path: Path, arm: str, seed: int, target: Target) -> ArmRun:
    """Read and review the record of one arm.

    Raises:
        RunLogError: the record is not there, or not finished.
    """
    run = read_run(path)
    answers = path / "stages" / "eval" / "judged.json"
    if not run.summary or not answers.is_file():
        raise RunLogError(f"{path} is not finished. Type the same command again; what is done is not done again.")
    judged = json.loads(answers.read_text(encoding="utf-8"))
    review = review_run(run)
    summary = run.summary
    curve = run.stages["ppo"].metrics["kl/policy_ref_k1/seq_sum"]
    return ArmRun(
        arm=arm,
        seed=seed,
        path=path,
        gold=np.asarray(judged["gold"]["policy"], dtype=np.float64),
        failed=target.seen(review),
        errors=frozenset(one.detector.code for one in review.findings if one.severity == "error"),
        perplexity_ratio=float(summary["perplexity"]["ratio"]),
        distinct_ratio=float(summary["distinct_2"]["policy"] / max(summary["distinct_2"]["sft"], 1e-9)),
        length=float(summary["length"]["policy"]),
        kl=float(summary["kl"]["per_sequence"]),
        kl_curve=curve.values[np.isfinite(curve.values)],
    )


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

    Prompts of one seed share their training run, so seeds are drawn first (Davison & Hinkley 1997, section 3.8).
    """
    gaps = np.stack([one.gold - other.gold for one, other in zip(fix, control, strict=True)])
    random = np.random.default_rng(0)
    num_seeds, num_prompts = gaps.shape
    seeds = random.integers(0, num_seeds, (RESAMPLES, num_seeds))
    means = np.zeros(RESAMPLES)
    for column in range(num_seeds):
        prompts = random.integers(0, num_prompts, (RESAMPLES, num_prompts))
        means += gaps[seeds[:, column, None], prompts].mean(1) / num_seeds
    low, high = np.quantile(means, [0.025, 0.975])
    return Difference(float(gaps.mean()), float(low), float(high))


@dataclass(frozen=True)
class Judgement:
    """What an experiment says.

    Attributes:
        outcome: proven only if the failure came again without the change, is gone with it, gold is better than in all
            three controls and nothing else broke.
        reasons: one sentence for each condition that decided.
        against: the fix's gold against each control.
        open: more seeds could still change the outcome.
    """

    outcome: Outcome
    reasons: tuple[str, ...]
    against: Mapping[str, Difference]
    open: bool


def judge(arms: Mapping[str, Sequence[ArmRun]]) -> Judgement:
    """Judge arms of the same seeds in the same order."""
    fix, unchanged = arms[FIX], arms[UNCHANGED]
    count = len(fix)
    against = {name: difference(fix, arms[name]) for name in CONTROLS}
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
    not_better = [name for name in CONTROLS if against[name].low <= 0]
    reasons += [f"Gold is not surely better than in the arm '{name}': {against[name]}." for name in not_better]
    damage = broken(fix, unchanged)
    reasons += damage
    if late(fix, unchanged):
        reasons.append("With the change the KL is lower and still rising at the end: it may only arrive later.")
        damage.append(reasons[-1])
    if reasons:
        hopeless = left == count or bool(damage) or any(against[name].high < 0 for name in CONTROLS)
        return Judgement("not proven", tuple(reasons), against, open=not hopeless)
    return Judgement(
        "proven",
        (
            f"Unchanged, the failure came again in {came_again} of {count} runs; with the change in none.",
            *(f"Gold against the arm '{name}': {against[name]}." for name in CONTROLS),
        ),
        against,
        open=False,
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
    if varied < least:
        found.append(f"The text is less varied: distinct bigrams × {varied:.2f} of the SFT model's, under {least:.2f}.")
    return found


def late(fix: Sequence[ArmRun], unchanged: Sequence[ArmRun]) -> bool:
    """Whether most runs of the fix are still on their way at the end: a smaller step is not another destination."""
    moving = [
        _still_rising(one.kl_curve) and one.kl < NEARER * other.kl for one, other in zip(fix, unchanged, strict=True)
    ]
    return sum(moving) * 2 > len(moving)


def _still_rising(curve: NDArray[np.float64]) -> bool:
    """By the medians of the third and the last quarter, which one odd step does not move."""
    quarter = len(curve) // 4
    if quarter == 0:
        return False
    before, end = np.median(curve[-2 * quarter : -quarter]), np.median(curve[-quarter:])
    return bool(end > 0 and end - before > STILL_RISING * end)


def _mean(runs: Sequence[ArmRun], name: str) -> float:
    return float(np.mean([getattr(one, name) for one in runs]))
