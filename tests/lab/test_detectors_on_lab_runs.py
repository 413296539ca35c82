"""Every detector on runs that were really trained: it fires on a fault, is clear on a healthy run, and cannot tell what
neither metrics nor rollouts say."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from regard.lab.run import run_lab
from regard.lab.setup import Severity, Start
from regard.review import catalogue
from regard.review.outcome import CannotTell, Clear, Fired
from regard.runlog.reader import RunLog, read_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

FIRES: list[tuple[str, Severity, Start, str]] = [
    ("C1", "medium", "start", "VAL002"),
    ("C2", "medium", "start", "VAL003"),
    ("D1", "medium", "start", "RMD003"),
    ("D2", "mild", "start", "RMD004 RMD008 RWD001 RWD011 RWD016 TXT008"),
    ("D3", "severe", "start", "DAT001 DAT002"),
    ("D4", "medium", "start", "DAT004 RWD012 VAL001"),
    ("D5", "medium", "start", "DAT003"),
    ("D6", "medium", "start", "SFT001"),
    ("C2", "medium", "mid", "NUM005"),
    ("E1", "mild", "mid", "POL012"),
    ("E2", "severe", "mid", "KL001 RWD017 TXT001"),
    ("G3", "medium", "start", "GEN001 INV001 POL004"),
    ("G4", "mild", "mid", "GEN003"),
    ("G7", "severe", "start", "KL002 POL001"),
    ("G8", "medium", "mid", "GEN002"),
    ("H2", "medium", "start", "RWD002"),
    ("H3", "severe", "start", "RWD013 RWD018"),
    ("H3", "medium", "start", "TXT003"),
    ("H5", "medium", "start", "TXT002"),
    ("H6", "medium", "start", "TXT006"),
    ("H7", "medium", "start", "TXT005"),
    ("H8", "medium", "start", "TXT007"),
    ("K5", "medium", "start", "KL003"),
    ("K6", "medium", "start", "KL005"),
    ("K7", "medium", "start", "KL006"),
    ("K8", "medium", "start", "INV002 KL004"),
    ("M2", "medium", "start", "RWD005"),
    ("N1", "medium", "start", "NUM001"),
    ("N2", "medium", "start", "NUM003"),
    ("N3", "medium", "mid", "NUM004"),
    ("P1", "medium", "start", "RWD004"),
    ("P1", "mild", "mid", "POL013"),
    ("P2", "medium", "start", "POL006"),
    ("P3", "medium", "start", "POL011"),
    ("P4", "medium", "start", "POL007"),
    ("P5", "medium", "start", "POL005"),
    ("P6", "medium", "start", "POL009"),
    ("P8", "medium", "start", "POL010"),
    ("R1", "medium", "start", "RMD005 RMD007"),
    ("R2", "severe", "start", "RMD002"),
    ("R3", "medium", "start", "RMD006"),
    ("R6", "medium", "start", "RWD010"),
    ("R7", "medium", "start", "RWD015"),
    ("R8", "medium", "mid", "RWD014"),
]
NOT_IN_THE_LAB = {
    "DPO001": "the lab trains no DPO",
    "DPO002": "the lab trains no DPO",
    "DPO003": "the lab trains no DPO",
    "INV003": "no fault of the lab logs an impossible value",
    "NUM002": "fired on two of 969 runs with a fault: P1 of sorting, severe from the middle, and C2 of orders, medium",
    "POL002": "fired on one of 381 runs of the lab, P1 severe from the middle",
    "POL003": "the lab trains no GRPO",
    "POL008": "fired on one of 381 runs of the lab, P7 medium with seed 2",
    "RMD001": "fired on none of 381 runs of the lab",
    "TXT004": "fired on one of 323 runs with a fault, P1 with one seed; where variety goes otherwise, gold rises",
}

Train = Callable[..., RunLog]


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Train:
    root = tmp_path_factory.mktemp("detectors")

    def make(name: str, **more: object) -> RunLog:
        run_lab("facts", 1, out=root / name, cache=root / "cache", keep_models=False, **more)  # type: ignore[arg-type]
        return read_run(root / name)

    return make


def outcomes(run: RunLog, code: str) -> list[object]:
    one = catalogue()[code]
    return [one.check(run, stage) for stage in run.stages.values() if stage.name in one.stages]


def test_every_detector_is_here_or_its_absence_has_a_reason() -> None:
    named = {code for *_, codes in FIRES for code in codes.split()}
    assert named | NOT_IN_THE_LAB.keys() == catalogue().keys() and not named & NOT_IN_THE_LAB.keys()


@pytest.mark.parametrize(("fault", "severity", "start", "codes"), FIRES, ids=lambda x: x if isinstance(x, str) else "")
def test_it_fires_on_a_fault(fault: str, severity: Severity, start: Start, codes: str, train: Train) -> None:
    run = train(f"{fault}-{severity}-{start}", fault=fault, severity=severity, start=start)
    silent = [code for code in codes.split() if not any(isinstance(one, Fired) for one in outcomes(run, code))]
    assert silent == []


def test_it_is_clear_on_a_healthy_run_and_cannot_tell_without_metrics_and_rollouts(train: Train) -> None:
    run = train("healthy")
    known = catalogue().keys() - NOT_IN_THE_LAB.keys()
    assert [code for code in sorted(known) if not any(isinstance(x, Clear) for x in outcomes(run, code))] == []
    fired = [code for code in catalogue() if any(isinstance(one, Fired) for one in outcomes(run, code))]
    assert fired == []
    bare = {name: replace(stage, path=Path("nowhere"), metrics={}, events=[]) for name, stage in run.stages.items()}
    empty = replace(run, path=Path("nowhere"), run={}, config={}, lineage={}, summary={}, stages=bare)
    told = [code for code in catalogue() if not all(isinstance(one, CannotTell) for one in outcomes(empty, code))]
    assert told == []
