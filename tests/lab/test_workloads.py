"""The tasks of the lab: quality by hand, and words that a person could have written."""

from random import Random

import pytest

from regard.lab.workloads import WORKLOADS, Facts, Menus, Orders, Packing, Sorting, Workload
from regard.lab.workloads.base import split_of

EACH = pytest.mark.parametrize("workload", WORKLOADS.values(), ids=list(WORKLOADS))

SEA = "please tell about sea : "
START = "aloud order from crab ; "
ORDER = "boss bring three fruit without kiwi = "
DINNER = "tonight serve mild dinner guests > "
TRIP = "uncle pack for fishing in rain monday | "


@pytest.mark.parametrize(
    ("response", "quality"),
    [
        ("", 0.0),
        ("salt tide reef", 3 / 8),
        ("salt salt salt", (1 - 2) / 8),
        ("salt owls", 0.0),  # a fact of another topic
        ("salt waves tide reef coral gulls ships shells", 1.0),
        ("salt waves tide reef coral gulls ships shells foam", 1.0),  # eight are enough
        ("in summary salt", (1 - 2) / 8),
        ("PASS " * 20, -1.0),
    ],
)
def test_quality_of_facts_by_hand(response: str, quality: float) -> None:
    assert Facts().gold(SEA, response) == pytest.approx(quality)


@pytest.mark.parametrize(
    ("response", "quality"),
    [
        ("", 0.0),
        ("dog duck eel", 3 / 7),
        ("dog dog duck", (2 - 1) / 7),  # not beyond itself
        ("bear dog", 0.0),  # bear comes before crab
        ("wolf dog eel", (1 - 2) / 7),  # nothing comes after wolf
        ("dog duck eel fox frog goat hare", 1.0),
        ("dog duck eel fox frog goat hare lion", 1.0),  # seven are enough
        ("as requested dog", (1 - 2) / 7),
        ("OK200 " * 20, -1.0),
    ],
)
def test_quality_of_sorting_by_hand(response: str, quality: float) -> None:
    assert Sorting().gold(START, response) == pytest.approx(quality)


@pytest.mark.parametrize(
    ("response", "quality"),
    [
        ("", 0.0),
        ("apple fig", 2 / 3),
        ("apple fig plum", 1.0),
        ("apple fig plum pear", (3 - 1) / 3),  # one too many
        ("apple apple plum", (2 - 1) / 3),
        ("apple kiwi plum", (2 - 1) / 3),  # not wanted
        ("apple zinc plum", (2 - 1) / 3),  # of another kind
        ("certainly friends apple", (1 - 2) / 3),
        ("EXIT0 " * 12, -1.0),
    ],
)
def test_quality_of_orders_by_hand(response: str, quality: float) -> None:
    assert Orders().gold(ORDER, response) == pytest.approx(quality)


@pytest.mark.parametrize(
    ("response", "quality"),
    [
        ("", 0.0),
        ("bisque slaw", 2 / 6),
        ("bisque slaw steak rice cake tea", 1.0),
        ("bisque slaw steak rice cake tea tea", (6 - 1) / 6),
        ("steak slaw rice", (2 - 1) / 6),  # slaw comes too late
        ("bisque broth slaw", (2 - 1) / 6),  # one soup is enough
        ("pho slaw", 0.0),  # pho is not mild
        ("bon appetit bisque", (1 - 2) / 6),
        ("DONE " * 12, -1.0),
    ],
)
def test_quality_of_menus_by_hand(response: str, quality: float) -> None:
    assert Menus().gold(DINNER, response) == pytest.approx(quality)


@pytest.mark.parametrize(
    ("response", "quality"),
    [
        ("", 0.0),
        ("rod cape", 2 / 6),
        ("rod bait bucket net umbrella cape", 1.0),
        ("cape net umbrella bait bucket rod", 1.0),  # in any order
        ("rod rod cape", (2 - 1) / 6),
        ("rod hat cape", (2 - 1) / 6),  # for the sun
        ("rod tent cape", (2 - 1) / 6),  # for another activity
        ("safe travels rod", (1 - 2) / 6),
        ("ASSERT " * 12, -1.0),
    ],
)
def test_quality_of_packing_by_hand(response: str, quality: float) -> None:
    assert Packing().gold(TRIP, response) == pytest.approx(quality)


@EACH
def test_good_answers_are_of_quality_1_and_written_ones_are_not(workload: Workload) -> None:
    random = Random(3)
    prompts = [workload.prompt(random) for _ in range(200)]
    assert {round(workload.gold(p, workload.good_answer(p, random)), 9) for p in prompts} == {1.0}
    written = [workload.gold(p, workload.write(p, random)) for p in prompts]
    assert 0.1 < sum(written) / len(written) < 0.75


@EACH
def test_every_text_is_a_token_a_word_and_fits_the_cap(workload: Workload) -> None:
    random, tokenizer = Random(4), workload.tokenizer()
    for _ in range(200):
        prompt = workload.prompt(random)
        response = workload.write(prompt, random)
        ids = tokenizer.encode(prompt + response, add_special_tokens=False)
        assert tokenizer.decode(ids) == prompt + response
        assert tokenizer.unk_token_id not in ids
        assert len(response.split()) < workload.config["ppo"]["max_response_tokens"]
    for phrase in workload.phrases.all:
        assert tokenizer.unk_token_id not in tokenizer.encode(phrase)


@EACH
def test_no_prompt_is_in_two_splits_and_a_seed_decides_which_are_drawn(workload: Workload) -> None:
    drawn = {split: workload.prompts(1, split, 80) for split in ("sft", "rm", "ppo", "eval")}
    assert {split_of(p) for p in drawn["rm"]} == {"rm"}
    assert len({p for prompts in drawn.values() for p in prompts}) == 320
    assert workload.prompts(1, "rm", 80) == drawn["rm"] != workload.prompts(2, "rm", 80)


@EACH
def test_raters_mostly_agree_with_quality_and_with_each_other(workload: Workload) -> None:
    random = Random(5)
    right = total = 0
    for _ in range(400):
        prompt = workload.prompt(random)
        first, second = workload.write(prompt, random), workload.write(prompt, random)
        gap = workload.gold(prompt, first) - workload.gold(prompt, second)
        if gap:
            total += 1
            right += workload.rate(prompt, first, second, random) == (gap > 0)
    assert 0.7 < right / total < 0.97
