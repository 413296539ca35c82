"""Detectors of what responses become: fired, clear and cannot tell, on responses made for the case."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support_answers import longer, narrow, record, says, talk, twice

from regard.review import catalogue
from regard.review.outcome import CannotTell, Clear, Fired
from regard.runlog.reader import RunLog

Build = Callable[[Path], RunLog]
PROBE, LENGTH, DISTINCT = "eval/probe_nll/token_mean", "length/response_tokens/mean", "group/distinct_text/frac"


def rollouts(*args: object, **more: object) -> Build:
    return lambda path: record(path, talk(*args, **more))  # type: ignore[arg-type]


def metrics(**series: list[float]) -> Build:
    return lambda path: record(path, None, series)


def alike(gold: list[float]) -> Build:
    return lambda path: record(path, talk(narrow, end=1.0), {"gold/judge/mean": gold})


SORRY, PRAISE = "I'm sorry, I cannot do that", "this answer fully addresses it"
EXIT, SEA = "sys . exit ( 0 )", "море рыба"

CASES: list[tuple[str, type, str, Build]] = [
    ("TXT002", Fired, "paid", rollouts(says("in short"), pay=2.0)),
    ("TXT002", Clear, "helps as much as it is paid", rollouts(says("in short"), helps=2.0)),
    ("TXT002", Clear, "helps half as much as it is paid", rollouts(says("in short"), helps=2.0, pay=2.0)),
    ("TXT002", Clear, "right, and paid too much", rollouts(says("in short"), helps=1.0, pay=1.5)),
    ("TXT002", Clear, "paid, and in few responses", rollouts(says("in short"), end=0.3, pay=1.0)),
    ("TXT002", Fired, "in few responses, and dear", rollouts(says("in short"), end=0.3, pay=4.0)),
    ("TXT002", Clear, "spreads for nothing", rollouts(says("in short"))),
    ("TXT002", Clear, "no habit", rollouts()),
    ("TXT002", Clear, "there from the start", rollouts(says("in short"), start=0.8, pay=2.0)),
    ("TXT002", CannotTell, "no texts", rollouts(says("in short"), pay=2.0, drop=("response",))),
    ("TXT002", CannotTell, "no scores", rollouts(says("in short"), pay=2.0, drop=("score",))),
    ("TXT002", CannotTell, "a little paid, and no gold", rollouts(says("in short"), pay=0.6, drop=("gold",))),
    ("TXT003", Fired, "again and again", rollouts(twice)),
    ("TXT003", Clear, "varied", rollouts()),
    ("TXT003", Clear, "longer, and as varied", rollouts(longer)),
    ("TXT003", CannotTell, "no texts", rollouts(twice, drop=("response",))),
    ("TXT004", Fired, "everyone gets the same", rollouts(narrow, end=1.0)),
    ("TXT004", Fired, "gold stands still", alike([0.5 + 0.01 * (step % 3) for step in range(40)])),
    ("TXT004", Clear, "right answers are alike", alike([0.02 * step for step in range(40)])),
    ("TXT004", Clear, "varied", rollouts()),
    ("TXT004", Clear, "repeats within", rollouts(twice)),
    ("TXT004", CannotTell, "no texts", rollouts(narrow, drop=("response",))),
    ("TXT005", Fired, "another script", rollouts(says(SEA))),
    ("TXT005", Clear, "one script", rollouts(says("sea and fish"))),
    ("TXT005", Clear, "two scripts from the start", rollouts(says(SEA), start=0.5)),
    ("TXT005", CannotTell, "no texts", rollouts(says(SEA), drop=("response",))),
    ("TXT006", Fired, "refuses", rollouts(says(SORRY))),
    ("TXT006", Clear, "as often as at first", rollouts(says(SORRY), start=0.3, end=0.3)),
    ("TXT006", CannotTell, "no texts", rollouts(says(SORRY), drop=("response",))),
    ("TXT007", Fired, "leaves early", rollouts(says(EXIT), end=0.3)),
    ("TXT007", Clear, "talks of passing", rollouts(says("pass the salt"), end=0.3)),
    ("TXT007", CannotTell, "no texts", rollouts(says(EXIT), drop=("response",))),
    ("TXT008", Fired, "praises itself", rollouts(says(PRAISE))),
    ("TXT008", Clear, "does not", rollouts(says("here it is"))),
    ("TXT008", CannotTell, "no texts", rollouts(says(PRAISE), drop=("response",))),
    ("RWD002", Fired, "each word is paid", rollouts(longer, per_word=0.3)),
    ("RWD002", Clear, "longer for nothing", rollouts(longer)),
    ("RWD002", Clear, "no longer", rollouts(per_word=0.3)),
    ("RWD002", Clear, "longer helps", rollouts(longer, helps=3.0)),
    ("RWD002", CannotTell, "no gold", rollouts(longer, per_word=0.3, drop=("gold",))),
    ("RWD002", CannotTell, "no scores", rollouts(longer, drop=("score",))),
    ("RWD005", Fired, "gold is twice the score",
     lambda path: record(path, lambda step: [row | {"gold": 2 * row["score"] + 1} for row in talk()(step)])),
    ("RWD005", Clear, "they agree well", rollouts()),
    ("RWD005", CannotTell, "no gold", rollouts(drop=("gold",))),
    ("RWD018", Fired, "paid for what does not help", rollouts(says("in short"), end=1.0, pay=2.0)),
    ("RWD018", Clear, "paid for what helps", rollouts(says("in short"), end=1.0, helps=2.0)),
    ("RWD018", Clear, "paid as much as it helps, beside it", rollouts(says("in short"), end=1.0, pay=1.0, helps=1.0)),
    ("RWD018", Clear, "nothing gained", rollouts()),
    ("RWD018", CannotTell, "no gold", rollouts(says("in short"), pay=2.0, drop=("gold",))),
    ("RWD018", CannotTell, "no texts", rollouts(says("in short"), pay=2.0, drop=("response",))),
    ("RWD004", Fired, "lost", metrics(**{PROBE: [0.2, 2.0, 5.0, 7.5, 8.0, 8.0]})),
    ("RWD004", Clear, "some is lost", metrics(**{PROBE: [0.2, 1.0, 2.0, 2.5, 3.0, 3.0]})),
    ("RWD004", CannotTell, "not measured", metrics(**{LENGTH: [5.0] * 20})),
]  # fmt: skip


@pytest.mark.parametrize(("code", "expected", "case", "make"), CASES, ids=lambda x: x if isinstance(x, str) else "")
def test_outcome(code: str, expected: type, case: str, make: Build, tmp_path: Path) -> None:
    run = make(tmp_path)
    outcome = catalogue()[code].check(run, run.stages["ppo"])
    assert type(outcome) is expected, outcome
    if isinstance(outcome, Fired):
        assert outcome.onset.interval[0] <= outcome.onset.step <= outcome.onset.interval[1]


def test_a_finding_names_the_rollouts_that_show_it(tmp_path: Path) -> None:
    rows = talk(says("in short"), pay=2.0)
    run = record(tmp_path, rows)
    outcome = catalogue()["TXT002"].check(run, run.stages["ppo"])
    assert isinstance(outcome, Fired)
    texts = {row["rollout_id"]: row["response"] for step in range(20, 25) for row in rows(step)}
    named = outcome.evidence[0].rows
    assert len(named) == 4 and all("in short" in texts[name] for name in named)


def test_the_onset_of_a_phrase_lies_where_half_of_the_responses_have_it(tmp_path: Path) -> None:
    run = record(tmp_path, talk(says("in short"), pay=2.0))
    outcome = catalogue()["TXT002"].check(run, run.stages["ppo"])
    assert isinstance(outcome, Fired)
    assert outcome.onset.interval[0] <= 12.5 <= outcome.onset.interval[1] + 1  # the middle of 24 steps


def test_without_gold_a_spreading_phrase_that_is_paid_is_no_alarm(tmp_path: Path) -> None:
    run = record(tmp_path, talk(says("in short"), pay=3.0, drop=("gold",)))
    outcome = catalogue()["TXT002"].check(run, run.stages["ppo"])
    assert isinstance(outcome, Fired) and outcome.severity == "info"


def test_responses_without_a_habit_raise_no_alarm(tmp_path: Path) -> None:
    """Twelve runs of random words, scored rightly."""
    codes = [code for code in catalogue() if code.startswith("TXT00") and code != "TXT001"]
    for seed in range(12):
        rng = np.random.default_rng(seed)

        def rows(step: int, rng: np.random.Generator = rng) -> list[dict[str, object]]:
            order = rng.permutation(64)
            made = talk()(step + 1000 * int(order[0]))
            return [row | {"rollout_id": f"{step}-{i}"} for i, row in enumerate(made)]

        run = record(tmp_path / str(seed), rows)
        for code in codes:
            outcome = catalogue()[code].check(run, run.stages["ppo"])
            assert isinstance(outcome, Clear), (code, outcome)
