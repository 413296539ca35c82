"""Structure of the report: what a page must and must not hold. Numbers are those that make_run.py wrote."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from make_run import PROMPT, make_run

from regard.errors import RunLogError
from regard.report import ReportData, build, render_html, render_text, to_json, write_report

VOID = {"meta", "br", "hr", "img", "input", "link", "source", "wbr"}
ATTACK = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&\u2028\"'"


class Page(HTMLParser):
    """Checks that tags nest, and collects what the tests ask for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.embedded = ""
        self.feed(text)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]} at {self.getpos()}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.embedded += data
        elif self.open and self.open[-1] != "style":
            self.text.append(data)

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.text))


def test_page_is_well_formed_and_complete(page: str) -> None:
    parsed = Page(page)
    assert page.startswith("<!doctype html>")
    sections = [a["id"] for tag, a in parsed.tags if tag == "section"]
    assert sections == ["outcome", "curves", "frontier", "before", "samples", "time", "checks", "config", "missing"]
    links = [a["href"] for tag, a in parsed.tags if tag == "a"]
    assert links == [f"#{name}" for name in sections]
    assert sum(tag == "figure" for tag, _ in parsed.tags) == 12 + 2 + 4 + 2
    for phrase in (
        "0.421 →",
        "0.698",
        "[+0.231 … +0.322]",
        "6.84",
        "73.1",
        "two people agree 78.2",
        "3 min 12 s",
        PROMPT,
    ):
        assert phrase in parsed.words.replace("\u00a0", " "), phrase


