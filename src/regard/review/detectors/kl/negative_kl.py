"""KL002 negative-kl: the KL to the reference stays below 0, which sampling from the policy cannot give.

## What it detects
The mean of k1 = logprob − ref_logprob over tokens sampled from the policy, per sequence or per token.

## Why it matters
The expectation of k1 under the policy is a KL and so never negative. Below 0 for long, the tokens do not come from the
distribution that is scored: a minimum length, a suppressed EOS, top-k or a temperature. The KL term then pays for it.

## How it decides
In some window of ten points the mean lies more than 0.01 nats below 0, and a t-test says that it is below 0 at a level
of one in a thousand divided by the number of windows, so that a long run is not more likely to fire by chance.

## When it cannot tell
No k1 is logged (k2 and k3 are never negative), or fewer than ten points.

## False alarms
Near step 0 the mean is noise around 0; hence the test.

## What to do
Sample at temperature 1 over the full vocabulary, without a minimum length and with EOS allowed, or score what is
sampled from. Compare `kl/generator_trainer_k3/mean`.

## References
trl issues 355 and 615.
"""

import numpy as np
from scipy import stats  # pyright: ignore[reportMissingTypeStubs]

from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome
from regard.review.registry import POLICY_STAGES, detector
from regard.review.statistics import first_of
from regard.runlog.reader import RunLog, StageLog

NEEDS = ("kl/policy_ref_k1/seq_sum", "kl/policy_ref_k1/token_mean", "kl/policy_ref_k1/unknown")
WINDOW = 10
LEVEL, LEAST_NATS = 1e-3, 0.01


@detector("KL002", "negative-kl", "error", POLICY_STAGES)
def negative_kl(run: RunLog, stage: StageLog) -> Outcome:
    kl = first_of(stage, NEEDS, WINDOW)
    if kl is None:
        return CannotTell(f"There are not {WINDOW} values of a KL that is known to be k1.", NEEDS)
    windows = np.lib.stride_tricks.sliding_window_view(kl.values, WINDOW)
    means = windows.mean(1)
    errors = float(stats.t.ppf(1 - LEVEL / len(means), WINDOW - 1))  # pyright: ignore[reportUnknownMemberType]
    high = means + errors * windows.std(1, ddof=1) / np.sqrt(WINDOW)
    low = np.flatnonzero((high < 0) & (means < -LEAST_NATS))
    if not len(low):
        return Clear(f"The lowest mean of {WINDOW} points is {means.min():.3g} nats.")
    first, last, worst = int(low[0]), int(low[-1]), int(np.argmin(means))
    return Fired(
        summary=f"{kl.key} averages {means[worst]:.3g} nats over {WINDOW} points, which no KL can.",
        evidence=(Evidence(kl.key, float(means[worst]), 0.0, int(kl.steps[worst])),),
        onset=Onset(int(kl.steps[first]), (int(kl.steps[first]), int(kl.steps[first + WINDOW - 1]))),
        until=int(kl.steps[last + WINDOW - 1]),
        confidence=0.95,
    )
