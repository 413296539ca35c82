"""Each sign of data, SFT and reward model: yes, no and unknown, on numbers chosen by hand."""

from pathlib import Path

import numpy as np
import pytest
from support_record import groups, make_record, shifted
from test_detectors_data import (
    AGREEMENT,
    ALONE,
    DATA,
    ECE,
    EPOCHS,
    LATE_JUMP,
    MAIN,
    PAIRS,
    RM_STD,
    SCALE,
    SCORE_STD,
    SFT_LOSS,
    SHORTER,
    TEST,
    TESTED,
    TRUSTED,
    ZERO,
    Build,
    bonus,
    build,
    offset,
    ppo,
    rm,
)

from regard.review.facts import Facts
from regard.review.ranking import between_groups, concordance
from regard.review.signs import all_signs

UNANIMOUS = "data/pairs_unanimous/frac"
TRAIN, LONGER, ENTROPY = "rm/accuracy_train/mean", "data/pairs_chosen_longer/frac", "entropy/policy/token_mean"


def flat(step: int, score: float) -> Build:
    """Groups whose responses all have this score."""
    return ppo({}, rollouts=groups(shifted("score", lambda row: score)), steps=step)


def sft(loss: list[float], entropy: float, config: dict[str, object] | None = None) -> Build:
    return lambda path: make_record(path, {"sft": {SFT_LOSS: loss}, "ppo": {ENTROPY: [entropy] * 5}}, config=config)


