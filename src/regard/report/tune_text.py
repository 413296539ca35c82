"""The result of `regard tune` for a terminal."""

from collections.abc import Mapping
from typing import Any

from regard.report.numbers import show


def render_tune_text(result: Mapping[str, Any]) -> str:
    """The outcome and the setting to take first, then what every trial gave."""
    goal, best = result["goal"], result["recommended"]
    lines = [f"{result['run']['path']}: {result['outcome']}"]
    if best is not None:
        words = " ".join(f"--set {key}={value}" for key, value in best.items())
        lines.append(f"  Take: regard run … {words}")
    if "difference" in result:
        low, high = result["ci95"]
        seeds = len(result["seeds"])
        lines.append(f"  {goal}: {result['difference']:+.3f} (95 % {low:+.3f} … {high:+.3f}) over {seeds} seed(s)")
        for name, cost in result["costs"].items():
            lines.append(f"  {name}: {show(cost['now'])} → {show(cost['best'])}")
        for bound, count in result["bounds_broken"].items():
            if count:
                lines.append(f"  {bound} is broken in {count} of {seeds} seeds")
    lines += ["", f"  {'trial':>5} {goal:>7} {'KL':>7}  setting"]
    for trial in result["trials"]:
        words = ", ".join(f"{key.removeprefix('ppo.')} {value:.3g}" for key, value in trial["params"].items())
        if "goal" in trial:
            kept = "" if trial["kept"] else f"  beyond the bounds: {_beyond(trial['bounds'])}"
            lines.append(f"  {trial['number']:>5} {show(trial['goal']):>7} {show(trial['kl']):>7}  {words}{kept}")
        else:
            lines.append(f"  {trial['number']:>5} {'–':>7} {'–':>7}  {words}  stopped early")
    lines += ["", f"  Trial 0 is the run itself. Time of the trials: {result['seconds']:.0f} s."]
    return "\n".join(lines)


def _beyond(bounds: Mapping[str, float]) -> str:
    return ", ".join(f"{name} has {show(value)}" for name, value in bounds.items())
