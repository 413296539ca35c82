"""A cause as text and as plain values: what `regard explain` prints and the reference page is made of."""

from typing import Any

from regard.review.causes import MUST, Cause, Change, all_causes


def cause_facts(cause: Cause) -> dict[str, Any]:
    """A cause as plain values."""
    facts = {key: getattr(cause, key) for key in cause.__dataclass_fields__}
    changes = [{"key": one.key, "to": _to(one), "foreign": one.elsewhere()} for one in cause.changes]
    return facts | {"predicts": dict(cause.predicts), "look_alikes": dict(cause.look_alikes), "changes": changes}


def _to(change: Change) -> object:
    if change.sized_by is not None:
        return "a value sized by the record"
    return "a multiple of the present value" if callable(change.to) else change.to


def cause_doc(cause: Cause) -> str:
    """A cause as a page: the same text for `regard explain` and the reference."""
    others = all_causes()
    lines = [f"{cause.id} {cause.name}: {cause.title}", "", cause.layman, "", "## What it is", cause.what, ""]
    lines += [f"Stage: {cause.stage}. Root onset: {'step 0' if cause.since == 'start' else 'where it first shows'}."]
    lines += ["", "## What shows it", *(f"- `{name}` ({_surely(p)})" for name, p in cause.predicts.items())]
    if cause.decided_by:
        lines += ["", "Set apart by " + ", ".join(f"`{name}`" for name in cause.decided_by) + "."]
    lines += ["", "## What it is mistaken for"]
    lines += [f"- {one} {others[one].name if one in others else ''}: {how}" for one, how in cause.look_alikes.items()]
    lines += ["", "## What to change", *(_change(one) for one in cause.changes), "", cause.why]
    lines += ["", "## What would overturn it", cause.would_overturn]
    if cause.leads_to:
        lines += ["", "## What follows from it", ", ".join(cause.leads_to)]
    if cause.passes_for:
        lines += ["", "## What it leaves the evidence of", ", ".join(cause.passes_for)]
    if cause.references:
        lines += ["", "## References", cause.references]
    return "\n".join(lines)


def _change(change: Change) -> str:
    elsewhere = ", ".join(f"{name} `{key}`" for name, key in change.elsewhere().items())
    return f"- `{change.key}`: {_to(change)}" + (f". Elsewhere: {elsewhere}" if elsewhere else "")


def _surely(p: float) -> str:
    if p >= MUST:
        return "it cannot be without"
    return "always" if p >= 0.9 else "usually" if p >= 0.7 else "often" if p >= 0.4 else "sometimes"