CASES: list[tuple[str, bool | None, str, Build]] = [
    ("raters-disagree", True, "", rm({AGREEMENT: [0.6]})),
    ("raters-disagree", False, "", rm({AGREEMENT: [0.74]})),
    ("raters-disagree", None, "", rm({TEST: [0.6]})),
    ("labels-below-trusted", True, "", rm({TRUSTED: [0.8], TEST: [0.6], PAIRS: [240]})),
    ("labels-below-trusted", False, "", rm({TRUSTED: [0.75], TEST: [0.73], PAIRS: [240]})),
    ("labels-below-trusted", False, "few pairs", rm({TRUSTED: [0.8], TEST: [0.6], PAIRS: [20]})),
    ("labels-below-trusted", None, "", rm({TEST: [0.6], PAIRS: [240]})),
    ("trusted-accuracy-below-half", True, "", rm({TRUSTED: [0.3], PAIRS: [240]})),
    ("trusted-accuracy-below-half", False, "noise", rm({TRUSTED: [0.47], PAIRS: [240]})),
    ("trusted-accuracy-below-half", None, "", rm({TRUSTED: [0.3]})),
    ("score-against-gold-at-start", True, "", ppo({}, rollouts=groups(shifted("score", lambda row: -row["score"])))),
    ("score-against-gold-at-start", False, "", ppo({}, rollouts=groups())),
    ("score-against-gold-at-start", None, "", ppo({}, rollouts=groups(drop=["gold"]))),
    ("prompts-repeat-in-a-step", True, "",
     ppo({}, rollouts=groups(shifted("prompt_id", lambda row: int(row["prompt_id"]) % 12)))),
    ("prompts-repeat-in-a-step", True, "one response each",
     ppo({}, rollouts=groups(shifted("prompt_id", lambda row: int(row["prompt_id"]) % 50), prompts=64, size=1))),
    ("prompts-repeat-in-a-step", False, "", ppo({}, rollouts=groups(different=40))),
    ("prompts-repeat-in-a-step", None, "", ppo({}, rollouts=groups(drop=["prompt", "prompt_id"]))),
    ("few-different-prompts", True, "", ppo({}, rollouts=groups(different=16), steps=10)),
    ("few-different-prompts", False, "three passes", ppo({}, rollouts=groups(different=64), steps=12)),
    ("few-different-prompts", None, "", ppo({}, rollouts=groups(drop=["prompt", "prompt_id"]))),
    ("eval-prompts-in-training", True, "",
     ppo({}, rollouts=groups(), eval_prompts=[f"question  {n} :" for n in range(60, 70)])),
    ("eval-prompts-in-training", False, "",
     ppo({}, rollouts=groups(), eval_prompts=["question 3 :", "another"] + [str(n) for n in range(40)])),
    ("eval-prompts-in-training", None, "", ppo({}, rollouts=groups())),
    ("dead-groups-from-the-start", True, "", ppo({ZERO: [0.8] * 20})),
    ("dead-groups-from-the-start", False, "", ppo({ZERO: list(np.linspace(0.2, 0.9, 20))})),
    ("dead-groups-from-the-start", None, "", ppo({SCORE_STD: [1.0]})),
    ("dead-groups-differ-in-text", True, "", flat(3, 0.0)),
    ("dead-groups-differ-in-text", False, "", ppo({}, rollouts=groups())),
    ("dead-groups-differ-in-text", False, "the same text",
     ppo({}, rollouts=groups(lambda row, random: row | {"score": 0.0, "response": "the same"}))),
    ("dead-groups-differ-in-text", None, "", ppo({}, rollouts=groups(drop=["response"]))),
    ("prompt-format-differs-from-sft", True, "end",
     ppo({}, rollouts=groups(shifted("prompt_tokens", lambda row: row["prompt_tokens"][:-1])))),
    ("prompt-format-differs-from-sft", True, "begin",
     ppo({}, rollouts=groups(shifted("prompt_tokens", lambda row: [1, *row["prompt_tokens"]])))),
    ("prompt-format-differs-from-sft", False, "", ppo({}, rollouts=groups())),
    ("prompt-format-differs-from-sft", None, "", ppo({}, rollouts=groups(drop=["prompt_tokens"]))),
    ("separator-in-responses", True, "", ppo({}, rollouts=groups(shifted("tokens", lambda row: [5, *row["tokens"]])))),
    ("separator-in-responses", False, "", ppo({}, rollouts=groups())),
    ("separator-in-responses", None, "", ppo({}, rollouts=groups(drop=["tokens"]))),
    ("less-sure-than-after-sft", True, "", sft([3.0, 2.0], 2.8)),
    ("less-sure-than-after-sft", False, "", sft([3.0, 2.0], 2.1)),
    ("less-sure-than-after-sft", None, "hot", sft([3.0, 2.0], 2.8, {"ppo": {"temperature": 1.5}})),
    ("surer-than-right-after-sft", True, "", sft([3.0, 2.0], 1.2)),
    ("surer-than-right-after-sft", False, "", sft([3.0, 2.0], 1.9)),
    ("surer-than-right-after-sft", None, "", ppo({ENTROPY: [1.0]})),
    ("sft-barely-trained", True, "still falling", sft([3.0, 2.7, 2.4, 2.1, 1.8], 2.0)),
    ("sft-barely-trained", False, "slowly from first to last", sft([1.935, 1.902, 1.875, 1.839, 1.824], 1.8)),
    ("sft-barely-trained", False, "did not move", sft([3.0, 3.0, 2.999, 2.999, 2.998], 2.0)),
    ("sft-barely-trained", False, "", sft([3.0, 2.4, 2.2, 2.12, 2.1], 2.0)),
    ("sft-barely-trained", None, "", sft([3.0, 2.4], 2.0)),
    ("accuracy-far-below-raters", True, "", rm({AGREEMENT: [0.9], TEST: [0.6]})),
    ("accuracy-far-below-raters", False, "", rm({AGREEMENT: [0.9], TEST: [0.8]})),
    ("accuracy-far-below-raters", False, "noise", rm({AGREEMENT: [0.55], TEST: [0.51]})),
    ("accuracy-far-below-raters", None, "", rm({TEST: [0.6]})),
    ("reward-model-weak", True, "", rm({TRUSTED: [0.55], TEST: [0.7]})),
    ("reward-model-weak", False, "", rm({TRUSTED: [0.7], TEST: [0.55]})),
    ("reward-model-weak", None, "", rm({AGREEMENT: [0.7]})),
    ("few-training-pairs", True, "", rm({DATA: [300], EPOCHS: [4]})),
    ("few-training-pairs", False, "", rm({DATA: [3000], EPOCHS: [4]})),
    ("few-training-pairs", None, "", rm({TEST: [0.6]})),
    ("training-accuracy-far-above-held-out", True, "", rm({TRAIN: [0.95] * 40, TEST: [0.7], PAIRS: [240]})),
    ("training-accuracy-far-above-held-out", False, "", rm({TRAIN: [0.75] * 40, TEST: [0.7], PAIRS: [240]})),
    ("training-accuracy-far-above-held-out", None, "", rm({TRAIN: [0.95] * 40, TEST: [0.7]})),
    ("labels-surer-than-raters", True, "", rm({UNANIMOUS: [1.0], AGREEMENT: [0.75]})),
    ("labels-surer-than-raters", False, "", rm({UNANIMOUS: [0.6], AGREEMENT: [0.75]})),
    ("labels-surer-than-raters", None, "labelled once", rm({UNANIMOUS: [1.0]})),
    ("reward-model-miscalibrated", True, "", rm({ECE: [0.15]})),
    ("reward-model-miscalibrated", False, "", rm({ECE: [0.04]})),
    ("reward-model-miscalibrated", None, "", rm({TEST: [0.7]})),
    ("score-worse-than-its-test", True, "",
     ppo({}, TESTED, rollouts=groups(shifted("score", lambda row: row["length"])))),
    ("score-worse-than-its-test", False, "", ppo({}, TESTED, rollouts=groups())),
    ("score-worse-than-its-test", None, "", ppo({}, TESTED, rollouts=groups(drop=["gold"]))),
    ("score-follows-length", True, "",
     ppo({}, rollouts=groups(shifted("score", lambda row: row["gold"] + row["length"])))),
    ("score-follows-length", False, "", ppo({}, rollouts=groups())),
    ("score-follows-length", False, "gold does too",
    
     ppo({}, rollouts=groups(lambda row, random:
         row | {"score": row["length"], "gold": row["length"] + 0.1 * random.normal()}))),
    ("score-follows-length", None, "",
     ppo({}, rollouts=groups(shifted("score", lambda row: row["length"]), drop=["gold"]))),
    ("shorter-chosen-misranked", True, "", rm({SHORTER: [0.3], TEST: [0.7]})),
    ("shorter-chosen-misranked", False, "", rm({SHORTER: [0.65], TEST: [0.7]})),
    ("shorter-chosen-misranked", None, "", rm({TEST: [0.7]})),
    ("chosen-mostly-longer", True, "", rm({LONGER: [0.8]})),
    ("chosen-mostly-longer", False, "", rm({LONGER: [0.52]})),
    ("chosen-mostly-longer", None, "", rm({TEST: [0.7]})),
    ("score-depends-on-prompt", True, "",
     ppo({}, rollouts=groups(shifted("score", lambda row: row["gold"] + offset(row))))),
    ("score-depends-on-prompt", False, "", ppo({}, rollouts=groups())),
    ("score-depends-on-prompt", False, "gold does too",
    
     ppo({}, rollouts=groups(lambda row, random:
         row | {"score": row["gold"] + offset(row), "gold": row["gold"] + offset(row)}))),
    ("score-depends-on-prompt", None, "", ppo({}, rollouts=groups(prompts=64, size=1))),
    ("score-changes-when-alone", True, "", ppo({ALONE: [0.5]})),
    ("score-changes-when-alone", False, "", ppo({ALONE: [1e-6]})),
    ("score-changes-when-alone", None, "", ppo({SCORE_STD: [1.0]})),
    ("score-deviation-off", True, "", ppo({SCORE_STD: [4.0] * 5, SCALE: [1.0]}, {RM_STD: [1.0]})),
    ("score-deviation-off", False, "", ppo({SCORE_STD: [0.9] * 5, SCALE: [3.0]}, {RM_STD: [3.0]})),
    ("score-deviation-off", None, "", ppo({SCORE_STD: [4.0] * 5, SCALE: [1.0]})),
    ("score-deviation-jumps", True, "", ppo({SCORE_STD: LATE_JUMP})),
    ("score-deviation-jumps", False, "a bonus",
     ppo({SCORE_STD: LATE_JUMP}, rollouts=groups(bonus(20, 3.0)), steps=20)),
    ("score-deviation-jumps", False, "falls", ppo({SCORE_STD: list(np.linspace(1.0, 0.3, 40))})),
    ("score-deviation-jumps", False, "one high point", ppo({SCORE_STD: [1.0] * 15 + [9.0] + [1.0] * 15})),
    ("score-deviation-jumps", None, "", ppo({SCORE_STD: [1.0] * 5})),
    ("bonus-drives-score", True, "", ppo({}, rollouts=groups(bonus(20, -1.0)), steps=20)),
    ("bonus-drives-score", False, "", ppo({}, rollouts=groups(bonus(20, 3.0)), steps=20)),
    ("bonus-drives-score", False, "no sum", ppo({}, rollouts=groups(), steps=20)),
    ("bonus-drives-score", None, "", ppo({MAIN: [1.0] * 5}, rollouts=groups(), steps=20)),
    ("bonus-drives-score", None, "no rollouts", ppo({})),
]  # fmt: skip


