"""The benchmark of the review: counting against hand-computed values, plan, processes, and two real jobs."""

import json
import math
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from lab.errands import errand
from review.support_review import make_run

from regard.errors import ConfigError
from regard.lab import fit, peers, withhold
from regard.lab.bench import bench, make_runs, table
from regard.lab.controls import CONTROLS
from regard.lab.examine import stored
from regard.lab.faults import FAULTS
from regard.lab.peers import PEERS, compare, peer_log, run_peer
from regard.lab.plan import LEAST, Job, plan
from regard.lab.run import truth_path
from regard.lab.score import (
    Z95,
    Case,
    Named,
    Share,
    abstention,
    brier,
    calibration_error,
    confusion,
    false_positives,
    onsets,
    plain,
    reliability,
    row,
    score,
    wilson,
)
from regard.lab.workers import work
from regard.review.causes import all_causes
from regard.review.facts import Facts
from regard.review.inference import ABSENT, DIAGNOSED, STRENGTH, TEMPERATURE, counted, infer
from regard.review.signs import Answer, Sign, unknown, yes
from regard.runlog.rollouts import encode_rollouts, rollouts_name

# Counting


def named(*causes: tuple[str, float], diagnosed: bool = True, root: tuple[int, int] = (0, 0)) -> tuple[Named, ...]:
    return tuple(Named(one, p, diagnosed and p >= 0.6, root) for one, p in causes)