def test_ids_are_unique_and_labels_point_to_them(page: str) -> None:
    tags = Page(page).tags
    ids = [a["id"] for _, a in tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert all(a["aria-labelledby"] in ids for _, a in tags if "aria-labelledby" in a)


def test_every_plot_has_alternative_text_and_a_table(page: str) -> None:
    parsed = Page(page)
    plots = [a for tag, a in parsed.tags if tag == "svg"]
    assert len(plots) == 20
    assert all(a["role"] == "img" and len(a["aria-label"] or "") > 30 for a in plots)
    assert page.count("<figure>") == len(re.findall(r"<figure>(?:(?!</figure>).)*<table>", page, re.DOTALL))


def test_nothing_is_loaded_and_nothing_runs(page: str) -> None:
    assert not re.search(r"(?:https?:)?//[a-z]", page, re.IGNORECASE)
    assert "@import" not in page and "url(" not in page
    parsed = Page(page)
    for tag, attributes in parsed.tags:
        assert tag not in {"link", "iframe", "img", "object", "embed"}
        assert not any(name == "src" or name.startswith("on") for name in attributes)
        assert tag != "script" or attributes["type"] == "application/json"


def test_text_of_the_run_cannot_become_markup(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=3, sample_text=ATTACK)
    parsed = Page(render_html(build(run)))
    assert [a for tag, a in parsed.tags if tag == "script"] == [{"type": "application/json", "id": "report-data"}]
    assert not any(tag == "img" for tag, _ in parsed.tags)
    assert "<script>alert(1)</script>" in parsed.words  # shown as text
    embedded = json.loads(parsed.embedded)
    assert embedded["sample_groups"][0]["samples"][0]["policy"] == ATTACK


def test_embedded_data_is_the_json_twin(healthy: ReportData, page: str) -> None:
    assert json.loads(Page(page).embedded) == json.loads(to_json(healthy))


def test_healthy_run_is_good_and_nothing_is_missing_but_perhaps_the_revision(healthy: ReportData) -> None:
    assert healthy.verdict.light == "good"
    assert {m.what for m in healthy.not_recorded} <= {"run.json: git_revision"}
    assert all(i.passed for i in healthy.invariants) and len(healthy.invariants) == 7
    assert all(a.as_expected for a in healthy.artifacts) and len(healthy.artifacts) == 4


def test_collapsed_run_is_bad_and_says_over_optimisation(tmp_path: Path) -> None:
    data = build(make_run(tmp_path / "run", steps=10, collapse=True))
    assert data.verdict.light == "bad"
    assert any("over-optimisation" in reason for reason in data.verdict.reasons)


def test_changed_reference_outranks_a_good_outcome(tmp_path: Path) -> None:
    data = build(make_run(tmp_path / "run", steps=3, broken_reference=True))
    assert data.verdict.light == "bad"
    assert data.verdict.reasons == ("The reference changed during stage 4.",)
    assert "✕ broken" in render_html(data)
    assert "BROKEN" in render_text(data)


@pytest.mark.parametrize("stages", [(), ("sft",), ("pretrain", "sft", "rm"), ("sft", "rm", "ppo")])
def test_unfinished_runs_have_a_report_that_names_the_gaps(tmp_path: Path, stages: tuple[str, ...]) -> None:
    data = build(make_run(tmp_path / "run", steps=4, stages=stages))
    words = Page(render_html(data)).words
    assert data.verdict.light == "unknown" and "No outcome yet" in words
    missing = {m.what for m in data.not_recorded}
    assert "summary.json" in missing
    for stage in ("sft", "rm", "ppo", "eval"):
        assert (f"stage {stage}" in missing) == (stage not in stages)
    assert "Not recorded" in render_text(data)


def test_interrupted_stage_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=4, stages=("sft", "rm", "ppo"))
    record = json.loads((run / "run.json").read_text())
    record["stages"]["ppo"] = {"status": "running", "seconds": 3.0}
    (run / "run.json").write_text(json.dumps(record))
    with (run / "stages/ppo/metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "metr')  # torn by the kill
    data = build(run)
    assert "end of stage ppo" in {m.what for m in data.not_recorded}
    assert any("ppo:" in note for note in data.notes)
    Page(render_html(data))


@pytest.mark.parametrize(
    "name", ["lineage.json", "stages/rm/evaluation.json", "stages/eval/samples.json", "config.yaml"]
)
@pytest.mark.parametrize("damage", ["remove", "garble", "wrong type"])
def test_any_file_may_be_missing_or_damaged(tmp_path: Path, name: str, damage: str) -> None:
    run = make_run(tmp_path / "run", steps=3)
    if damage == "remove":
        (run / name).unlink()
    else:
        (run / name).write_text("{[" if damage == "garble" else "[1, null]")
    data = build(run)
    Page(render_html(data))
    stem = name.removeprefix("stages/").split("/")[-1]
    assert any(stem in m.what for m in data.not_recorded)


def test_missing_metric_is_named_and_its_plot_left_out(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=5)
    metrics = run / "stages/ppo/metrics.jsonl"
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    for line in lines:
        line["metrics"].pop("entropy/policy/token_mean", None)
    metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    data = build(run)
    assert "entropy/policy/token_mean" in {m.what for m in data.not_recorded}
    assert "Entropy" not in [panel.title for panel in data.policy_panels]


def test_nan_is_shown_as_nan_and_breaks_the_line(tmp_path: Path) -> None:
    data = build(make_run(tmp_path / "run", steps=8, nan_steps=(3, 8)))
    page = render_html(data)
    assert not any("nan" in svg for svg in re.findall(r"points=\"[^\"]*\"|c[xy]=\"[^\"]*\"", page))
    score = page[page.index("<h3>Reward-model score</h3>", page.index('id="curves"')) :].split("</figure>")[0]
    assert '<span class="last">NaN</span>' in score  # the last step
    assert "Score is not finite at 2 steps (3, 8)." in score
    assert score.count("<polyline") == 2 and score.count('class="cross') == 2
    assert "NaN" in json.loads(to_json(data))["policy_panels"][0]["curves"][0]["values"]
    Page(page)


def test_invariant_that_is_nan_has_not_passed(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=2)
    metrics = run / "stages/ppo/metrics.jsonl"
    metrics.write_text(metrics.read_text().replace("-3.1e-06", "NaN"))
    data = build(run)
    broken = [i.key for i in data.invariants if i.passed is False]
    assert broken == ["invariant/kl_ref/value"] and data.verdict.light == "bad"


def test_groups_of_samples(healthy: ReportData, healthy_run: Path) -> None:
    rows = json.loads((healthy_run / "stages/eval/samples.json").read_text())
    gains = sorted(row["gold_policy"] - row["gold_sft"] for row in rows)
    groups = {group.title: group.samples for group in healthy.sample_groups}
    assert list(groups) == ["Random", "Biggest gain", "Biggest loss"]

    def gain_of(sample) -> float:
        _, before, after = next(mark for mark in sample.marks if mark[0] == "gold")
        return after - before

    assert [gain_of(s) for s in groups["Biggest gain"]] == gains[::-1][:5]
    assert [gain_of(s) for s in groups["Biggest loss"]] == [g for g in gains if g < 0][:5]


def test_phases_account_for_all_of_the_time(healthy: ReportData) -> None:
    assert sum(phase.share for phase in healthy.phases) == pytest.approx(1)
    assert sum(phase.seconds for phase in healthy.phases) == pytest.approx(40 * 2.45)
    assert [phase.phase for phase in healthy.phases] == ["rollout", "score", "update", "other"]


def test_write_report_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=2)
    before = {p.name for p in run.iterdir()}
    assert write_report(run) == run / "report.html"
    assert write_report(run).read_text(encoding="utf-8").startswith("<!doctype html>")
    assert {p.name for p in run.iterdir()} == before | {"report.html"}


def test_directory_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunLogError, match=r"run\.json"):
        build(tmp_path)


def test_report_does_not_import_torch_or_the_trainer() -> None:
    code = "import sys, regard.report; print([m for m in sys.modules if m == 'torch' or m.startswith('regard.train')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_figures_no_cards(healthy: ReportData) -> None:
    bare = replace(
        healthy, figures=(), policy_panels=(), frontiers=(), model_panels=(), reward_model=None, phases=(), stages=()
    )
    assert "The run has no outcome yet" in Page(render_html(bare)).words
