"""What the detectors of a share of responses have in common; no detector itself."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from regard.review.answers import Answers, answers_of
from regard.review.outcome import CannotTell, Clear, Evidence, Fired, Onset, Outcome, Severity
from regard.runlog.reader import StageLog

ERRORS = 4.0


def judge_share(
    stage: StageLog,
    metric: str,
    what: str,
    feature: Callable[[Answers], NDArray[np.bool_] | NDArray[np.float64]],
    *,
    rise: float,
    times: float,
    grave: float,
) -> Outcome:
    """Fires if the mean of `feature` rose by `rise`, by four standard errors and to `times` its start or more: error
    from `grave` on, warning below."""
    answers = answers_of(stage)
    if answers is None:
        return CannotTell("There are too few rollouts with texts to tell first from last.", ("rollouts: response",))
    values = feature(answers).astype(np.float64)
    first, last = values[answers.early], values[answers.late]
    before, after = float(first.mean()), float(last.mean())
    error = float(np.sqrt(first.var() / len(first) + last.var() / len(last) + 1 / len(last) ** 2))
    text = f"{after:.1%} {what} at last, {before:.1%} at first"
    if after - before < max(rise, ERRORS * error) or after < times * before:
        return Clear(f"{text}.")
    step = int(answers.sample.steps[-1])
    severity: Severity = "error" if after >= grave else "warning"
    onset = answers.onset(values) or Onset(step, (int(answers.sample.steps[0]), step))
    return Fired(
        summary=f"{text}, from step {onset.step} on.",
        evidence=(Evidence(metric, after, max(before + rise, times * before), step, answers.witnesses(values)),),
        onset=onset,
        until=step,
        confidence=0.9,
        severity=severity,
    )
