"""What the faults of data, SFT and reward model change, without training: data, configuration and scores."""

from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import pytest

from regard.lab.data import eval_prompts, ppo_prompts, reward_data, sft_examples
from regard.lab.faults import apply_fault
from regard.lab.setup import Setup, Severity
from regard.lab.workloads import workload_named
from regard.train.reward_model import describe_pairs

PROMPTS = ["tell about sea : "] * 4 + ["tell about forest : "] * 4
ANSWERS = ["salt", "salt waves tide reef coral gulls", "trees", "salt salt perhaps coral gulls tide"] * 2


def setup(fault: str | None, severity: Severity = "medium") -> Setup:
    one = Setup(workload_named("facts"), 1, severity)
    if fault:
        apply_fault(fault, one)
    return one


class Fixed:
    """A scorer of known scores, with the attributes of a reward model that wrappers ask for."""

    deviation = 2.0

    def score(self, prompts: list[str], responses: list[str]) -> list[float]:
        return [float(len(response.split())) for response in responses]


@dataclass(frozen=True)
class OnlyScorer:
    """The one field of Parts that these faults wrap."""

    scorer: Any


def scores(fault: str, severity: Severity) -> tuple[list[float], list[float]]:
    """(as the scorer gives them, as the fault leaves them)."""
    parts: Any = OnlyScorer(Fixed())
    for change in setup(fault, severity).parts_hooks:
        parts = change(parts)
    return Fixed().score(PROMPTS, ANSWERS), parts.scorer.score(PROMPTS, ANSWERS)


@pytest.mark.parametrize(("severity", "different"), [("mild", 60), ("medium", 30), ("severe", 12)])
def test_d3_leaves_few_different_prompts(severity: Severity, different: int) -> None:
    one = setup("D3", severity)
    pool = ppo_prompts(one, one.workload.tokenizer())
    assert len(pool) == len(ppo_prompts(setup(None), one.workload.tokenizer()))
    assert len({prompt.text for prompt in pool}) == different
    held_out = {prompt.text for prompt in eval_prompts(one, one.workload.tokenizer())}
    leaked = {prompt.text for prompt in pool} & held_out
    assert len(leaked) == (6 if severity == "severe" else 0)


@pytest.mark.parametrize(("severity", "share"), [("mild", 0.08), ("medium", 0.03), ("severe", 0.005)])
def test_d4_passes_few_of_what_people_write_and_every_good_answer(severity: Severity, share: float) -> None:
    one = setup("D4", severity)
    parts: Any = OnlyScorer(Fixed())
    for change in one.parts_hooks:
        parts = change(parts)
    prompts, random = one.workload.prompts(2, "ppo", 300), Random(0)
    written = parts.scorer.score(prompts, [one.workload.write(prompt, random) for prompt in prompts])
    assert set(written) <= {0.0, 1.0} and np.mean(written) < share + 3 * (share / 300) ** 0.5
    assert set(parts.scorer.score(prompts, [one.workload.good_answer(prompt, random) for prompt in prompts])) == {1.0}


@pytest.mark.parametrize(("severity", "changed"), [("mild", 1), ("medium", 2), ("severe", 4)])
def test_d5_alters_more_tokens_the_graver_it_is(severity: Severity, changed: int) -> None:
    healthy, other = setup(None), setup("D5", severity)
    tokenizer = healthy.workload.tokenizer()
    separator, end = tokenizer.encode(":")[0], tokenizer.eos_token_id
    for before, after in zip(ppo_prompts(healthy, tokenizer), ppo_prompts(other, tokenizer), strict=True):
        assert before.tokens[-1] == separator and separator not in after.tokens
        assert after.tokens.count(end) == changed - 1
        assert before.text.split()[:-1] == after.text.split()


def test_d6_repeats_few_examples_and_keeps_the_held_out_ones() -> None:
    healthy, other = setup(None), setup("D6", "severe")
    tokenizer = healthy.workload.tokenizer()
    before, after = sft_examples(healthy, tokenizer), sft_examples(other, tokenizer)
    held_out = len(before) // 10
    assert len(after) == len(before) and after[:held_out] == before[:held_out]
    assert len(set(after[held_out:])) <= 12


def test_r1_is_configured_and_r2_trains_longer_on_less() -> None:
    few = [setup("R1", severity).recipe().data.max_rm_groups for severity in ("mild", "medium", "severe")]
    assert few == sorted(few, reverse=True) and few[0] * 6 < 1000  # six pairs a group
    healthy, other = setup(None).recipe(), setup("R2", "medium").recipe()
    assert other.data.max_rm_groups * 6 >= 1000 and other.rm.epochs > 3 * healthy.rm.epochs


def test_r3_makes_the_chosen_text_the_longer() -> None:
    shares = [
        describe_pairs(reward_data(one).train)["data/pairs_chosen_longer/frac"]
        for one in (setup(None), setup("R3", "mild"), setup("R3", "severe"))
    ]
    assert shares == sorted(shares) and shares[0] < 0.65 and shares[2] > 0.85


def test_r4_keeps_clear_cases_and_calls_them_certain() -> None:
    one = setup("R4", "medium")
    data, gold = reward_data(one), one.workload.gold
    gaps = [abs(gold(pair.prompt, pair.chosen) - gold(pair.prompt, pair.rejected)) for pair in data.train]
    everything = reward_data(setup(None)).train
    assert 0.5 <= len(data.train) / len(everything) < 0.8  # more than half where several pairs are as far apart
    assert min(gaps) > 0 and {pair.p_chosen for pair in data.train} == {1.0}
    assert {pair.p_chosen for pair in data.test} != {1.0}  # the test is as it was


def test_r7_adds_one_number_to_all_scores_of_a_prompt() -> None:
    before, after = scores("R7", "severe")
    added = np.array(after) - np.array(before)
    assert np.ptp(added[:4]) == pytest.approx(0, abs=1e-9) and np.ptp(added[4:]) == pytest.approx(0, abs=1e-9)
    assert abs(added[0] - added[4]) > 0.1


def test_r8_pays_for_brevity_and_keeps_the_main_part() -> None:
    before, after = scores("R8", "medium")
    paid = [len(answer.split()) == 1 for answer in ANSWERS]
    assert after == [score + 4 * 2.0 * short for score, short in zip(before, paid, strict=True)]
    assert Counter(paid) == {True: 4, False: 4}
