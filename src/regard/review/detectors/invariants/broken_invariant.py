"""INV001 broken-invariant: something that must hold before the first update does not.

## What it detects
Before the first update: ratio of new to old policy (must be 1), KL to the reference (0), the difference of two
identical forward passes (0), of padded and unpadded passes, of one batch and micro-batches, of sampler and trainer.

## Why it matters
Every later curve is computed from these quantities. If two scorings of the same text by the same weights differ, the
ratio, the clipped share and the KL measure that fault and not the training.

## How it decides
Fires if a value exceeds its limit: the tolerance that the trainer recorded for its number format (0.001 nats in
float32, 0.25 in bfloat16), four times that for the KL of a whole response, exactly 0 for two forward passes.

## When it cannot tell
The log has no such checks. Only Regard's trainer makes them; other logs start with the first update.

## False alarms
None known: the limits are of arithmetic, not of behaviour.

## What to do
1. Ratio and forward passes: turn dropout off in stage 4. 2. Padding: check positions and attention mask. 3. Sampler
and trainer: sample at temperature 1 over the full vocabulary. 4. KL: load the reference from the very same weights.

## References
Schulman et al. 2017 (arXiv 1707.06347), section 3, for the ratio; verl issue 2996 for batch-dependent numerics.
"""

from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.runlog.invariants import HASHES_EQUAL, INVARIANTS, recorded_tolerance
from regard.runlog.reader import RunLog, StageLog


@detector("INV001", "broken-invariant", "error", POLICY_STAGES)
def broken_invariant(run: RunLog, stage: StageLog) -> Outcome:
    tolerance = recorded_tolerance(stage)
    broken: list[tuple[str, Evidence]] = []
    checked = 0
    for spec in INVARIANTS:
        series = stage.metrics.get(spec.key)
        limit = 0.0 if spec.multiple == 0 else None if tolerance is None else tolerance * spec.multiple
        if series is None or limit is None:
            continue
        checked += 1
        value = float(series.values[0])
        if not abs(value) <= limit:  # NaN is never within a limit
            broken.append((f"{spec.label}: off by {value:.3g} {spec.unit}, allowed {limit:.3g}",
                           Evidence(spec.key, value, limit, int(series.steps[0]))))  # fmt: skip
    hashes = stage.metrics.get(HASHES_EQUAL)
    if hashes is not None:
        checked += 1
        if hashes.values[0] != 1:
            evidence = Evidence(HASHES_EQUAL, float(hashes.values[0]), 1.0, int(hashes.steps[0]))
            broken.append(("A frozen model is not the one that was loaded", evidence))
    if not checked:
        return CannotTell("The log has no checks from before the first update.", tuple(s.key for s in INVARIANTS))
    if not broken:
        return Clear(f"All {checked} checks before the first update hold.")
    return Fired(
        summary="; ".join(sentence for sentence, _ in broken) + ".",
        evidence=tuple(evidence for _, evidence in broken),
        onset=Onset(0, (0, 0)),
        until=0,
        confidence=0.99,
    )
