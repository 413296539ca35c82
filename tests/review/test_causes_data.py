"""Each cause of data, SFT and reward model: its decisive evidence ranks it first, and without that no cause is called
diagnosed in its place. The records are made by hand; real ones are the lab's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support_record import Rows, groups, make_record, shifted
from test_detectors_data import PROMPTS, bonus, offset

from regard.review import review
from regard.review.causes import MUST, all_causes
from regard.review.engine import Review
from regard.review.registry import catalogue
from regard.review.signs import all_signs

FAMILIES = [*(f"D{n}" for n in range(1, 7)), *(f"R{n}" for n in range(1, 9))]
LOSS, TRAIN, AGREEMENT = "rm/loss_val/mean", "rm/accuracy_train/mean", "rm/rater_agreement/mean"
TRUSTED, TEST, SHORTER = "rm/accuracy_trusted/mean", "rm/accuracy_test/mean", "rm/accuracy_shorter_chosen/mean"
ALONE, STD, ZERO = "invariant/score_alone_max_diff/value", "score/reward_model/std", "group/zero_std/frac"
DATA, LONGER, ECE = "data/pairs/count", "data/pairs_chosen_longer/frac", "rm/ece/value"
UNANIMOUS = "data/pairs_unanimous/frac"
ENTROPY, SFT_LOSS, RM_STD = "entropy/policy/token_mean", "loss/sft_eval/mean", "rm/score/std"

HEALTHY: dict[str, dict[str, list[float]]] = {
    "sft": {SFT_LOSS: [3.0, 2.4, 2.2, 2.15, 2.14]},
    "rm": {
        TRUSTED: [0.77], TEST: [0.74], "rm/accuracy_val/mean": [0.6, 0.7, 0.73, 0.74], SHORTER: [0.72],
        "rm/pairs_test/count": [400.0], AGREEMENT: [0.76], ECE: [0.04], TRAIN: [0.76] * 40,
        LOSS: [0.66, 0.6, 0.57, 0.56], DATA: [4000.0], "data/epochs/count": [1.0], LONGER: [0.53],
        UNANIMOUS: [0.5], RM_STD: [1.1],
    },
    "ppo": {
        STD: list(np.linspace(1.1, 0.7, 24)), "score/reward_scale/value": [1.0] * 24, ZERO: [0.0] * 24, ALONE: [1e-6],
        "kl/policy_ref_k1/seq_sum": list(np.linspace(0, 3, 24)), ENTROPY: list(np.linspace(2.1, 1.9, 24)),
        "finish/truncated/frac": [0.02] * 24, "value/explained_variance/value": list(np.linspace(0, 0.5, 24)),
        "kl/old_new_k2/mean": [0.005] * 24,
    },
}  # fmt: skip
"""A run in which nothing is wrong."""


def record(
    path: Path, changes: dict[str, dict[str, Sequence[float]]], rollouts: Rows, without: Sequence[str] = (), **more: Any
) -> Review:
    """The review of the healthy run with these series changed, and those of `without` taken out."""
    stages = {
        stage: {key: values for key, values in (metrics | dict(changes.get(stage, {}))).items() if key not in without}
        for stage, metrics in HEALTHY.items()
    }
    path.mkdir(exist_ok=True)
    return review(make_record(path, stages, rollouts=rollouts, steps=24, events={"sft": PROMPTS}, **more))


Case = tuple[str, dict[str, dict[str, Sequence[float]]], dict[str, Any], tuple[str, ...], tuple[str, ...]]


def slipped(row: Any) -> bool:
    """One response in forty, so that nearly all groups are of one score."""
    return row["prompt_id"].endswith("0") and row["rollout_id"].endswith("0")


CASES: list[Case] = [
    ("D1", {"rm": {AGREEMENT: [0.54], TEST: [0.56], TRUSTED: [0.66]}}, {}, (AGREEMENT, TRUSTED), ()),
    ("D2", {"rm": {TRUSTED: [0.24]}}, {"change": shifted("score", lambda row: -row["score"])}, (TRUSTED,), ("gold",)),
    ("D3", {}, {"change": shifted("prompt_id", lambda row: int(row["prompt_id"]) % 12)}, (), ("prompt_id", "prompt")),
    ("D4", {"ppo": {ZERO: [0.9] * 24}}, {"change": shifted("score", lambda row: 1.0 - slipped(row))}, (ZERO,),
     ("response",)),
    ("D5", {}, {"change": lambda row, random: row | {
        "prompt_tokens": row["prompt_tokens"][:-1], "tokens": [5, *row["tokens"]]}}, (), ("prompt_tokens", "tokens")),
    ("D6", {"sft": {SFT_LOSS: [3.0, 2.3, 2.6, 3.2, 3.8]}, "ppo": {ENTROPY: list(np.linspace(0.9, 0.8, 24))}}, {},
     (SFT_LOSS,), ()),
    ("R1", {"rm": {DATA: [200.0], TEST: [0.55], TRUSTED: [0.56]}}, {}, (DATA, AGREEMENT), ()),
    ("R2", {"rm": {TRAIN: [0.99] * 40, TEST: [0.66], LOSS: [0.62, 0.6, 0.8, 1.3], ECE: [0.24]}}, {},
     (TRAIN, LOSS), ()),
    ("R3", {"rm": {SHORTER: [0.2], LONGER: [0.85]}},
     {"change": shifted("score", lambda row: row["gold"] / 2 + row["length"])}, (SHORTER, LONGER), ("length",)),
    ("R4", {"rm": {ECE: [0.22], UNANIMOUS: [1.0]}}, {}, (ECE, UNANIMOUS), ()),
    ("R5", {"ppo": {STD: [20.0] * 24}}, {}, (STD,), ()),
    ("R6", {"ppo": {ALONE: [1.4]}}, {"change": shifted("score", lambda row: row["gold"] + 0.5 * row["length"])},
     (ALONE,), ("length",)),
    ("R7", {"ppo": {STD: [6.0] * 24}}, {"change": shifted("score", lambda row: row["gold"] + offset(row))},
     (), ("gold",)),
    ("R8", {}, {"change": bonus(24, -1.0)}, (), ("main_score",)),
]  # fmt: skip
"""Cause, series that differ from a healthy run, how rollouts differ, and what decides: series and rollout columns."""


IDS = [case[0] for case in CASES]


def test_the_healthy_record_is_healthy(tmp_path: Path) -> None:
    result = record(tmp_path, {}, groups())
    assert not result.causes and not result.findings
    assert result.verdict == "healthy"


@pytest.mark.parametrize(("cause", "changes", "rollouts", "series", "columns"), CASES, ids=IDS)
def test_decisive_evidence_ranks_the_cause_first(
    cause: str, changes: Any, rollouts: Any, series: tuple[str, ...], columns: tuple[str, ...], tmp_path: Path
) -> None:
    result = record(tmp_path, changes, groups(**rollouts))
    ranked = list(result.posterior.causes.items())
    assert ranked[0][0] == cause, ranked[:4]
    assert ranked[0][1] > 2 * ranked[1][1], ranked[:4]


@pytest.mark.parametrize(("cause", "changes", "rollouts", "series", "columns"), CASES, ids=IDS)
def test_without_what_decides_no_other_cause_is_diagnosed(
    cause: str, changes: Any, rollouts: Any, series: tuple[str, ...], columns: tuple[str, ...], tmp_path: Path
) -> None:
    result = record(tmp_path, changes, groups(**rollouts, drop=columns), without=series)
    wrong = [(one.cause.id, one.probability) for one in result.causes if one.status == "diagnosed"]
    assert [one for one, _ in wrong if one != cause] == [], wrong


@pytest.mark.parametrize("one", FAMILIES)
def test_an_entry_is_whole(one: str) -> None:
    cause = all_causes()[one]
    known = {*catalogue(), *all_signs()}
    assert cause.decided_by and set(cause.decided_by) <= set(cause.predicts)
    assert all(0 < p < 1 or p == MUST for p in cause.predicts.values())
    assert [name for name in cause.decided_by if name not in known] == []
    assert cause.look_alikes and cause.changes and cause.why and cause.would_overturn
    ids = {*all_causes()}
    if len(ids) >= 60:  # the catalogue is complete
        assert [other for other in (*cause.look_alikes, *cause.leads_to) if other not in ids | {"M1", "M2", "M3"}] == []
