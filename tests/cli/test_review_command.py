"""`regard review` as its users type it, with neither torch nor transformers to be had."""

import json
import math
from pathlib import Path

import pytest
from test_core_without_torch import without_torch

LINES = {
    "healthy": [{"step": n, "objective/kl": 8, "objective/scores": n / 9, "policy/approxkl_avg": 0.01}
                for n in range(30)],
    "runaway": [{"step": n, "objective/kl": 12 * n, "objective/scores": n / 9, "policy/approxkl_avg": 0.01}
                for n in range(30)],
    "warning": [{"step": n, "objective/kl": 2 * n, "objective/scores": n / 9, "policy/approxkl_avg": 0.01}
                for n in range(30)],
}  # fmt: skip


@pytest.fixture
def log(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / f"{request.param}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES[request.param]), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("log", "options", "code"),
    [
        ("healthy", [], 0),
        ("runaway", [], 1),
        ("warning", [], 0),
        ("warning", ["--fail-on", "warning"], 1),
        ("healthy", ["--from", "trl-pop"], 2),
        ("healthy", ["--fail-on", "everything"], 2),
        ("healthy", ["--format", "pdf"], 2),
    ],
    indirect=["log"],
)
def test_exit_code_says_what_was_found(log: Path, options: list[str], code: int) -> None:
    done = without_torch("review", str(log), *options)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert (done.stderr.count("\n") == 1) == (code == 2)


@pytest.mark.parametrize("log", ["runaway"], indirect=True)
def test_text_and_json_say_the_same(log: Path, tmp_path: Path) -> None:
    text = without_torch("review", str(log)).stdout
    result = json.loads(without_torch("review", str(log), "--json").stdout)
    assert result["verdict"] == "failed" and "[failed]" in text
    (finding,) = result["findings"]
    assert finding["code"] == "KL001" and "ERROR KL001 kl-runaway, ppo" in text
    assert finding["summary"] in text
    assert all(one["code"] in text for one in result["not_checked"])
    assert not (tmp_path / "review").exists()  # a foreign directory is left as it is
    written = tmp_path / "review.json"
    without_torch("review", str(log), "--format", "json", "--out", str(written))
    assert json.loads(written.read_text()) == result


def test_several_runs_are_reviewed_at_once(tmp_path: Path) -> None:
    paths = []
    for name, lines in LINES.items():
        paths.append(tmp_path / f"{name}.jsonl")
        paths[-1].write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    done = without_torch("review", *map(str, paths), "--json")
    assert [one["verdict"] for one in json.loads(done.stdout)] == ["healthy", "failed", "suspect"]
    assert done.returncode == 1


def test_a_run_without_a_log_is_refused_in_one_sentence(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        done = without_torch("review", str(path))
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and str(path) in done.stderr


def test_numbers_that_are_not_finite_leave_the_json_readable(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    lines = [{"step": n, "objective/kl": 1.0, "objective/scores": math.nan if n > 5 else 1.0,
              "policy/approxkl_avg": 0.01} for n in range(10)]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    done = without_torch("review", str(path), "--json")
    result = json.loads(done.stdout, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert [finding["code"] for finding in result["findings"]] == ["NUM001"]
