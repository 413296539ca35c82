"""The traffic light. It follows the independent judge, never the score that was optimised."""

import math

from regard.report.model import Artifact, Invariant, Light, StageCost, Verdict
from regard.report.numbers import interval, number, section, show
from regard.runlog.reader import RunLog

FLUENCY_LIMIT = 1.5
"""Perplexity under the reference, policy over SFT, above which a better gold is not called simply better."""


def judge(
    run: RunLog, invariants: tuple[Invariant, ...], artifacts: tuple[Artifact, ...], stages: tuple[StageCost, ...]
) -> Verdict:
    """Broken checks outrank outcomes; an outcome outranks a missing check; without an outcome there is no verdict."""
    broken = [f"Before the first update this did not hold: {i.label}." for i in invariants if i.passed is False]
    broken += [
        f"The {a.name.replace('_', ' ')} {'changed' if a.frozen else 'did not change'} during stage 4."
        for a in artifacts
        if a.as_expected is False
    ]
    broken += [f"Stage {s.stage} failed." for s in stages if s.status == "failed"]
    light, outcome, reasons = _outcome(run, stages)
    text = str(run.summary.get("verdict") or outcome)
    if broken:
        return Verdict("bad", f"Not trustworthy. {text}" if run.summary else f"Broken: {broken[0]}", tuple(broken))
    if light == "good" and not (invariants and artifacts):
        light = "caution"
        reasons.append("Checks of the run itself are missing, see “Not recorded”.")
    return Verdict(light, text, tuple(reasons))


def _outcome(run: RunLog, stages: tuple[StageCost, ...]) -> tuple[Light, str, list[str]]:
    gold, ratio = section(run.summary, "gold"), number(section(run.summary, "perplexity").get("ratio"))
    ci95 = interval(gold.get("ci95"))
    if ci95 is None or not all(map(math.isfinite, ci95)):
        done = [stage.stage for stage in stages if stage.status == "done"]
        progress = f"Stages done: {', '.join(done)}." if done else "No stage is done."
        return "unknown", "No outcome yet: the run has not been judged before and after.", [progress]
    low, high = ci95
    reasons: list[str] = []
    if ratio is not None:
        reasons.append(f"Perplexity under the reference is {show(ratio)} times that of the SFT model.")
    score = number(section(run.summary, "score").get("difference"))
    if high < 0:
        if score is not None and score > 0:
            reasons.append(f"The score that was optimised went {show(score, signed=True)}: over-optimisation.")
        return "bad", "Worse by the independent judge.", reasons
    if low > 0 and ratio is not None and ratio <= FLUENCY_LIMIT:
        return "good", "Better by the independent judge.", reasons
    if low > 0:
        return "caution", "Better by the independent judge, but fluency fell or is unknown.", reasons
    return "caution", "No clear change: the interval contains 0.", reasons
