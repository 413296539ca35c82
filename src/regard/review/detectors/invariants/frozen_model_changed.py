"""INV002 frozen-model-changed: the reference or the reward model has other weights after training than before.

## What it detects
SHA-256 of the weights of the reference and of the reward model, before and after stage 4.

## Why it matters
A reference that follows the policy makes the KL small whatever the policy does, and the leash is gone without a trace
in the curves. A reward model that changes makes scores of different steps incomparable.

## How it decides
Fires if the two hashes of one frozen model differ.

## When it cannot tell
The lineage has no hashes, as in every log but Regard's own, or the run has not finished stage 4.

## False alarms
None: equal weights have equal hashes.

## What to do
Look for shared parameters: a reference made by assignment instead of a copy, an adapter that is not switched off, an
optimiser that was given all parameters.

## References
Ziegler et al. 2019 (arXiv 1909.08593), section 2.2: the penalty is against the fixed initial policy.
"""

from typing import Any, cast

from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.runlog.reader import RunLog, StageLog

FROZEN = ("reference", "reward_model")


@detector("INV002", "frozen-model-changed", "error", POLICY_STAGES)
def frozen_model_changed(run: RunLog, stage: StageLog) -> Outcome:
    artifacts = cast(dict[str, Any], run.lineage.get("artifacts") or {})
    hashes = {name: (_hash(artifacts, name, "before"), _hash(artifacts, name, "after")) for name in FROZEN}
    known = {name: pair for name, pair in hashes.items() if all(pair)}
    if not known:
        missing = tuple(f"lineage.json: artifacts.{name}" for name in FROZEN)
        return CannotTell("There are no hashes of the frozen models' weights before and after.", missing)
    changed = [name for name, (before, after) in known.items() if before != after]
    if not changed:
        return Clear(f"{' and '.join(known)} have the weights they began with.")
    last = max((int(series.steps[-1]) for series in stage.metrics.values()), default=0)
    return Fired(
        summary=f"Frozen, but changed by training: {', '.join(changed)}.",
        evidence=tuple(Evidence(f"lineage/{name}", 0.0, 1.0, last) for name in changed),
        onset=Onset(0, (0, last)),
        until=last,
        confidence=0.99,
    )


def _hash(artifacts: dict[str, Any], name: str, when: str) -> str | None:
    entry = artifacts.get(name)
    value = cast(dict[str, Any], entry).get(f"sha256_{when}") if isinstance(entry, dict) else None
    return value if isinstance(value, str) else None
