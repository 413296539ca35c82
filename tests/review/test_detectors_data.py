"""Detectors of data, SFT, reward model and score: fired, clear and cannot tell, on numbers chosen by hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support_record import groups, make_record, shifted

from regard.review import catalogue
from regard.review.outcome import CannotTell, Clear, Fired
from regard.runlog.reader import RunLog

AGREEMENT, TRUSTED, TEST = "rm/rater_agreement/mean", "rm/accuracy_trusted/mean", "rm/accuracy_test/mean"
PAIRS, SHORTER, ECE = "rm/pairs_test/count", "rm/accuracy_shorter_chosen/mean", "rm/ece/value"
DATA, EPOCHS, RM_STD = "data/pairs/count", "data/epochs/count", "rm/score/std"
SCORE_STD, SCALE, MAIN = "score/reward_model/std", "score/reward_scale/value", "score/main_component/mean"
ALONE, SFT_LOSS, ZERO = "invariant/score_alone_max_diff/value", "loss/sft_eval/mean", "group/zero_std/frac"

Change = Callable[[dict[str, object], np.random.Generator], dict[str, object]]
Build = Callable[[Path], RunLog]
PROMPTS = [{"kind": "rendered", "prompts": [[2, 30 + n, 5] for n in range(16)]}]
TESTED = {TRUSTED: [0.8], PAIRS: [240]}


def only(stage: str, **metrics: list[float]) -> Build:
    return lambda path: make_record(path, {stage: metrics})


def rm(metrics: dict[str, list[float]]) -> Build:
    return lambda path: make_record(path, {"rm": metrics})


def ppo(metrics: dict[str, list[float]], rm: dict[str, list[float]] | None = None, **more: object) -> Build:
    return lambda path: make_record(path, {**({"rm": rm} if rm else {}), "ppo": metrics}, **more)  # type: ignore[arg-type]


def ppo_with(change: Change) -> Build:
    return ppo({}, rollouts=groups(change), steps=20)


def offset(row: dict[str, object]) -> float:
    """A number of the prompt alone, from -10 to 10."""
    return float(np.random.default_rng(int(str(row["prompt_id"]))).uniform(-10, 10))


def bonus(step_of_full: int, main_gain: float) -> Change:
    """A score whose main part gains `main_gain`, and which gains 4 beside it until `step_of_full`."""

    def change(row: dict[str, object], random: np.random.Generator) -> dict[str, object]:
        share = min(1.0, (int(str(row["rollout_id"])[4:10]) - 1) / step_of_full)
        main = float(str(row["gold"])) + main_gain * share
        return row | {"main_score": main, "score": main + 4.0 * share}

    return change


def wide_bonus(with_task: float, gain: float = 0.0, begins: int = 0) -> Change:
    """A bonus of 3 for half of the responses, always, which have `with_task` more of the main part. It gains `gain`
    over the run, and is 0 up to step `begins`."""

    def change(row: dict[str, object], random: np.random.Generator) -> dict[str, object]:
        has, step = float(random.random() < 0.5), int(str(row["rollout_id"])[4:10])
        main = (float(str(row["gold"])) + with_task * has + gain * step / 20) * (step > begins)
        return row | {"main_score": main, "score": main + 3.0 * has}

    return change


LATE_JUMP = [1.0] * 12 + [6.0] * 12

CASES: list[tuple[str, type, str, Build]] = [
    ("RMD003", Fired, "rushed", rm({AGREEMENT: [0.55]})),
    ("RMD003", Clear, "usual", rm({AGREEMENT: [0.72]})),
    ("RMD003", CannotTell, "labelled once", rm({TEST: [0.7]})),
    ("RMD004", Fired, "swapped", rm({TRUSTED: [0.25], PAIRS: [240]})),
    ("RMD004", Clear, "chance", rm({TRUSTED: [0.47], PAIRS: [240]})),
    ("RMD004", CannotTell, "of how many", rm({TRUSTED: [0.25]})),
    ("RMD005", Fired, "too sure", rm({ECE: [0.2]})),
    ("RMD005", Clear, "usual", rm({ECE: [0.05]})),
    ("RMD005", CannotTell, "not logged", rm({TEST: [0.7]})),
    ("RMD006", Fired, "likes length", rm({SHORTER: [0.2], TEST: [0.75]})),
    ("RMD006", Clear, "as good", rm({SHORTER: [0.7], TEST: [0.75]})),
    ("RMD006", Clear, "weak on all", rm({SHORTER: [0.42], TEST: [0.55]})),
    ("RMD006", CannotTell, "not logged", rm({TEST: [0.75]})),
    ("RMD007", Fired, "few", rm({DATA: [120], EPOCHS: [2]})),
    ("RMD007", Fired, "a tenth of an epoch", rm({DATA: [5000], EPOCHS: [0.05, 0.1]})),
    ("RMD007", Clear, "many", rm({DATA: [5000], EPOCHS: [1]})),
    ("RMD007", CannotTell, "not logged", rm({TEST: [0.7]})),
    ("RMD008", Fired, "not learned", rm({AGREEMENT: [0.9], TEST: [0.6]})),
    ("RMD008", Clear, "learned", rm({AGREEMENT: [0.9], TEST: [0.8]})),
    ("RMD008", Clear, "nothing to learn", rm({AGREEMENT: [0.55], TEST: [0.51]})),
    ("RMD008", CannotTell, "no agreement", rm({TEST: [0.6]})),
    ("RWD010", Fired, "pads", ppo({ALONE: [0.8]})),
    ("RWD010", Clear, "rounding", ppo({ALONE: [0.02]})),
    ("RWD010", CannotTell, "not tried", ppo({SCORE_STD: [1, 1, 1]})),
    ("RWD011", Fired, "sign", ppo({}, rollouts=groups(shifted("score", lambda row: -row["score"])))),
    ("RWD011", Clear, "usual", ppo({}, rollouts=groups())),
    ("RWD011", Clear, "unrelated", ppo({}, rollouts=groups(shifted("score", lambda row: row["length"])))),
    ("RWD011", CannotTell, "no judge", ppo({}, rollouts=groups(drop=["gold"]))),
    ("RWD012", Fired, "twenty times", ppo({SCORE_STD: [20.0] * 5, SCALE: [1.0]}, {RM_STD: [1.0]})),
    ("RWD012", Fired, "a twentieth", ppo({SCORE_STD: [0.05] * 5, SCALE: [1.0]}, {RM_STD: [1.0]})),
    ("RWD012", Fired, "jumps", ppo({SCORE_STD: LATE_JUMP, SCALE: [1.0]})),
    ("RWD012", Clear, "a bonus jumps, the main part does not",
     ppo({SCORE_STD: LATE_JUMP, SCALE: [1.0]}, rollouts=groups(bonus(20, 3.0)), steps=20)),
    ("RWD012", Clear, "a third as wide", ppo({SCORE_STD: [0.33] * 5, SCALE: [1.0]}, {RM_STD: [1.0]})),
    ("RWD012", Clear, "divided, so the same", ppo({SCORE_STD: [1.0] * 5, SCALE: [20.0]}, {RM_STD: [20.0]})),
    ("RWD012", Clear, "one high point", ppo({SCORE_STD: [1.0] * 12 + [9.0] + [1.0] * 12})),
    ("RWD012", CannotTell, "short and alone", ppo({SCORE_STD: [20.0] * 5})),
    ("RWD013", Fired, "lost on the way",
     ppo({}, TESTED, rollouts=groups(shifted("score", lambda row: row["length"])))),
    ("RWD013", Clear, "kept", ppo({}, TESTED, rollouts=groups())),
    ("RWD013", CannotTell, "no test", ppo({}, rollouts=groups())),
    ("RWD013", CannotTell, "one response a prompt", ppo({}, TESTED, rollouts=groups(prompts=64, size=1))),
    ("RWD014", Fired, "bonus", ppo({}, rollouts=groups(bonus(20, -1.0)), steps=20)),
    ("RWD014", Fired, "nearly all of it", ppo({}, rollouts=groups(bonus(20, 0.35)), steps=20)),
    ("RWD014", Fired, "wide, against the task", ppo_with(wide_bonus(-1.0))),
    ("RWD014", Clear, "wide, beside the task", ppo_with(wide_bonus(0.0))),
    ("RWD014", Clear, "wide, and a right answer has it", ppo_with(wide_bonus(1.0))),
    ("RWD014", Clear, "the task is learned all the same", ppo_with(wide_bonus(-1.0, 2.0))),
    ("RWD014", Clear, "nothing is right at first", ppo_with(wide_bonus(-1.0, begins=8))),
    ("RWD014", Clear, "the task rises too", ppo({}, rollouts=groups(bonus(20, 3.0)), steps=20)),
    ("RWD014", Clear, "one number", ppo({}, rollouts=groups(), steps=20)),
    ("RWD014", CannotTell, "the parts are missing", ppo({MAIN: [1.0] * 5}, rollouts=groups(), steps=20)),
    ("RWD015", Fired, "prejudice", ppo({}, rollouts=groups(shifted("score", lambda row: row["gold"] + offset(row))))),
    ("RWD015", Clear, "usual", ppo({}, rollouts=groups())),
    ("RWD015", CannotTell, "no judge",
     ppo({}, rollouts=groups(shifted("score", lambda row: row["gold"] + offset(row)), drop=["gold"]))),
    ("DAT001", Fired, "twelve prompts",
     ppo({}, rollouts=groups(shifted("prompt_id", lambda row: int(row["prompt_id"]) % 12)))),
    ("DAT001", Clear, "in turn", ppo({}, rollouts=groups(different=40))),
    ("DAT001", CannotTell, "nameless", ppo({}, rollouts=groups(drop=["prompt", "prompt_id"]))),
    ("DAT002", Fired, "leak", ppo({}, rollouts=groups(), eval_prompts=[f"question {n} :" for n in range(60, 70)])),
    ("DAT002", Clear, "apart", ppo({}, rollouts=groups(), eval_prompts=[f"question {n} :" for n in range(900, 950)])),
    ("DAT002", CannotTell, "no evaluation", ppo({}, rollouts=groups())),
    ("DAT003", Fired, "no separator",
     ppo({}, {}, rollouts=groups(shifted("prompt_tokens", lambda row: row["prompt_tokens"][:-1])))),
    ("DAT003", Clear, "alike", ppo({}, {}, rollouts=groups())),
    ("DAT003", CannotTell, "no tokens", ppo({}, {}, rollouts=groups(drop=["prompt_tokens"]))),
    ("DAT004", Fired, "too hard", ppo({ZERO: [0.9] * 20})),
    ("DAT004", Clear, "becomes easy", ppo({ZERO: list(np.linspace(0.3, 0.95, 40))})),
    ("DAT004", CannotTell, "not logged", ppo({SCORE_STD: [1.0] * 20})),
    ("SFT001", Fired, "by heart", only("sft", **{SFT_LOSS: [3.0, 2.4, 2.6, 3.1]})),
    ("SFT001", Clear, "a little", only("sft", **{SFT_LOSS: [3.0, 2.4, 2.38, 2.42]})),
    ("SFT001", CannotTell, "twice", only("sft", **{SFT_LOSS: [3.0, 2.4]})),
]  # fmt: skip


def build(make: Build, path: Path) -> RunLog:
    """The record of a case; every one has an SFT stage with rendered prompts, unless it is about SFT."""
    run = make(path)
    if "sft" not in run.stages:
        run.stages["sft"] = make_record(path / "sft", {"sft": {}}, events={"sft": PROMPTS}).stages["sft"]
    return run


@pytest.mark.parametrize(("code", "expected", "case", "make"), CASES, ids=lambda x: x if isinstance(x, str) else "")
def test_outcome(code: str, expected: type, case: str, make: Build, tmp_path: Path) -> None:
    run = build(make, tmp_path)
    one = catalogue()[code]
    stage = next(stage for name, stage in run.stages.items() if name in one.stages)
    outcome = one.check(run, stage)
    assert type(outcome) is expected, outcome
    if isinstance(outcome, Fired):
        assert outcome.onset.interval[0] <= outcome.onset.step <= outcome.onset.interval[1]


def test_a_jump_of_the_scale_is_found_at_its_step(tmp_path: Path) -> None:
    run = build(ppo({SCORE_STD: LATE_JUMP}), tmp_path)
    outcome = catalogue()["RWD012"].check(run, run.stages["ppo"])
    assert isinstance(outcome, Fired)
    assert outcome.onset.interval[0] <= 12 <= outcome.onset.interval[1] and abs(outcome.onset.step - 12) <= 1