@pytest.mark.parametrize(("name", "expected", "case", "make"), CASES, ids=lambda x: x if isinstance(x, str) else "")
def test_answer(name: str, expected: bool | None, case: str, make: Build, tmp_path: Path) -> None:
    answer = all_signs()[name].ask(Facts(build(make, tmp_path)))
    assert answer.holds is expected, answer
    assert answer.summary and (expected is not None or answer.missing)


def test_every_sign_has_a_case_of_each_answer() -> None:
    have = {(name, expected) for name, expected, _, _ in CASES}
    modules = ("regard.review.signs.data", "regard.review.signs.reward_model")
    names = [one.name for one in all_signs().values() if one.ask.__module__ in modules]
    assert [(n, e) for n in names for e in (True, False, None) if (n, e) not in have] == []


def test_concordance_counts_pairs_within_prompts(tmp_path: Path) -> None:
    """Two prompts of opposite level: across prompts score and gold oppose each other, within them they agree."""

    def change(row: dict[str, object], random: np.random.Generator) -> dict[str, object]:
        level = 100.0 * (int(str(row["prompt_id"])) % 2)
        return row | {"score": float(str(row["gold"])) + level, "gold": float(str(row["gold"])) - level}

    sample = Facts(build(ppo({}, rollouts=groups(change)), tmp_path)).rollouts
    assert sample is not None
    found = concordance(sample, sample.numbers["score"], sample.numbers["gold"], np.ones(len(sample), dtype=bool))
    assert found is not None and found.within_prompts
    assert found.share == 1.0
    assert found.error == pytest.approx(0.5 / (4 * 16 * 3) ** 0.5)  # 4 steps, 16 prompts, 3 of 4 responses to spare


