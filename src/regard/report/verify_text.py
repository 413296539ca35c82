"""The result of `regard verify` for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from regard.report.numbers import setting, show


def render_verify_text(result: Mapping[str, Any]) -> str:
    """The outcome first, then each change that was tried with its arms."""
    lines = [f"{result['run']['path']}: {result['outcome'].upper()}, forked at step {result['fork']['step']}"]
    if result.get("applied"):
        lines.append(f"The corrected run: {result['applied']['run']}, its recipe {result['applied']['recipe']}")
    for trial in result["trials"]:
        lines += ["", heading(trial), f"  {trial['outcome']}"]
        lines += [f"  {reason}" for reason in trial["reasons"]]
        failure = trial["failure"]
        lines.append(f"  The failure: {', '.join(failure) if isinstance(failure, list) else failure}.")
        if not trial["seeds"]:
            continue
        lines.append(f"  {'arm':<10} {'failure':>8} {'gold':>7} {'KL':>7} {'perplexity':>11} {'length':>7}")
        for arm, tried in trial["arms"].items():
            runs = tried["runs"]
            failed = f"{sum(one['failed'] for one in runs)} of {len(runs)}"
            gold, kl, perplexity, length = (_mean(runs, key) for key in ("gold", "kl", "perplexity_ratio", "length"))
            lines.append(f"  {arm:<10} {failed:>8} {gold:>7} {kl:>7} {'× ' + perplexity:>11} {length:>7}")
        if trial["unchanged_is_bit_identical"]:
            lines.append("  The unchanged arm ended with the same weights as the run, bit for bit.")
    return "\n".join(lines) + "\n"


def _mean(runs: Sequence[Mapping[str, Any]], key: str) -> str:
    values = [one[key] for one in runs]
    return show(None if None in values else sum(values) / len(values))


def heading(trial: Mapping[str, Any]) -> str:
    """The cause and the change that a trial is about."""
    changes = ", ".join(f"{c['key']} {setting(c['from'])} → {setting(c['to'])}" for c in trial["changes"])
    return f"{trial['cause']}: {changes}" if trial["cause"] else changes
