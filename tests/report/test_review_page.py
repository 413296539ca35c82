"""The page of a review: what it must and must not hold. Runs are those of make_run.py and logs that TRL wrote."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from make_run import add_rollouts, make_run
from test_report import Page

from regard.cli.review import store
from regard.report.evidence import evidence_figures, onset_interval
from regard.report.review_html import doc_section, render_result, render_review_html, visible
from regard.report.strips import marks_of, stage_range, stage_strips
from regard.report.witnesses import witnesses
from regard.review import catalogue, review
from regard.runlog.importers import read_any
from regard.runlog.reader import RunLog, read_run

TRL = Path(__file__).parents[1] / "runlog/trl_logs"
SECTIONS = ["causes", "findings", "rollouts", "curves", "stages", "clear", "not-checked", "notes", "json"]
ATTACK = "</p></article></pre><script>alert(1)</script><img src=x onerror=alert(2)>&amp;\"'\u2028"
CAUSE: dict[str, Any] = {
    "id": "K1",
    "name": "kl-coefficient-too-low",
    "title": "The KL penalty is too weak",
    "stage": "KL",
    "layman": "The leash is too long.",
    "status": "diagnosed",
    "probability": 0.83,
    "root_onset": {"step": 3, "interval": [2, 5]},
    "symptom_onset": {"step": 16, "interval": [16, 21]},
    "explains": ["RWD001"],
    "evidence": [{"sign": "RWD001", "summary": "Gold fell."}, {"sign": "beta", "summary": "`ppo.kl_coef` is 0.05."}],
    "rows": [],
    "against": ["KL001: it is clear."],
    "missing": ["gold/raters/mean"],
    "would_overturn": "A run with four times the coefficient that falls as well.",
    "fix": {"changes": [{"key": "ppo.kl_coef", "from": 0.05, "to": 0.2}], "why": "A stronger pull keeps it near."},
}  # fmt: skip


def words_of(page: str) -> str:
    """The text of a page without the JSON at its end, which holds everything anyway."""
    return Page(re.sub(r'<section id="json".*?</section>', "", page, flags=re.DOTALL)).words


@pytest.fixture(scope="module")
def collapsed(tmp_path_factory: pytest.TempPathFactory) -> RunLog:
    path = make_run(tmp_path_factory.mktemp("review") / "run", collapse=True, nan_steps=(17, 38))
    add_rollouts(path, 1, ["It was fine.", "A quiet film.", "Dull."], [0.1, 0.4, 0.2])
    add_rollouts(path, 40, ["great great great", "lovely lovely", "fine"], [2.5, 2.9, 1.0])
    return read_run(path)


@pytest.fixture(scope="module")
def result(collapsed: RunLog) -> dict[str, Any]:
    return review(collapsed).to_json()


def test_page_is_well_formed_and_has_its_sections(collapsed: RunLog) -> None:
    page = render_review_html(review(collapsed))
    parsed = Page(page)
    assert page.startswith("<!doctype html>")
    assert [a["id"] for tag, a in parsed.tags if tag == "section"] == SECTIONS
    ids = [a["id"] for _, a in parsed.tags if "id" in a]
    assert len(ids) == len(set(ids))
    targets = [(a["href"] or "")[1:] for tag, a in parsed.tags if tag == "a"]
    assert set(targets) <= set(ids), set(targets) - set(ids)
    assert all(a["aria-labelledby"] in ids for _, a in parsed.tags if "aria-labelledby" in a)


def test_nothing_is_loaded_and_there_is_no_script_at_all(collapsed: RunLog) -> None:
    page = render_review_html(review(collapsed))
    assert not re.search(r"(?:https?:)?//[a-z]", page, re.IGNORECASE)
    assert "@import" not in page and "url(" not in page
    parsed = Page(page)
    assert {tag for tag, _ in parsed.tags} & {
        "script",
        "link",
        "iframe",
        "img",
        "object",
        "embed",
        "form",
        "base",
    } == set()
    assert not any(name in ("src", "srcset", "action") or name.startswith("on") for _, a in parsed.tags for name in a)
    (policy,) = [a["content"] for tag, a in parsed.tags if tag == "meta" and a.get("http-equiv")]
    assert policy is not None and policy.startswith("default-src 'none';")


def test_first_screen_has_verdict_findings_and_what_was_not_checkable(
    collapsed: RunLog, result: dict[str, Any]
) -> None:
    head = Page(render_result(result, collapsed).split("<main")[0] + "</body></html>").words
    assert "Failed" in head and "fixture" in head
    assert all(finding["summary"] in head for finding in result["findings"][:3])
    assert "could not be looked for" in head


def test_all_of_the_result_is_on_the_page(collapsed: RunLog, result: dict[str, Any]) -> None:
    words = words_of(render_result(result, collapsed))
    for entry in [*result["findings"], *result["clear"], *result["not_checked"]]:
        assert entry["code"] in words
        assert re.sub(r"\s+", " ", entry.get("summary") or entry["reason"]).replace("`", "") in words
    for entry in result["not_checked"]:
        assert entry["missing"][0] in words


def test_embedded_json_is_the_result(collapsed: RunLog, result: dict[str, Any]) -> None:
    result = json.loads(json.dumps(result))
    result["notes"] = [ATTACK, "\u202eright to left", "\x00\x1b"]
    page = render_result(result, collapsed)
    embedded = re.search(r'<pre id="report-json"[^>]*>(.*?)</pre>', page, re.DOTALL)
    assert embedded is not None
    assert json.loads("".join(Page(f"<pre>{embedded.group(1)}</pre>").text)) == result


def test_cause_is_shown_with_evidence_change_and_what_speaks_against_it(
    collapsed: RunLog, result: dict[str, Any]
) -> None:
    second = CAUSE | {"id": "A1", "name": "other-root", "status": "suspected", "probability": 0.11, "explains": [],
                      "symptom_onset": None, "against": [], "title": "Another root"}  # fmt: skip
    page = render_result(result | {"causes": [second, CAUSE]}, collapsed)
    words = words_of(page)
    assert page.index('id="cause-K1"') < page.index('id="cause-A1"')  # the likelier first
    for phrase in (
        "The KL penalty is too weak.",
        "Began at step 3 (between 2 and 5). Shows from step 16 (between 16 and 21) on as RWD001.",
        "step 3 (between 2 and 5)",
        "step 16 (between 16 and 21)",
        "83.0 %",
        "diagnosed",
        "suspected",
        "Gold fell.",
        "KL001: it is clear.",
        "A run with four times the coefficient that falls as well.",
        "Log gold/raters/mean",
        "A stronger pull keeps it near.",
    ):
        assert phrase in words.replace("\u00a0", " ").replace(" .", "."), phrase
    change = re.search(r'<table class="change">.*?</table>', page, re.DOTALL)
    assert change is not None
    cells = re.findall(r"<t[dh](?: [^>]*)?>(?:<code[^>]*>)?([^<]*)", change.group())
    assert cells == ["Key", "From", "To", "ppo.kl_coef", "0.05", "0.2"]
    assert "<code>ppo.kl_coef</code> is 0.05." in page  # backticks of prose


def test_cause_that_a_real_review_finds_is_on_its_page(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", steps=30)
    metrics = path / "stages/ppo/metrics.jsonl"
    metrics.write_text(
        metrics.read_text().replace('"invariant/kl_ref/value": -3.1e-06', '"invariant/kl_ref/value": 9.0')
    )
    found = review(read_run(path))
    assert found.causes, "KL to the reference before the first update has a cause"
    words = words_of(render_review_html(found))
    for one in found.causes:
        assert one.cause.id in words and one.cause.would_overturn.replace("`", "") in words


def test_each_series_of_the_evidence_has_a_plot_with_onset_limit_and_table(
    collapsed: RunLog, result: dict[str, Any]
) -> None:
    stage = collapsed.stages["ppo"]
    (finding,) = [one for one in result["findings"] if one["code"] == "RWD001"]
    figures = evidence_figures(finding, stage, stage_range(stage))
    assert [figure.title for figure in figures] == [one["metric"] for one in finding["evidence"]]
    for figure, evidence in zip(figures, finding["evidence"], strict=True):
        assert 'class="interval"' in figure.svg and 'class="upright onset"' in figure.svg
        assert 'class="level"' in figure.svg and 'class="dot seen"' in figure.svg
        assert f"at step {evidence['step']}" in re.findall(r'aria-label="([^"]*)"', figure.svg)[0]
        assert len(figure.rows) == len(stage.metrics[figure.title].steps)


def test_shaded_interval_lies_where_the_axis_says(collapsed: RunLog, result: dict[str, Any]) -> None:
    (finding,) = [one for one in result["findings"] if one["code"] == "RWD001"]
    low, high = finding["onset"]["interval"]
    figure = evidence_figures(finding, collapsed.stages["ppo"], (0.0, 40.0))[0]
    shaded = re.search(r'<rect class="interval" x="([\d.]+)" width="([\d.]+)"', figure.svg)
    assert shaded is not None
    left, right = 50, 380 - 12  # of the axes, svg.py
    assert float(shaded[1]) == pytest.approx(left + low / 40 * (right - left), abs=0.1)
    assert float(shaded[2]) == pytest.approx((high - low) / 40 * (right - left), abs=0.1)


def test_value_that_is_not_finite_has_no_limit_in_its_plot(collapsed: RunLog, result: dict[str, Any]) -> None:
    (finding,) = [one for one in result["findings"] if one["code"] == "NUM001"]
    figure = evidence_figures(finding, collapsed.stages["ppo"], (0.0, 40.0))[0]
    assert 'class="level"' not in figure.svg and 'class="cross c0"' in figure.svg
    assert figure.notes == ("Not finite at 2 steps (17, 38).",)


def test_strips_share_an_axis_and_mark_every_onset(collapsed: RunLog, result: dict[str, Any]) -> None:
    strips = stage_strips(collapsed.stages["ppo"], marks_of(result, "ppo"))
    assert strips is not None and len(strips.strips) >= 8
    onsets = {one["code"]: one["onset"]["step"] for one in result["findings"] if one["stage"] == "ppo"}
    onsets |= {one["id"]: one["root_onset"]["step"] for one in result["causes"]}
    assert {mark.name: mark.step for mark in strips.marks} == onsets
    for strip in strips.strips:  # one vertical line a mark, in the same place of each strip
        assert re.findall(r'<line class="at \w+" x1="([\d.]+)"', strip.svg) == [
            f"{m.left * 10:.1f}" for m in strips.marks
        ]
        assert "lowest" in strip.svg and strip.last
    same_step = [mark.lane for mark in strips.marks if mark.step == 17]
    assert len(same_step) == len(set(same_step))  # names do not cover each other
    assert strips.header[1:] == tuple(strip.key for strip in strips.strips) and len(strips.rows) == 40


def test_highest_scores_of_the_end_stand_beside_the_start_of_the_same_prompt(
    collapsed: RunLog, result: dict[str, Any]
) -> None:
    (group,) = witnesses(collapsed, result)
    assert [(pair.late.text, pair.early and pair.early.text, pair.same_prompt) for pair in group.pairs] == [
        ("lovely lovely", "A quiet film.", True),
        ("great great great", "It was fine.", True),
        ("fine", "Dull.", True),
    ]


def test_rollouts_that_a_finding_names_come_first(collapsed: RunLog, result: dict[str, Any]) -> None:
    result = json.loads(json.dumps(result))
    (finding,) = [one for one in result["findings"] if one["code"] == "RWD001"]
    finding["evidence"][0]["rows"] = ["ppo-000040-00002", "none-such", "ppo-000001-00000"]
    result["causes"] = [CAUSE | {"rows": ["ppo-000040-00000"]}]
    cause, named, _ = witnesses(collapsed, result)
    assert [claim.href for claim in cause.claims] == ["#cause-K1"]
    assert [pair.late.id for pair in cause.pairs] == ["ppo-000040-00000"]
    assert [claim.href for claim in named.claims] == ["#finding-ppo-RWD001"]
    assert [pair.late.id for pair in named.pairs] == ["ppo-000040-00002", "ppo-000001-00000"]
    assert named.pairs[1].early is None  # nothing is earlier than the first step


def test_unreadable_rollouts_leave_a_page(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", steps=20)
    for file in (path / "stages/ppo/rollouts").glob("*.parquet"):
        file.write_bytes(file.read_bytes()[:50])
    assert "cannot be read" in Page(render_review_html(review(read_run(path)))).words


def test_text_of_the_run_cannot_become_markup(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", steps=20)
    add_rollouts(path, 20, [ATTACK, "\x00\x1b[31m\u202eback\u2066 \ufeff"], [1.0, 0.5])
    with (path / "stages/ppo/metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 21, "metrics": {ATTACK: 1.0, "\ud800": 2.0}}) + "\n")
    (path / "config.yaml").write_text(json.dumps({"recipe": ATTACK}))
    page = render_review_html(review(read_run(path)))
    page.encode("utf-8")
    parsed = Page(page)
    assert not {tag for tag, _ in parsed.tags} & {"script", "img"}
    assert "<script>alert(1)</script>" in parsed.words
    assert "⟦U+0000⟧⟦U+001B⟧[31m⟦U+202E⟧back⟦U+2066⟧ ⟦U+FEFF⟧" in parsed.words
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069\u2028]", page)


@pytest.mark.parametrize("text", ["plain", "Ω ≥ 3 µs", "línea\n\tdos", "नी\u200dति", "👩\u200d🚀", "日本語"])
def test_ordinary_text_is_left_as_it_is(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize("log", ["ppo", "grpo", "rloo", "dpo", "reward"])
def test_logs_of_trl_have_a_page(log: str) -> None:
    found = review(read_any(TRL / log))
    parsed = Page(render_review_html(found))
    assert "The record has no rollouts." in parsed.words
    assert any(tag == "svg" for tag, _ in parsed.tags)


def test_run_without_anything_has_a_page(tmp_path: Path) -> None:
    found = review(read_run(make_run(tmp_path / "run", stages=(), steps=1)))
    words = Page(render_review_html(found)).words
    assert found.verdict == "inconclusive" and "The record has no metrics." in words


def test_review_of_our_run_is_stored_as_page_and_json(tmp_path: Path) -> None:
    found = review(read_run(make_run(tmp_path / "run", steps=20)))
    page = store(found)
    assert page == tmp_path / "run/review/report.html"
    assert page.read_text(encoding="utf-8") == render_review_html(found)
    assert json.loads((page.parent / "report.json").read_text()) == found.to_json()
    assert {entry.name for entry in page.parent.iterdir()} == {"report.html", "report.json"}


@pytest.mark.parametrize("code", catalogue())
def test_documentation_of_each_detector_can_be_quoted(code: str) -> None:
    doc = catalogue()[code].doc
    for heading in ("Why it matters", "What to do", "False alarms"):
        text = doc_section(doc, heading)
        assert text and "##" not in text and text in doc


@pytest.mark.parametrize(
    ("onset", "interval"),
    [({"step": 4, "interval": [3, 9]}, (3, 9)), ({"step": 4}, (4, 4)), ({}, None), (None, None), ("4", None)],
)
def test_onset_may_lack_an_interval(onset: object, interval: tuple[int, int] | None) -> None:
    assert onset_interval(onset) == interval
