"""The catalogue of detectors: one file each under `detectors/<family>/`, found by being there.

The docstring of the file is its documentation: `regard explain CODE` and the reference page print it.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from regard.review import detectors
from regard.review.outcome import Outcome, Severity
from regard.runlog.reader import RunLog, StageLog

HEADINGS = (
    "What it detects",
    "Why it matters",
    "How it decides",
    "When it cannot tell",
    "False alarms",
    "What to do",
    "References",
)

POLICY_STAGES = frozenset({"ppo", "grpo", "rloo", "reinforce", "a2c"})
"""Stages in which a policy is trained on its own samples."""

ALL_STAGES = POLICY_STAGES | {"pretrain", "sft", "rm", "dpo"}

Check = Callable[[RunLog, StageLog], Outcome]


@dataclass(frozen=True)
class Detector:
    """One symptom.

    Attributes:
        code: permanent, such as KL001.
        name: readable as "allow <name>".
        severity: of a finding, unless the finding says otherwise.
        stages: names of the stages it looks at.
        doc: the docstring of its file.
        check: the function that decides.
    """

    code: str
    name: str
    severity: Severity
    stages: frozenset[str]
    doc: str
    check: Check

    @property
    def title(self) -> str:
        return self.doc.splitlines()[0].partition(": ")[2].rstrip(".")


_found: list[Detector] = []


def detector(code: str, name: str, severity: Severity, stages: frozenset[str]) -> Callable[[Check], Check]:
    """Enter a function into the catalogue."""

    def enter(check: Check) -> Check:
        doc = importlib.import_module(check.__module__).__doc__ or ""
        _found.append(Detector(code, name, severity, stages, doc.strip(), check))
        return check

    return enter


@cache
def catalogue() -> dict[str, Detector]:
    """All detectors by code, sorted."""
    for module in pkgutil.walk_packages(detectors.__path__, detectors.__name__ + "."):
        importlib.import_module(module.name)
    by_code = {one.code: one for one in _found}
    assert len(by_code) == len(_found), "a code is used twice"
    return dict(sorted(by_code.items()))
