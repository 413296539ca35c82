"""Causes of hacked rewards, lost variety, deployment and measurement: what decides one ranks it first, and without that
datum no other cause is diagnosed in its place."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support_answers import longer, narrow, opens, record, says, talk, twice
from test_signs_hacking import (
    DISTINCT,
    ENTROPY,
    EXIT,
    GOLD,
    LENGTH,
    PRAISE,
    PROBE,
    SEA,
    SORRY,
    compared,
    live,
    metrics,
    ramp,
    rollouts,
    same_judge,
)

from regard.review import catalogue, review
from regard.review.causes import all_causes
from regard.review.signs import all_signs
from regard.runlog.reader import RunLog

Build = Callable[[Path], RunLog]
BLIND = ("response", "gold")


def both(rows: Any, series: dict[str, list[float]]) -> Build:
    return lambda path: record(path, rows, series)


GOES_WRONG = {GOLD: [*ramp(0.2, 0.5, 20), *ramp(0.5, -0.4, 40)], "score/reward_model/mean": ramp(0.0, 3.0, 60)}

CASES: list[tuple[str, Build, Build | None]] = [
    ("H1", both(talk(fades=1.4), GOES_WRONG), rollouts(fades=1.4, drop=BLIND)),
    ("H2", both(talk(longer, per_word=0.4), {LENGTH: ramp(8, 19), **GOES_WRONG}),  # else it may be R3, its labels
     both(talk(longer, per_word=0.4, drop=("gold", "length", "response")), {LENGTH: ramp(8, 19)})),
    ("H3", rollouts(twice, pay=2.0), rollouts(twice, pay=2.0, drop=BLIND)),
    ("H4", rollouts(says(PRAISE), pay=2.0), rollouts(says(PRAISE), pay=2.0, drop=BLIND)),
    ("H5", rollouts(says("in short"), pay=2.0), rollouts(says("in short"), pay=2.0, drop=BLIND)),
    ("H6", rollouts(opens(SORRY), pay=2.0), rollouts(opens(SORRY), pay=2.0, drop=BLIND)),
    ("H7", rollouts(says(SEA), pay=2.0), rollouts(says(SEA), pay=2.0, drop=BLIND)),
    ("H8", rollouts(says(EXIT), pay=3.0), rollouts(says(EXIT), pay=3.0, drop=BLIND)),
    ("E1", metrics({ENTROPY: ramp(2.0, 0.1), DISTINCT: ramp(1.0, 0.2)}), metrics({LENGTH: [9.0] * 40})),
    ("E2", metrics({ENTROPY: ramp(2.0, 4.0)}, {"ppo": {"entropy_coef": 0.5}}), metrics({LENGTH: [9.0] * 40})),
    ("E3", rollouts(narrow, end=1.0), rollouts(narrow, end=1.0, drop=("response",))),
    ("A1", metrics({PROBE: ramp(0.2, 9.0, 9), GOLD: ramp(0.2, 0.6)}), metrics({GOLD: ramp(0.2, 0.6)})),
    ("S1", live(lambda n: f"please translate {n}"), live(None)),
    ("S2", live(None, rm_accuracy=0.55, old_label_agreement=0.75), live(None)),
    ("S3", live(None, rm_accuracy=0.55, old_label_agreement=0.4), live(None)),
    ("M1", metrics({ENTROPY: ramp(2.0, -5.0)}), metrics({LENGTH: [9.0] * 40})),
    ("M2", same_judge, rollouts(drop=("gold",))),
    ("M3", compared(-0.1, 0.2, 12), metrics({})),
]  # fmt: skip
FAMILIES = [one for one in all_causes() if one[0] in "HEASM"]


@pytest.mark.parametrize(("cause", "make", "blind"), CASES, ids=lambda x: x if isinstance(x, str) else "")
def test_what_decides_a_cause_ranks_it_first(cause: str, make: Build, blind: Build | None, tmp_path: Path) -> None:
    result = review(make(tmp_path / "seen"))
    assert result.posterior is not None
    assert next(iter(result.posterior.causes)) == cause
    if blind:
        found = review(blind(tmp_path / "blind"))
        assert [one.cause.id for one in found.causes if one.status == "diagnosed"] == []


def test_every_cause_of_these_families_has_a_case() -> None:
    assert sorted(FAMILIES) == sorted(one for one, *_ in CASES)


def test_predictions_name_signs_and_detectors_that_exist() -> None:
    known = all_signs().keys() | catalogue().keys()
    for one in FAMILIES:
        cause = all_causes()[one]
        assert set(cause.predicts) - known == set(), one
        assert set(cause.decided_by) <= set(cause.predicts), one
        assert all(other in all_causes() for other in (*cause.look_alikes, *cause.leads_to)), one


def test_a_fix_quadruples_the_present_leash(tmp_path: Path) -> None:
    run = record(tmp_path, talk(says(EXIT), pay=3.0), config={"ppo": {"kl_coef": 0.05}})
    run_marker = record(tmp_path / "marker", talk(says("in short"), pay=3.0), config={"ppo": {"kl_coef": 0.05}})
    assert {one.cause.id for one in review(run).causes} >= {"H8"}
    (marker,) = [one for one in review(run_marker).causes if one.cause.id == "H5"]
    assert {"key": "ppo.kl_coef", "from": 0.05, "to": 0.2, "foreign": None} in marker.changes
