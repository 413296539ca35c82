"""The experiment of `regard verify` on planted faults: what is tried, on which runs, and how it is counted."""

import json
from pathlib import Path
from typing import Any

import pytest

from regard.errors import ConfigError
from regard.lab.prove import (
    Patient,
    Remedy,
    Run,
    arms_of,
    changed_keys,
    patients,
    prove,
    remedies_for,
    scores,
    table,
)
from regard.lab.run import run_lab
from regard.review.causes import all_causes

LOOSE = Patient("facts", 1, "K1", "severe")
MISPLACED = Patient("facts", 1, "K5", "severe")


def test_every_fault_gets_its_runs_at_the_severity_that_it_has() -> None:
    chosen = patients("facts", "severe", 3, 2)
    sick = [one for one in chosen if one.fault]
    assert {one.seed for one in sick} == {1, 2, 3} and len(chosen) - len(sick) == 2
    assert len({one.fault for one in sick}) >= 48 and len({one.name for one in chosen}) == len(chosen)
    assert [one.name for one in patients("facts", "mild", 1, 1, ("K1",))] == ["facts-K1-mild-s1", "facts-healthy-s1"]


@pytest.mark.parametrize(
    ("severity", "only", "says"), [("harsh", (), "No severity 'harsh'"), ("mild", ("Z9",), "No fault 'Z9'")]
)
def test_what_is_not_there_is_refused_in_one_sentence(severity: str, only: tuple[str, ...], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        patients("facts", severity, 1, 1, only)


def test_all_faults_share_the_arm_that_has_none_and_every_remedy_the_controls() -> None:
    tried = {"fix 0": Remedy("removed", "K1"), "fix 1": Remedy("wrong", "P3", (("ppo.epochs", 1),))}
    arms, other = arms_of(LOOSE, tried, 2), arms_of(MISPLACED, {"fix 0": Remedy("removed", "K5")}, 2)
    assert set(arms) == {"unchanged", "placebo", "generic", "fix 0", "fix 1"}
    assert arms["fix 0"] == other["fix 0"] == Run(LOOSE.healthy, (), 2)
    assert arms["unchanged"] == Run(LOOSE, (), 2) and {run.number for run in arms.values()} == {2}
    assert arms["fix 1"] == Run(LOOSE, (("ppo.epochs", 1),), 2)
    assert dict(arms["placebo"].changes) == {"ppo.micro_batch_size": 32}
    assert set(dict(arms["generic"].changes)) == {"ppo.learning_rate", "ppo.kl_coef"}
    assert len({run.name for run in [*arms.values(), *other.values()]}) == 8  # nine arms, of which two are one run


def test_the_keys_that_a_remedy_changes_decide_whether_it_only_sets_the_speed() -> None:
    assert changed_keys(LOOSE, Remedy("removed", "K1")) == ["ppo.kl_coef"]
    assert changed_keys(MISPLACED, Remedy("removed", "K5")) == []  # it was planted in the code
    assert changed_keys(LOOSE, Remedy("wrong", "P3", (("ppo.epochs", 1),))) == ["ppo.epochs"]


def trial(
    kind: str, outcome: str, fault: str | None = "K1", cause: str = "K1", cured: bool = False, gains: bool = False
) -> dict[str, Any]:
    return {"patient": f"facts-{fault}", "fault": fault, "kind": kind, "cause": cause, "changes": {"ppo.epochs": 1},
            "outcome": outcome, "cured": cured, "reasons": ["Because."], "seconds": 10.0,
            "against": {"unchanged": [0.1, 0.05 if gains else -0.1, 0.2]}}  # fmt: skip


def test_shares_are_of_the_right_fix_of_wrong_ones_and_of_healthy_runs() -> None:
    trials = [
        trial("removed", "proven", gains=True),
        trial("removed", "not proven", cured=True),
        trial("removed", "cannot be decided", "D1"),
        trial("proposed", "proven"),
        trial("wrong", "proven", cause="P3"),
        trial("wrong", "made worse", cause="P3"),
        trial("wrong", "not proven", None, "P3"),
    ]
    found = scores(trials)
    shares = {name: (found[name].hits, found[name].of) for name in ("removed", "proposed", "wrong", "healthy")}
    assert shares == {"removed": (1, 3), "proposed": (1, 1), "wrong": (1, 2), "healthy": (0, 1)}
    assert tuple(found["removed_where_the_failure_came_again"]) == (1, 2)
    assert tuple(found["removed_where_it_gains_gold"]) == (1, 1)
    assert tuple(found["cured"]["removed"]) == (2, 3) and tuple(found["cured"]["wrong"]) == (1, 2)
    assert found["causes"] == 2 and tuple(found["by_cause"]["D1"]) == (0, 1)
    text = table({"scores": found, "trials": trials, "seeds": 3, "max_seeds": 6, "failed": {"a run": "it broke"}})
    assert "2 causes, 7 experiments of 3 to 6 paired seeds" in text
    assert "facts-D1: cannot be decided. Because." in text and "P3 ppo.epochs=1" in text and "a run: it broke" in text


@pytest.fixture(scope="module")
def loose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prove") / "run"
    run_lab("facts", 1, "K1", "severe", changes={"ppo.seed": 1}, out=out, keep_models=False)
    return out


def test_what_is_tried_is_the_fault_taken_out_its_own_change_and_the_change_of_another_cause(loose: Path) -> None:
    removed, *rest = remedies_for(LOOSE, loose)
    assert removed == Remedy("removed", "K1")
    proposed = [one for one in rest if one.kind == "proposed"]
    wrong = [one for one in rest if one.kind == "wrong"]
    assert [(one.cause, [key for key, _ in one.changes]) for one in proposed] == [("K1", ["ppo.kl_coef"])]
    own = {change.key for change in all_causes()["K1"].changes}
    assert len(wrong) == 1
    assert all(one.cause != "K1" and dict(one.changes).keys().isdisjoint(own) for one in wrong)
    assert not [one for one in remedies_for(LOOSE.healthy, loose) if one.kind != "wrong"]


@pytest.mark.slow
def test_a_loose_leash_is_proven_and_nothing_else(tmp_path: Path) -> None:
    chosen = patients("facts", "severe", 1, 1, ("K1",))
    result = prove(chosen, tmp_path, seeds=3, max_seeds=3)
    found = {(row["fault"], row["kind"]): row["outcome"] for row in result["trials"]}
    assert found.pop(("K1", "removed")) == "proven", result["trials"]
    assert found[("K1", "wrong")] in ("not proven", "made worse"), found  # the failure came again, and stayed
    assert found[(None, "wrong")] == "cannot be decided", found
    kept = json.loads((tmp_path / "prove.json").read_text())
    assert kept["scores"]["removed"]["hits"] == 1 and kept["failed"] == {}
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*.truth.json")}
    assert prove(chosen, tmp_path, seeds=3, max_seeds=3)["trials"] == result["trials"]
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*.truth.json")}
