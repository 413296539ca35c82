"""The published schema holds for what reviews really say, and says no less than they do."""

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from support_review import make_run

from regard.review import review
from regard.review.schema import schema, schema_markdown
from regard.runlog.importers import read_any
from regard.runlog.reader import RunLog

ROOT = Path(__file__).parents[2]
NAN = float("nan")
CHECKED = [{"kind": "invariants", "tolerance": 1e-3}]


def runs() -> list[tuple[str, RunLog]]:
    """Logs that TRL wrote, the cases in examples/, and runs that make detectors speak."""
    found = [
        (f"trl {log.name}", read_any(log)) for log in sorted((ROOT / "tests/runlog/trl_logs").iterdir()) if log.is_dir()
    ]
    found += [
        (case.name, read_any(case))
        for case in sorted((ROOT / "examples/cases").glob("*/"))
        if (case / "run.json").is_file()
    ]
    made: dict[str, dict[str, list[float]]] = {
        "nan": {"loss/policy/mean": [0.1] * 9 + [NAN] * 9, "kl/policy_ref_k1/token_mean": [0.1] * 18},
        "infinite": {"optim/grad_norm/last": [1.0, float("inf"), 1.0]},
        "runaway": {"kl/policy_ref_k1/token_mean": [0.1] * 10 + [9.0] * 10},
        "not zero at the start": {"invariant/kl_ref/value": [4.0], "invariant/ratio_max_deviation/value": [0.0]},
        "nothing": {},
    }
    return found + [(name, make_run("ppo", metrics, CHECKED)) for name, metrics in made.items()]


@pytest.mark.parametrize(("name", "run"), runs(), ids=[name for name, _ in runs()])
def test_real_reviews_are_valid_and_use_no_key_that_is_not_published(name: str, run: RunLog) -> None:
    result = json.loads(json.dumps(review(run).to_json(), allow_nan=False))
    jsonschema.Draft202012Validator(closed(schema())).validate(result)


def test_the_runs_above_have_findings_causes_and_gaps() -> None:
    results = [review(run).to_json() for _, run in runs()]
    for part in ("findings", "causes", "clear", "not_checked"):
        assert any(result[part] for result in results), part


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("verdict",), "fine"),
        (("findings", 0, "severity"), "fatal"),
        (("findings", 0, "confidence"), 1.5),
        (("findings", 0, "code"), "kl001"),
        (("findings", 0, "onset", "interval"), [3]),
        (("findings", 0, "evidence"), []),
        (("findings", 0, "evidence", 0, "value"), "much"),
        (("findings", 0, "evidence", 0, "step"), 2.5),
        (("not_checked", 0, "missing"), None),
        (("schema",), 2),
    ],
)
def test_a_wrong_result_is_refused(path: tuple[str | int, ...], value: Any) -> None:
    result = review(make_run("ppo", {"kl/policy_ref_k1/token_mean": [0.1] * 10 + [9.0] * 10})).to_json()
    jsonschema.validate(result, schema())
    place: Any = result
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(result, schema())


@pytest.mark.parametrize("key", ["schema", "run", "verdict", "findings", "causes", "not_checked"])
def test_a_result_without_a_contracted_key_is_refused(key: str) -> None:
    result = review(make_run("ppo", {})).to_json()
    del result[key]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(result, schema())


def test_a_key_that_a_later_version_adds_is_accepted() -> None:
    jsonschema.validate(review(make_run("ppo", {})).to_json() | {"new": 1}, schema())


def test_the_schema_is_a_schema_and_every_key_of_it_has_a_meaning() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    page = schema_markdown()

    def look(part: dict[str, Any]) -> None:
        for key, value in part.get("properties", {}).items():
            assert f"{key}`" in page
            assert value.get("description") or "$ref" in value, key
            look(value.get("items", value))

    for part in (schema(), *schema()["$defs"].values()):
        look(part)


def closed(part: Any) -> Any:
    """The same schema, in which a key that it does not name is an error."""
    part = copy.copy(part)
    if isinstance(part, list):
        return [closed(one) for one in part]
    if not isinstance(part, dict):
        return part
    result = {key: closed(value) for key, value in part.items()}
    if "properties" in part:
        result["additionalProperties"] = False
    return result
