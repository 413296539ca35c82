"""The result of `regard verify` for a terminal."""

from collections.abc import Mapping
from typing import Any

from regard.report.numbers import show

ARMS = ("unchanged", "placebo", "generic", "fix")


def render_verify_text(result: Mapping[str, Any]) -> str:
    """The outcome first, then each change that was tried with its arms."""
    lines = [f"{result['run']['path']}: {result['outcome'].upper()}, forked at step {result['fork']['step']}"]
    for trial in result["trials"]:
        words = ", ".join(f"{c['key']} {show_value(c['from'])} → {show_value(c['to'])}" for c in trial["changes"])
        name = f"{trial['cause']}: " if trial["cause"] else ""
        lines += ["", f"{name}{words}", f"  {trial['outcome']}"]
        lines += [f"  {reason}" for reason in trial["reasons"]]
        failure = trial["failure"]
        lines.append(f"  The failure: {', '.join(failure) if isinstance(failure, list) else failure}.")
        if not trial["seeds"]:
            continue
        lines.append(f"  {'arm':<10} {'failure':>8} {'gold':>7} {'KL':>7} {'perplexity':>11} {'length':>7}")
        for arm in ARMS:
            runs = trial["arms"][arm]["runs"]
            failed = f"{sum(one['failed'] for one in runs)} of {len(runs)}"
            means = [sum(one[key] for one in runs) / len(runs) for key in ("gold", "kl", "perplexity_ratio", "length")]
            gold, kl, perplexity, length = (show(value) for value in means)
            lines.append(f"  {arm:<10} {failed:>8} {gold:>7} {kl:>7} {'× ' + perplexity:>11} {length:>7}")
        if trial["unchanged_is_bit_identical"]:
            lines.append("  The unchanged arm ended with the same weights as the run, bit for bit.")
    return "\n".join(lines) + "\n"


def show_value(value: object) -> str:
    return show(value) if isinstance(value, float) else str(value)
