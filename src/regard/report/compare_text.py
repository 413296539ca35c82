"""The result of `regard compare` for a terminal."""

from collections.abc import Mapping
from typing import Any

from regard.report.numbers import setting, show


def render_compare_text(result: Mapping[str, Any]) -> str:
    """Configuration, outcome, where the runs parted, and what each bought with its KL."""
    names = letters(len(result["runs"]))
    lines = [f"{name}  {run['path']}" for name, run in zip(names, result["runs"], strict=True)]
    lines += ["", "Configuration"]
    lines += _table(names, {key: [setting(v) for v in row] for key, row in result["config"].items()}) or ["  the same"]
    if result["outcome"]:
        lines += ["", "Outcome"]
        lines += _table(names, {key: [show(v) for v in row] for key, row in result["outcome"].items()})
    lines += ["", "Where they parted"]
    for name, parted in zip(names[1:], result["parted"], strict=True):
        lines += [f"  {names[0]} and {name}: {sentence}" for sentence in parting_sentences(parted)]
    lines += ["", "Gold against KL"]
    for name, one in zip(names, result["frontier"], strict=True):
        lines += [f"  {name}: {sentence}" for sentence in frontier_sentences(one)]
    return "\n".join(lines) + "\n"


def letters(count: int) -> list[str]:
    """A, B, … Z, then run 27 and so on."""
    return [chr(ord("A") + place) if place < 26 else f"run {place + 1}" for place in range(count)]


def parting_sentences(parted: Mapping[str, Any]) -> list[str]:
    """What `parting` found, in words."""
    if not parted["metrics_compared"]:
        return ["no metric in common."]
    first = parted["first_difference"]
    if first is None:
        return [f"all {parted['metrics_compared']} metrics that both logged are equal, bit for bit."]
    sentences = [f"the first number that differs is {first['metrics'][0]} at step {first['step']} of {first['stage']}."]
    for one in parted["beyond_noise"]:
        a, b = (show(value) for value in one["values"])
        sentences.append(f"{one['metric']} leaves its noise at step {one['step']} of {one['stage']}: {a} against {b}.")
    if not parted["beyond_noise"]:
        sentences.append("no metric leaves its noise for good.")
    return sentences


def frontier_sentences(one: Mapping[str, Any]) -> list[str]:
    """The laws and the checkpoint of one run, in words."""
    if "missing" in one:
        return [f"cannot be told; the record lacks {', '.join(one['missing'])}."]
    sentences: list[str] = []
    for law in one["laws"]:
        alpha, beta = (f"{show(law[k])} ({show_pair(law[k + '_ci95'])})" for k in ("alpha", "beta"))
        sentences.append(f"{law['law']} law: α {alpha}, β {beta}, R² {show(law['r2'])}; {_peak(law)}.")
    if not one["laws"]:
        sentences.append(f"too few steps for a law ({len(one['steps'])}).")
    choice = one["checkpoint"]
    if choice:
        better = show(choice["gold"] - choice["gold_at_the_end"], signed=True)
        last = choice["step"] == one["steps"][-1]
        why = "no earlier step is surely better" if last else f"gold there is {better} against the end"
        kept = choice["nearest_kept"]
        where = "" if kept is None or kept == choice["step"] else f"; the nearest kept checkpoint is step {kept}"
        sentences.append(f"take step {choice['step']}: {why}{where}.")
    return sentences


def _peak(law: Mapping[str, Any]) -> str:
    if law["peak_kl"] is None:
        return "gold does not turn down"
    interval = f" ({show_pair(law['peak_ci95'])})" if law["peak_ci95"] else ", no interval: some resamples do not turn"
    outside = "" if law["peak_seen"] else "; outside what the run went through"
    return f"peak at KL {show(law['peak_kl'])} nats{interval}{outside}"


def show_pair(pair: Any) -> str:
    return f"{show(pair[0])} … {show(pair[1])}"


def _table(names: list[str], rows: Mapping[str, list[str]]) -> list[str]:
    if not rows:
        return []
    first = max(map(len, rows))
    widths = [max(len(name), *(len(row[i]) for row in rows.values())) for i, name in enumerate(names)]
    head = "  " + " " * first + "".join(f"  {name:>{width}}" for name, width in zip(names, widths, strict=True))
    body = [
        f"  {key:<{first}}" + "".join(f"  {cell:>{width}}" for cell, width in zip(row, widths, strict=True))
        for key, row in rows.items()
    ]
    return [head, *body]
