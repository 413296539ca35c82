"""The catalogue as a whole, and what a review makes of it."""

import json
import re
from dataclasses import replace

import pytest
from support_review import make_run

from regard.cli.explain import config_fields
from regard.review import catalogue, review
from regard.review.registry import HEADINGS
from regard.runlog.metrics import METRICS

KL = "kl/policy_ref_k1/token_mean"


@pytest.mark.parametrize("code", catalogue())
def test_documentation_has_its_headings_in_order(code: str) -> None:
    one = catalogue()[code]
    assert re.findall(r"^## (.+)$", one.doc, re.MULTILINE) == list(HEADINGS)
    assert one.doc.startswith(f"{code} {one.name}: ")
    assert re.fullmatch(r"[A-Z]{2,3}\d{3}", code) and re.fullmatch(r"[a-z0-9-]+", one.name)


@pytest.mark.parametrize("code", catalogue())
def test_metrics_that_a_detector_asks_for_are_declared(code: str) -> None:
    one = catalogue()[code]
    for stage in sorted(one.stages):
        run = make_run(stage, {})
        outcome = one.check(run, run.stages[stage])
        asked = [key for key in getattr(outcome, "missing", ()) if key not in METRICS]
        assert [key for key in asked if not key.startswith(("lineage", "rollouts: ", "config: ", "stages/"))] == []
        assert [key for key in asked if key.startswith("config: ") and key[8:] not in config_fields()] == []


def test_names_are_used_once() -> None:
    names = [one.name for one in catalogue().values()]
    assert len(set(names)) == len(names)


def test_gravest_finding_comes_first_and_decides_the_verdict() -> None:
    run = make_run("ppo", {KL: [0.1] * 10 + [9.0] * 10, "finish/truncated/frac": [0.9] * 20})
    result = review(run)
    assert [(f.detector.code, f.severity) for f in result.findings] == [("KL001", "error"), ("TXT001", "warning")]
    assert result.verdict == "failed"


def test_a_log_that_decides_nothing_is_not_called_healthy() -> None:
    assert review(make_run("ppo", {"loss/total/mean": [0.0] * 20})).verdict == "inconclusive"
    assert review(make_run("ppo", {KL: [0.1] * 20})).verdict == "healthy"


def test_json_is_as_contracted() -> None:
    result = review(make_run("ppo", {KL: [0.1] * 10 + [9.0] * 10})).to_json()
    assert json.loads(json.dumps(result)) == result
    assert {"schema", "run", "verdict", "findings", "causes", "not_checked"} <= set(result)
    (finding,) = result["findings"]
    assert {"code", "name", "severity", "confidence", "onset", "span", "summary", "evidence"} <= set(finding)
    assert finding["onset"]["step"] == 10 and finding["span"] == [10, 19]
    assert {"metric", "value", "threshold", "step", "rows"} <= set(finding["evidence"][0])
    assert {"code", "reason", "missing"} <= set(result["not_checked"][0])


def test_stage_4_of_ours_is_looked_at_as_what_its_algorithm_is() -> None:
    """Groups that are all alike are a symptom of GRPO; a value is none of its parts."""
    run = make_run("ppo", {"group/zero_std/frac": [0.2] * 10 + [0.9] * 10})

    def looked(algorithm: str | None) -> dict[str, str]:
        config = {"ppo": {"algorithm": algorithm}} if algorithm else {}
        found = review(replace(run, config=config))
        names = {"fired": found.findings, "clear": found.clear, "not checked": found.not_checked}
        return {one.detector.code: word for word, some in names.items() for one in some}

    assert looked("grpo")["POL003"] == looked("rloo")["POL003"] == "fired"
    assert "VAL001" not in looked("grpo") and "VAL001" in looked("a2c")
    assert "POL003" not in looked("ppo") and looked("ppo") == looked(None)