def test_share_between_prompts_is_the_known_one(tmp_path: Path) -> None:
    """Variance 4 between prompts and 1 within: 4/5."""
    make = ppo({}, rollouts=groups(lambda row, random: row | {
        "score": random.normal() + 2 * float(np.random.default_rng(int(row["prompt_id"])).normal())}),
         steps=40)  # fmt: skip
    sample = Facts(build(make, tmp_path)).rollouts
    assert sample is not None
    share = between_groups(sample, sample.numbers["score"], np.ones(len(sample), dtype=bool))
    assert share == pytest.approx(0.8, abs=0.04)  # 640 prompts: standard error about 0.015


@pytest.mark.parametrize("begins", [0, 8])
def test_a_bonus_has_its_beginning(begins: int, tmp_path: Path) -> None:
    """It is the root, and the record shows from which step on the score is more than its main part."""

    def change(row: dict[str, object], random: np.random.Generator) -> dict[str, object]:
        step = int(str(row["rollout_id"])[4:10])
        main = float(str(row["gold"]))
        return row | {"main_score": main, "score": main + (0.0 if step <= begins else 0.3 * (step - begins))}

    answer = all_signs()["bonus-drives-score"].ask(Facts(build(ppo({}, rollouts=groups(change), steps=20), tmp_path)))
    assert answer.holds and answer.root
    assert answer.root.interval == ((0, 1) if begins == 0 else (begins, begins + 1))
