"""The reference page of metrics, `docs/reference/metrics.md`, generated from the registry.

python -m regard.runlog.docs > docs/reference/metrics.md
"""

from itertools import groupby

from regard.runlog.metrics import METRICS, MetricSpec

_HEAD = """# Metrics

<!-- Generated from src/regard/runlog/metrics.py by `python -m regard.runlog.docs`; do not edit. -->

Every key that a stage writes to `stages/<stage>/metrics.jsonl`. A key is declared once, and a trainer cannot log any
other. Keys read `area/quantity/reduction`. "Better" is the direction in which the value should go; "neither" means that
both too much and too little are wrong, or that the number is a setting. Logarithms are natural. "Short name" is the
name of the quantity in the review rules.
"""


def metrics_markdown() -> str:
    """The page as Markdown: one section per area, one entry per key."""
    parts = [_HEAD]
    for area, specs in groupby(METRICS.values(), key=lambda spec: spec.area):
        parts.append(f"\n## {area}\n")
        parts += [_entry(spec) for spec in specs]
    return "".join(parts)


def _entry(spec: MetricSpec) -> str:
    facts = [
        ("Quantity", spec.quantity),
        ("Estimator", f"`{spec.estimator}`" if spec.estimator != "as measured" else spec.estimator),
        ("Policies", " against ".join(spec.policies) if spec.policies else None),
        ("Reduction", spec.reduction),
        ("Mask", spec.mask),
        ("Unit", spec.unit),
        ("Better", spec.direction),
        ("Short name", f"`{spec.canonical}`" if spec.canonical else None),
    ]
    lines = [f"* {name}: {value}" for name, value in facts if value is not None]
    return f"\n### `{spec.key}`\n\n{spec.description}\n\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(metrics_markdown(), end="")