def case(*roots: str, causes: tuple[Named, ...] = (), verdict: str = "failed", **more: object) -> Case:
    plain = Case("run", 1, roots, "medium" if roots else "", "start" if roots else "", "" if roots else "healthy", 0,
                 verdict, causes, {one.id: one.probability for one in causes}, {})  # fmt: skip
    return replace(plain, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(("hits", "of"), [(0, 200), (1, 200), (8, 10), (10, 10), (190, 200)])
def test_wilson_bounds_are_the_shares_that_a_z_test_just_does_not_reject(hits: int, of: int) -> None:
    for bound in wilson(hits, of):
        if 1e-9 < bound < 1 - 1e-9:  # |p̂ − p| = z √(p(1−p)/n), the definition
            assert abs(hits / of - bound) == pytest.approx(Z95 * math.sqrt(bound * (1 - bound) / of), rel=1e-9)


def test_wilson_of_published_values() -> None:
    assert wilson(0, 200) == pytest.approx((0.0, 3.841459 / 203.841459), abs=1e-6)  # z² / (n + z²)
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


def test_a_share_of_nothing_is_null_and_no_zero() -> None:
    assert plain(Share(0, 0)) == {"hits": 0, "of": 0, "value": None, "ci95": None}
    assert str(Share(0, 0)) == "–"
    assert str(Share(8, 10)) == "8/10 = 80.0 % [49.0, 94.3]"


def test_top_k_counts_the_planted_cause_by_its_rank_and_misses_where_nothing_is_named() -> None:
    cases = [
        case("K1", causes=named(("K1", 0.9))),
        case("K1", causes=named(("K3", 0.5), ("P1", 0.3), ("K1", 0.1))),
        case("K1", causes=named(("K3", 0.4), ("P1", 0.3), ("R5", 0.2), ("K1", 0.1))),
        case("K1", verdict="healthy"),
    ]
    line = row(cases)
    assert (line["top1"], line["top3"], line["recall"]) == ((1, 4), (2, 4), (3, 4))
    assert (line["diagnosed_right"], line["diagnosed_wrong"]) == ((1, 4), (0, 4))


def test_inconclusive_and_healthy_are_not_positive() -> None:
    controls = [case(verdict=verdict) for verdict in ("healthy", "inconclusive", "suspect", "failed")]
    controls.append(case(verdict="suspect", kind="benign change", causes=named(("K1", 0.7))))
    found = false_positives(controls)
    assert found["all"]["positive"] == (3, 5) and found["all"]["diagnosed"] == (1, 5)
    assert found["healthy"]["positive"] == (2, 4) and found["healthy"]["inconclusive"] == (1, 4)
    assert found["benign change"]["positive"] == (1, 1)


@pytest.mark.parametrize(
    ("root_step", "interval", "inside"),
    [(0, (0, 0), True), (0, (1, 3), True), (0, (2, 3), False), (21, (20, 21), True), (21, (0, 0), False),
     (21, (22, 24), False)],
)  # fmt: skip
def test_onset_is_inside_to_the_step(root_step: int, interval: tuple[int, int], inside: bool) -> None:
    one = case("K1", causes=named(("K1", 0.9), root=interval), root_step=root_step)
    assert one.onset_inside is inside


def test_onset_counts_only_runs_that_name_the_planted_cause() -> None:
    assert case("K1", causes=named(("K3", 0.9))).onset_inside is None
    early = case("K1", start="mid", root_step=20, findings=(("KL001", "error", (3, 9)), ("RWD001", "error", (22, 30))))
    late = replace(early, findings=(("RWD001", "error", (22, 30)),))
    assert onsets([early, late])["mid"]["symptom_not_before_root"] == (1, 2)


def test_brier_score_by_hand() -> None:
    # run 1: (0.8 − 1)² + (0.1 − 0)² = 0.05; run 2, a control: 0.3² = 0.09; run 3: its cause has no entry: 1² + 0.5²
    cases = [case("K1", causes=named(("K1", 0.8), ("K3", 0.1))), case(causes=named(("K1", 0.3))),
             case("X9", causes=named(("K1", 0.5)))]  # fmt: skip
    assert brier(cases) == pytest.approx((0.05 + 0.09 + 1.25) / 3)


def test_reliability_bins_and_their_error_by_hand() -> None:
    cases = [case("K1", causes=named(("K1", 0.91), ("K3", 0.05))), case("K3", causes=named(("K1", 0.93))),
             case(causes=named(("K1", 1.0)))]  # fmt: skip
    low, high = reliability(cases)
    assert low == {"stated": 0.05, "true": Share(0, 1)}
    assert high["stated"] == pytest.approx((0.91 + 0.93 + 1.0) / 3) and high["true"] == (1, 3)
    error = (1 * 0.05 + 3 * abs((0.91 + 0.93 + 1.0) / 3 - 1 / 3)) / 4
    assert calibration_error([low, high]) == pytest.approx(error)


def test_abstention_counts_wrong_causes_and_what_could_not_be_tried() -> None:
    def without(status: str, *diagnosed: str) -> Case:
        return case("K1", withheld={"status": status, "diagnosed": list(diagnosed)})

    found = abstention([without("withheld"), without("withheld", "K1"), without("withheld", "K3"),
                        without("no decider"), without("cannot")])  # fmt: skip
    assert found["no_wrong_cause"] == (2, 3) and found["no_cause"] == (1, 3) and found["still_right"] == (1, 3)
    assert found["no_decider_held"] == 1 and found["not_withholdable"] == 1


def test_the_stage_is_right_where_another_cause_of_that_stage_is_named() -> None:
    stage = all_causes()["K3"].stage
    same = next(one.id for one in all_causes().values() if one.stage == stage and one.id != "K3")
    other = next(one.id for one in all_causes().values() if one.stage != stage)
    cases = [case("K3", causes=named((one, 0.9))) for one in ("K3", same, other)] + [case("K3")]
    assert row(cases)["stage"] == (2, 4) and row(cases)["top1"] == (1, 4)


def test_confusion_counts_the_cause_that_is_named_first() -> None:
    cases = [case("K1", causes=named(("K3", 0.9))), case("K1"), case("K1", causes=named(("K3", 0.5), ("K1", 0.4)))]
    assert confusion(cases) == {"K1": {"K3": 2, "none": 1}}


def test_pairs_have_their_own_lines_only() -> None:
    pair = case("K1", "R5", causes=named(("R5", 0.5), ("K3", 0.3), ("K1", 0.1)))
    scores = score([pair, case("K1", verdict="healthy"), case(verdict="healthy")])
    assert scores["faults"]["recall"] == (0, 1)
    assert scores["pairs"]["first_is_one"] == (1, 1) and scores["pairs"]["all_in_three"] == (1, 1)
    assert scores["brier_of_silence"] == pytest.approx((2 + 1 + 0) / 3)


# Plan


def test_plan_is_the_same_each_time_with_unique_names_and_enough_of_each() -> None:
    jobs = plan("facts", seeds=2, controls=50, pairs=7)
    assert jobs == plan("facts", seeds=2, controls=50, pairs=7)
    assert len({job.name for job in jobs}) == len(jobs)
    per_fault = Counter(job.faults[0] for job in jobs if len(job.faults) == 1)
    assert per_fault.keys() == FAULTS.keys() and min(per_fault.values()) >= LEAST
    controls = [job for job in jobs if job.control]
    assert len(controls) >= 50 and {job.control for job in controls} == CONTROLS.keys()
    seeds = Counter(job.seed for job in controls)
    assert set(seeds.values()) == {1}  # a reward model each
    healthy = {job.seed for job in controls if job.control == "healthy"}
    assert {job.seed for job in jobs if job.faults} <= healthy  # what a fault cost can be said
    pairs = [job for job in jobs if len(job.faults) == 2]
    assert len(pairs) == 7 and all(FAULTS[a].stage != FAULTS[b].stage for a, b in (job.faults for job in pairs))


def test_seeds_of_faults_end_where_those_of_controls_begin() -> None:
    jobs = plan("facts", seeds=100, controls=34, pairs=0, only=("K1",))
    assert len({job.name for job in jobs}) == len(jobs)
    with pytest.raises(ConfigError, match="Give --seeds 100 or less"):
        plan("facts", seeds=101)


def test_every_planned_fault_has_that_severity_and_start() -> None:
    for job in plan("facts", seeds=1, controls=0, pairs=20):
        assert all(job.severity in FAULTS[one].severities and job.start in FAULTS[one].starts for one in job.faults)


# Processes


def test_a_task_that_fails_hangs_or_kills_its_process_costs_itself_alone() -> None:
    done = {one.task: one for one in work(errand, ["5", "0", "sleep", "die", "2"], workers=2, limit=3)}
    assert done["5"].value == 2 and done["2"].value == 5
    assert done["0"].error is not None and done["0"].error.startswith("ZeroDivisionError")
    assert done["sleep"].error == "not done after 3 s" and done["die"].error == "the process ended with code 3"


def test_a_finished_run_is_not_made_again(tmp_path: Path) -> None:
    job = Job("facts", 1, control="healthy")
    truth_path(tmp_path / job.name).write_text("{}")
    said: list[str] = []
    assert make_runs([job], tmp_path, workers=1, limit=1, say=said.append) == {}
    assert said == ["1 of 1 runs are there already."] and not (tmp_path / job.name).exists()


# Taking the deciding datum away


def test_the_deciding_metric_is_found_and_without_it_the_cause_is_not_diagnosed() -> None:
    steady = [0.1] * 30
    run = make_run(
        "ppo",
        {"invariant/kl_ref/value": [2.0], "kl/policy_ref_k1/seq_sum": steady},
        events=[{"kind": "invariants", "tolerance": 1e-4}],
    )
    cause = replace(all_causes()["K3"], decided_by=("kl-not-zero-at-start",))
    datum = ("metric", "ppo", "invariant/kl_ref/value")
    assert withhold.decisive(cause, run) == (["kl-not-zero-at-start"], [datum])
    found = withhold.withhold(cause, run)
    assert found["removed"] == [": ".join(datum)] and "K3" not in found["diagnosed"]


def test_a_deciding_column_of_rollouts_is_found_and_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def low_gold(facts: Facts) -> Answer:
        sample = facts.rollouts
        if sample is None or not sample.has("gold", "score"):
            return unknown("No gold.", "rollouts: gold")
        return yes("low") if facts.setting("ppo.kl_coef") == 0.1 else unknown("No such setting.", "config: ppo.kl_coef")

    rows = [{"rollout_id": str(n), "step": 1, "gold": 0.5, "score": 1.0} for n in range(4)]
    (tmp_path / "rollouts").mkdir()
    (tmp_path / "rollouts" / rollouts_name(1)).write_bytes(encode_rollouts(1, rows))
    run = make_run("ppo", {"kl/policy_ref_k1/seq_sum": [0.1] * 30})
    run = replace(run, config={"ppo": {"kl_coef": 0.1}}, stages={"ppo": replace(run.stages["ppo"], path=tmp_path)})
    monkeypatch.setattr(withhold, "all_signs", lambda: {"low-gold": Sign("low-gold", "", low_gold)})
    cause = replace(all_causes()["K3"], decided_by=("low-gold",))
    assert withhold.decisive(cause, run) == (["low-gold"], [("rollouts", "gold")])
    read = withhold._reads("low-gold", run, Facts(run).rollouts)
    wanted = [("rollouts", "gold"), ("rollouts", "score"), ("config", "ppo.kl_coef")]
    assert [datum for datum in read if datum in wanted] == wanted
    assert withhold.withhold(cause, run)["removed"] == ["rollouts: gold"]
    assert set(run.stages["ppo"].rollouts()["gold"].to_pylist()) == {0.5}, "the record itself is as it was"


def test_a_setting_is_taken_away_under_its_last_part_too() -> None:
    config = {"ppo": {"kl_coef": 0.1, "steps": 3}, "kl_coef": 0.2}
    run = replace(make_run("ppo", {}), config=config)
    assert withhold._strip(run, [("config", "kl_coef")]).config == {"ppo": {"steps": 3}}


def test_harm_is_counted_against_the_healthy_run_of_the_seed() -> None:
    healthy = [
        replace(case(seed=seed), workload="w", control="healthy", gold=gold) for seed, gold in ((1, 0.8), (2, 0.5))
    ]
    other = replace(case(seed=1), workload="w", control="wider clip", gold=0.2)
    faults = [
        case("K1", seed=1, workload="w", gold=0.74), case("K1", seed=1, workload="w", gold=0.76, verdict="healthy"),
        case("K1", seed=2, workload="w", gold=0.44), case("K1", seed=3, workload="w", gold=0.0), case("K1", seed=1),
    ]  # fmt: skip
    by_harm = score([*healthy, other, *faults])["by_harm"]
    recall = {name: tuple(line["recall"]) for name, line in by_harm.items()}
    assert recall == {"gold fell": (2, 2), "gold as without it": (0, 1), "not known": (2, 2)}


def test_controls_that_lose_gold_are_counted_apart_too() -> None:
    kept, lost = case(verdict="healthy", gold=0.6, gold_best=0.65), case(gold=0.3, gold_best=0.5)
    found = {kind: tuple(line["positive"]) for kind, line in false_positives([kept, lost, case()]).items()}
    assert found == {"all": (2, 3), "healthy": (2, 3), "gold kept": (0, 1), "gold lost": (1, 1)}


# Fit


def seen_cases() -> list[Case]:
    names = ["kl-not-zero-at-start", "ratio-not-one-at-start", "forwards-differ", "KL001", "INV001"]
    answers = [(True, False, None, False, True), (False, False, False, False, False), (None, True, None, True, None)]
    cases = []
    for seed in range(1, 5):
        for at, root in enumerate((("K3",), (), ("K1",))):
            cases.append(case(*root, seed=seed, seen=dict(zip(names, answers[at], strict=True))))
    return cases


def test_the_search_weighs_as_the_review_does() -> None:
    cases = seen_cases()
    names = tuple(sorted({name for one in cases for name in one.seen}))
    healthy, marginal = fit.posteriors(fit.Seen.of(cases, names), counted(), STRENGTH, TEMPERATURE, ABSENT)
    for at, one in enumerate(cases):
        expected = infer(one.seen)
        assert healthy[at] == pytest.approx(expected.healthy, rel=1e-9)
        for place, cause in enumerate(all_causes()):
            assert marginal[at, place] == pytest.approx(expected.causes[cause], rel=1e-9)


def test_counts_leave_out_what_is_unknown_and_runs_with_two_faults() -> None:
    cases = [*seen_cases(), case("K1", "K3", seen={"KL001": True})]
    counts = fit.count(cases)
    assert counts["K3"]["kl-not-zero-at-start"] == [4, 4] and counts[""]["KL001"] == [0, 4]
    assert "forwards-differ" not in counts["K3"] and counts[""]["forwards-differ"] == [0, 4]


def test_a_seed_never_judges_a_table_that_has_seen_it() -> None:
    cases = seen_cases()
    odd = [replace(one, seen={**one.seen, "odd": one.roots == ("K3",)} if one.seed == 4 else one.seen) for one in cases]
    plain, with_odd = (fit.leave_out(some, 4.0, 0.6, 1.0) for some in (cases, odd))
    inside = [at for at, one in enumerate(cases) if one.seed == 4 and one.roots == ("K3",)]
    # A sign that only seed 4 shows is unknown to its own table, so it speaks against K3 there and not for it.
    assert with_odd.marginal[inside].max() <= plain.marginal[inside].max() + 1e-12


def test_a_workload_never_judges_a_table_that_has_seen_it() -> None:
    cases = [replace(one, workload="facts" if one.seed % 2 else "sorting") for one in seen_cases()]
    odd = [replace(one, seen={**one.seen, "odd": one.roots == ("K3",)} if one.workload == "facts" else one.seen)
           for one in cases]  # fmt: skip
    plain, with_odd = (fit.leave_out(some, 4.0, 0.6, 1.0) for some in (cases, odd))
    inside = [at for at, one in enumerate(cases) if one.workload == "facts" and one.roots == ("K3",)]
    assert with_odd.marginal[inside].max() <= plain.marginal[inside].max() + 1e-12
    one_task = [replace(one, workload="facts") for one in odd]
    assert fit.leave_out(one_task, 4.0, 0.6, 1.0).marginal[inside].max() > with_odd.marginal[inside].max()


def test_the_threshold_is_the_smallest_that_keeps_controls_clean() -> None:
    cases = seen_cases()
    order = list(all_causes())
    held = fit.leave_out(cases, 4.0, 0.6, 1.0)
    for at, one in enumerate(cases):
        held.healthy[at] = 0.0
        held.marginal[at] = 0.0
        held.marginal[at, order.index("K3")] = 0.72 if not one.roots else 0.97
    assert fit.judge(cases, held)["threshold"] == 0.5, "no sign decides for the controls, so nothing is diagnosed there"
    loud = [one if one.roots else replace(one, seen={"kl-not-zero-at-start": True}) for one in cases]
    found = fit.judge(loud, held)
    assert found["threshold"] == 0.75
    assert found["diagnosed"] == pytest.approx(0.5), "K3's own runs, and no other's"
    assert DIAGNOSED in fit.DIAGNOSED and STRENGTH in fit.STRENGTHS and TEMPERATURE in fit.TEMPERATURES
    assert ABSENT in fit.ABSENT


# Peers


def test_a_peer_reads_our_series_in_its_own_words() -> None:
    run = make_run("ppo", {"kl/policy_ref_k3/token_mean": [9.0, 0.1, 0.2], "score/reward_model/mean": [0.0, 1.0, 2.0]})
    run = replace(run, config={"ppo": {"kl_coef": 0.05}})
    config, *rows = [json.loads(line) for line in peer_log(run, peers.RLDOCTOR).splitlines()]
    assert config == {"config": {"algorithm": "ppo", "beta": 0.05}}
    assert rows == [{"step": 1, "reward": 1.0, "kl": 0.1}, {"step": 2, "reward": 2.0, "kl": 0.2}]


def test_baselines_are_one_and_zero() -> None:
    cases = [case("K1", name="a"), case("K1", name="b", verdict="healthy"), case(name="c", verdict="healthy")]
    found = compare(cases, {"peer": {"a": [], "b": ["x"], "c": ["x"]}})
    assert found["flag everything"] == {"recall": (2, 2), "false": (1, 1)}
    assert found["all healthy"] == {"recall": (0, 2), "false": (0, 1)}
    assert found["regard"] == {"recall": (1, 2), "false": (0, 1)}
    assert found["peer"] == {"recall": (1, 2), "false": (1, 1)}


# The whole


@pytest.mark.slow
def test_two_jobs_from_training_to_table_and_again_without_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGARD_CACHE", os.environ.get("REGARD_CACHE", str(tmp_path / "cache")))
    jobs = [Job("facts", 1, control="healthy"), Job("facts", 1, ("K3",), "severe", "start")]
    result = bench(jobs, tmp_path / "bench", peers=False, say=lambda line: None)
    assert result["runs"] == {"planned": 2, "scored": 2} and not result["failed"]
    assert result["scores"]["faults"]["recall"] == (1, 1) and result["scores"]["controls"]["all"]["positive"].of == 1
    tried = result["scores"]["abstention"]
    assert tried["no_wrong_cause"].of + tried["no_decider_held"] + tried["not_withholdable"] == 1
    assert not list((tmp_path / "bench").rglob("*.safetensors"))
    assert "recall" in table(result) and (tmp_path / "bench" / "reliability.svg").is_file()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "bench" / "runs").rglob("*.jsonl")}
    said: list[str] = []
    again = bench(jobs, tmp_path / "bench", peers=False, say=said.append)
    assert said == ["2 of 2 runs are there already."]
    assert plain(again["scores"]) == plain(result["scores"])
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "bench" / "runs").rglob("*.jsonl")}
    assert stored(tmp_path / "bench" / "runs" / jobs[0].name) is not None
    found = run_peer(PEERS[0], [tmp_path / "bench" / "runs" / job.name for job in jobs], tmp_path / "peers")
    assert found.keys() == {job.name for job in jobs}
