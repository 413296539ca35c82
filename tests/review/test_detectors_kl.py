"""Detectors of the KL term and of policy optimisation: fired, clear and cannot tell."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support_policy import COEF, DISTANCE, STD, STEPS, nothing, stage_4
from test_signs_kl import AWAY, SAW, TEETH, YES

from regard.review import catalogue
from regard.review.outcome import CannotTell, Clear, Fired
from regard.runlog.reader import RunLog

Build = Callable[[Path], RunLog]
FIRED: list[tuple[str, str, Build]] = [
    ("KL003", "missing", YES["kl-term-not-in-reward"]),
    ("KL003", "flipped", YES["kl-term-added-to-reward"]),
    ("KL004", "same text", YES["reference-moves"]),
    ("KL004", "teeth", stage_4(TEETH, rows=False)),
    ("KL005", "swings", stage_4(SAW)),
    ("KL005", "runs away", stage_4(AWAY)),
    ("KL006", "pads", YES["logged-kl-counts-padding"]),
    ("POL005", "shifted", YES["advantages-not-centred"]),
    ("POL005", "alone", YES["advantages-centred-by-response"]),
    ("POL006", "tiny steps", YES["policy-hardly-moves"]),
    ("POL006", "fades", YES["updates-fade-away"]),
    ("POL007", "tight", YES["clipped-though-near"]),
    ("POL008", "four", YES["few-rollouts"]),
    ("POL009", "0.8", YES["score-discounted-away"]),
    ("POL011", "six epochs", YES["distance-grows-over-epochs"]),
    ("POL010", "saturated", YES["noise-scaled-to-one"]),
    ("POL012", "penalty", YES["loss-punishes-entropy"]),
    ("POL012", "bonus", YES["loss-rewards-entropy"]),
    ("POL012", "KL", YES["loss-holds-a-kl"]),
    ("POL013", "jump", YES["rate-jumps-above-its-peak"]),
    ("NUM005", "outruns", YES["update-outruns-its-rate"]),
]
CODES = sorted({code for code, _, _ in FIRED})
CASES: list[tuple[str, type, str, Build]] = [
    *((code, Fired, case, make) for code, case, make in FIRED),
    *((code, Clear, "healthy", stage_4()) for code in CODES),
    *((code, CannotTell, "empty", nothing) for code in CODES),
    ("KL003", CannotTell, "no weight", stage_4({COEF: [0.0] * STEPS})),
    ("POL007", CannotTell, "no distance", stage_4(without=[DISTANCE])),
    ("POL008", CannotTell, "no spread", stage_4({"data/prompts_seen/count": [4.0 * n for n in range(STEPS)]},
                                                without=[STD])),
]  # fmt: skip


@pytest.mark.parametrize(("code", "expected", "case", "make"), CASES, ids=lambda x: x if isinstance(x, str) else "")
def test_outcome(code: str, expected: type, case: str, make: Build, tmp_path: Path) -> None:
    run = make(tmp_path)
    outcome = catalogue()[code].check(run, run.stages["ppo"])
    assert type(outcome) is expected, outcome
    if isinstance(outcome, Fired):
        assert outcome.onset.interval[0] <= outcome.onset.step <= outcome.onset.interval[1]
