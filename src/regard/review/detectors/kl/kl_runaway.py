"""KL001 kl-runaway: the policy ends further from the reference than text of any use has been seen.

## What it detects
KL(policy || reference) in nats per token, or per sequence where that is what is logged, at the end of the run.

## Why it matters
The reward model was trained near the reference. Far from it the score is an extrapolation, and optimising it buys
score without quality (Gao et al. 2022: gold peaks, then falls, in the square root of the KL).

## How it decides
The running median of three points lies above the limit to the end of the log. Per token and per sequence known, the one
logged or computed from the other and the response length: error above 2 nats per token and 25 per sequence, since one
sentence of six tokens can hold 2 nats per token and a page 100 per sequence in healthy runs. Only per token: error
above 2. Only per sequence: error above 100, warning above 40. Where the unit is unknown, it decides only if both
readings agree.

## When it cannot tell
No KL to the reference is logged, or its unit is unknown and the two readings of it disagree: 8 nats per sequence are
usual, 8 nats per token are not.

## False alarms
Short responses carry more nats per token: healthy runs on one sentence end at 1.0 to 2.1 nats per token and 7 to 15
per sequence; hence both limits.

## What to do
Raise `kl_coef`, or let the controller aim at a target in a declared unit; then compare gold at equal steps. Check that
the KL term is in the reward at all: coefficient, sign, reference.

## References
Gao, Schulman, Hilton 2022 (arXiv 2210.10760); per-token limit as in rldoctor 0.2.0; 50 to 85 nats per sequence in the
over-optimised runs of Huang et al. 2024 (arXiv 2403.17031).
"""

from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.review.statistics import Reading, first_of, lasting
from regard.runlog.metrics import METRICS
from regard.runlog.reader import RunLog, StageLog

PER_TOKEN = tuple(f"kl/policy_ref_{estimator}/token_mean" for estimator in ("k1", "k3", "k2", "unknown"))
PER_SEQUENCE = tuple(f"kl/policy_ref_{estimator}/seq_sum" for estimator in ("k1", "k3", "k2", "unknown"))
UNKNOWN = tuple(f"kl/policy_ref_{estimator}/unknown" for estimator in ("k1", "k3", "k2", "unknown"))
LENGTH = ("length/response_tokens/mean",)

TOKEN_ERROR = 2.0
SEQUENCE_BESIDE, SEQUENCE_WARNING, SEQUENCE_ERROR = 25.0, 40.0, 100.0
LEAST = 3


@detector("KL001", "kl-runaway", "error", POLICY_STAGES)
def kl_runaway(run: RunLog, stage: StageLog) -> Outcome:
    per_token, per_sequence = first_of(stage, PER_TOKEN, LEAST), first_of(stage, PER_SEQUENCE, LEAST)
    length = first_of(stage, LENGTH, LEAST)
    if per_token is not None and (per_sequence is not None or length is not None):
        in_sequence = per_sequence.end if per_sequence is not None else per_token.end * length.end if length else 0.0
        found = _judge(per_token, TOKEN_ERROR, "error")
        if isinstance(found, Fired) and in_sequence <= SEQUENCE_BESIDE:
            return Clear(f"{per_token.end:.3g} nats per token, but {in_sequence:.3g} in a whole response.")
        return found
    if per_token is not None:
        return _judge(per_token, TOKEN_ERROR, "error")
    if per_sequence is not None and length is not None and length.end > 0:
        return _judge(per_sequence, max(SEQUENCE_BESIDE, TOKEN_ERROR * length.end), "error")
    if per_sequence is not None:
        grave = _judge(per_sequence, SEQUENCE_ERROR, "error")
        return grave if isinstance(grave, Fired) else _judge(per_sequence, SEQUENCE_WARNING, "warning")
    return _unknown_unit(stage)


def _unknown_unit(stage: StageLog) -> Outcome:
    kl = first_of(stage, UNKNOWN, LEAST)
    if kl is None:
        return CannotTell("No KL to the reference is logged.", (PER_TOKEN[0], PER_SEQUENCE[0]))
    as_token, as_sequence = _judge(kl, TOKEN_ERROR, "error"), _judge(kl, SEQUENCE_ERROR, "error")
    if isinstance(as_token, Clear) or isinstance(as_sequence, Fired):
        return as_sequence  # even the stricter reading is clear, or even the milder one is not
    return CannotTell(
        f"The KL ends at {kl.end:.3g} nats, and the log does not say whether per token, which would be an error, "
        "or per sequence, which would not. Say which with --from or --map.",
        (PER_TOKEN[0], PER_SEQUENCE[0]),
    )


def _judge(kl: Reading, limit: float, severity: str) -> Outcome:
    unit = METRICS[kl.key].unit.split(":")[0].replace("unknown", "nats")
    spell = lasting(kl, lambda values: values > limit)
    if spell is None:
        return Clear(f"{kl.key} ends at {kl.end:.3g} {unit}; the limit is {limit:.3g}.")
    return Fired(
        summary=f"KL to the reference is above {limit:.3g} {unit} from step {spell.onset.step} on "
        f"and ends at {kl.end:.3g}.",
        evidence=(Evidence(kl.key, kl.end, limit, int(kl.steps[-1])),),
        onset=spell.onset,
        until=int(kl.steps[-1]),
        confidence=0.9,
        severity="error" if severity == "error" else "warning",
    )
