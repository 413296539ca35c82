"""The case studies: each answered with its root, the evidence that shows it and the change to make first."""

import importlib.util
from pathlib import Path

import pytest
import yaml

from regard.review import review
from regard.runlog.importers import read_any

CASES = Path(__file__).parents[2] / "examples/cases"

KEY = {"RWD001", "checkpoints-kl-climbs", "checkpoints-behaviour-regresses"}
EXPECTED = {
    # case: root, what must be among its evidence, the change to make first and whether it goes up
    "C1": ("K1", KEY | {"checkpoints-length-grows"}, "ppo.kl_coef", True),
    "C2/weak": ("K1", KEY, "ppo.kl_coef", True),
    "C2/weak-and-fast": ("K1", KEY, "ppo.kl_coef", True),
    "C2/strangled": ("K2", {"checkpoints-nothing-moves"}, "ppo.kl_coef", False),
    "C3": ("K1", KEY, "ppo.kl_coef", True),
    "C4": ("K1", KEY, "ppo.kl_coef", True),
    "C5": ("K1", KEY, "ppo.kl_coef", True),
    "C6": ("K1", KEY, "ppo.kl_coef", True),
    "control-sign": ("K5", {"kl-term-added-to-reward"}, "code.kl_placement", None),
    "control-reference": ("K8", {"kl-stays-near-zero", "score-outruns-kl"}, "code.reference", None),
}
HEALTHY = ("C2/chosen", "C7", "control-healthy")


@pytest.mark.parametrize("name", EXPECTED)
def test_case_is_answered_with_its_root_evidence_and_first_change(name: str) -> None:
    cause, evidence, key, up = EXPECTED[name]
    result = review(read_any(CASES / name))
    first = result.causes[0]
    assert (first.cause.id, first.status) == (cause, "diagnosed")
    assert evidence <= {sign for sign, _ in first.evidence}
    change = first.changes[0]
    assert change["key"] == key
    if up is not None:
        assert (change["to"] > change["from"]) is up
    assert result.verdict in ("suspect", "failed")


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_case_is_left_alone(name: str) -> None:
    result = review(read_any(CASES / name))
    assert result.verdict == "healthy" and not [one for one in result.causes if one.status == "diagnosed"]


def test_the_reward_model_that_lost_its_way_is_evidence_for_the_leash() -> None:
    """C1: accuracy on old pairs rises, on pairs with the policy's responses it falls below chance."""
    first = review(read_any(CASES / "C1")).causes[0]
    assert first.cause.id == "K1" and "rm-loses-on-policy-pairs" in dict(first.evidence)


def test_a_ratio_outside_the_clip_range_is_no_large_step_when_it_comes_back() -> None:
    """C5: a smaller step alone arrives at the same place, so a step too large is not the root."""
    roots = {one.cause.id: one.probability for one in review(read_any(CASES / "C5")).causes}
    assert roots["K1"] > 5 * roots.get("P1", 0.0)


def test_records_are_those_of_the_table(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("make_cases", CASES / "make_cases.py")
    assert spec and spec.loader
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    content = yaml.safe_load((CASES / "cases.yaml").read_text(encoding="utf-8"))
    assert set(content["cases"]) == {*EXPECTED, *HEALTHY}
    for name, case in content["cases"].items():
        make.write_case(tmp_path / name, name, case, content["columns"])
        for file in (tmp_path / name).rglob("*.*"):
            if file.is_file():
                assert file.read_bytes() == (CASES / name / file.relative_to(tmp_path / name)).read_bytes(), file
