"""Readers against rows written out by hand, broken files, and every prefix of a valid one."""

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.data.readers import FORMATS, load, read_comparisons, summarise
from regard.errors import DataError

EXAMPLES = sorted((Path(__file__).parents[2] / "examples" / "data").glob("*.jsonl"))
PAIR = {"prompt": "p", "chosen": "good", "rejected": "bad"}


def example(name: str) -> Path:
    return next(path for path in EXAMPLES if path.stem == name)


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pairs.jsonl"


def test_every_format_has_an_example_that_is_recognised() -> None:
    assert len(EXAMPLES) == 9
    assert {load(path).format for path in EXAMPLES} == set(FORMATS)
    for path in EXAMPLES:
        assert load(path).format == path.stem.split("_")[0] or load(path).format == path.stem.replace("_", "-")


def test_trl_explicit() -> None:
    first, second, *_ = read_comparisons(example("trl"))
    assert (first.prompt, first.chosen, first.rejected) == (
        "Name a fruit that is yellow.",
        "A banana.",
        "Fruit is healthy.",
    )
    assert (first.p_chosen, first.num_raters, first.num_ties, first.margin) == (1.0, 1, 0, None)
    assert second.margin == 2.0
    assert first.group == second.group
    assert first.source.endswith("trl.jsonl:1")


def test_trl_conversational() -> None:
    _, pair, _ = read_comparisons(example("trl_conversational"))
    assert pair.prompt == "System: Answer in one word.\n\nUser: Capital of Norway?\n\nAssistant: "
    assert (pair.chosen, pair.rejected) == ("Oslo.", "The capital of Norway is Oslo.")


def test_trl_implicit_prompt_is_what_both_begin_with() -> None:
    text, messages, _ = read_comparisons(example("trl_implicit"))
    assert (text.prompt, text.chosen, text.rejected) == (
        "The soup was warm and ",
        "the bread was fresh.",
        "then it was not.",
    )
    assert (messages.prompt, messages.chosen, messages.rejected) == ("User: 2 + 2?\n\nAssistant: ", "4", "22")


def test_trl_prompts_and_texts_hold_no_comparison() -> None:
    assert load(example("trl_prompts")).prompts[1] == "User: What does a goalkeeper do?\n\nAssistant: "
    assert load(example("trl_texts")).texts[1] == "User: Hello\n\nAssistant: Hello, how can I help?"
    with pytest.raises(DataError, match="3 prompts and 0 texts, and no readable comparison"):
        read_comparisons(example("trl_prompts"))


def test_hh_rlhf_prompt_ends_with_the_last_shared_assistant() -> None:
    _, pair, _ = read_comparisons(example("hh_rlhf"))
    assert pair.prompt.endswith("\n\nHuman: How do I reset my router?\n\nAssistant:")
    assert pair.rejected == " Buy a new one."


def test_ultrafeedback_scores_give_margin_ties_and_unreadable_labels() -> None:
    loaded = load(example("ultrafeedback"))
    clear, tie = loaded.comparisons
    assert (clear.margin, clear.p_chosen, clear.num_ties) == (5.5, 1.0, 0)
    assert (tie.margin, tie.p_chosen, tie.num_ties) == (0.0, 0.5, 1)
    assert clear.prompt == "User: Why is the sky dark at night?\n\nAssistant: "
    assert len(loaded.unreadable) == 1 and loaded.unreadable[0].endswith("3: scores 9.0 and None are not two numbers")


def test_helpsteer3_keeps_every_rater_and_counts_what_it_cannot_read() -> None:
    path = example("helpsteer3")
    with pytest.warns(UserWarning, match="1 single votes"):
        first, even, last = read_comparisons(path)
    assert first.chosen.startswith("Stand the stems")
    assert (first.p_chosen, first.num_raters, first.margin) == (1.0, 3, 2.0)
    assert first.rater_ids == (f"{path}:1/0", f"{path}:1/1", f"{path}:1/2")
    assert (even.p_chosen, even.num_ties, even.margin) == (0.5, 1, 0.0)
    # Scores 2, "2" and 0: the text is no vote. One for response 2, one tie.
    assert last.chosen.startswith("A bee visits")
    assert (last.p_chosen, last.num_raters, last.num_ties, last.margin) == (0.75, 2, 1, 1.0)


def test_openai_preference() -> None:
    _, pair, _ = read_comparisons(example("openai_preference"))
    assert pair.prompt == "System: Be kind.\n\nUser: I failed my test.\n\nAssistant: "
    assert pair.chosen == "That hurts. What was hardest about it?"


def test_swap_twice_is_the_same_comparison() -> None:
    pair = load(example("helpsteer3")).comparisons[2]
    assert pair.swap().swap() == pair
    assert (pair.swap().chosen, pair.swap().p_chosen) == (pair.rejected, 0.25)


SCORES = [None, "3", True, 4, 1.5, float("nan"), [1]]


@pytest.mark.parametrize("score", SCORES)
def test_an_unreadable_label_is_never_a_tie(file: Path, score: object) -> None:
    row = json.loads(example("helpsteer3").read_text(encoding="utf-8").splitlines()[0])
    good = dict(row)
    row["individual_preference"] = [{"score": score}]
    loaded = load(write(file, good, row))
    assert (len(loaded.comparisons), len(loaded.unreadable)) == (1, 1)
    assert loaded.unreadable[0].startswith(f"{file}:2: ")


def test_a_choice_against_its_own_scores_is_unreadable(file: Path) -> None:
    row = json.loads(example("ultrafeedback").read_text(encoding="utf-8").splitlines()[0])
    row["score_chosen"] = 1.0
    loaded = load(write(file, row))
    assert not loaded.comparisons
    assert "chosen has the lower score, 1 against 3" in loaded.unreadable[0]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], r":1: the file is empty"),
        (["\n  \n"], r":1: the file is empty"),
        ([PAIR, '{"prompt": "p", '], r":2: broken JSON"),
        ([PAIR, "\n", "[]\n"], r":3: list, not an object"),
        ([{"a": 1, "b": 2}], r":1: no known format has the columns a, b"),
        ([PAIR, {**PAIR, "chosen": "bad"}], r":2: chosen and rejected are the same text"),
        ([PAIR, {"prompt": "p", "chosen": "good"}], r":2: 'rejected' is NoneType, not text"),
        ([{**PAIR, "chosen": 3}], r":1: 'chosen' is int, not text"),
        ([{**PAIR, "chosen": "\ud800"}], r":1: 'chosen' has half a surrogate"),
        ([PAIR, {"other": 1}], r":2: no chosen and rejected, prompt, text or messages"),
        ([{"messages": [{"role": "user"}]}], r":1: 'messages'\[0\]\.content is NoneType"),
        ([{"input": [], "preferred_output": [], "non_preferred_output": []}], r":1: 'input' is list"),
        (["[" * 100_000 + "\n"], r":1: "),
        (['{"text": ' + "9" * 5000 + "}\n"], r":1: JSON that cannot be read"),
    ],
)
def test_what_cannot_be_read_is_named_by_file_and_line(file: Path, rows: list[object], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load(write(file, *rows))
    assert str(caught.value).startswith(str(file))


def test_missing_files_directories_and_wrong_encodings_are_data_errors(tmp_path: Path, file: Path) -> None:
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            load(path)
    file.write_bytes('{"text": "é"}'.encode("latin-1"))
    with pytest.raises(DataError, match=":1: not UTF-8"):
        load(file)
    with pytest.raises(DataError, match="no format 'trll'"):
        load(file, "trll")


def test_a_byte_order_mark_and_windows_line_ends_are_no_content(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(PAIR).encode() + b"\r\n\r\n" + json.dumps(PAIR).encode())
    assert [pair.source for pair in load(file).comparisons] == [f"{file}:1", f"{file}:3"]


def test_duplicates_and_contradictions_are_counted(file: Path) -> None:
    swapped = {**PAIR, "chosen": "bad", "rejected": "good"}
    summary = summarise(write(file, PAIR, PAIR, swapped, {**PAIR, "prompt": "q"}))
    assert (summary.duplicates, summary.contradictions, summary.groups, summary.rows) == (1, 1, 2, 4)


def test_without_prompts_texts_that_recur_share_a_group(file: Path) -> None:
    """a-b and c-d are linked by b-c, which comes last."""
    pairs = [("a", "b"), ("c", "d"), ("x", "y"), ("b", "c")]
    rows = [{"prompt": "", "chosen": chosen, "rejected": rejected} for chosen, rejected in pairs]
    groups = [pair.group for pair in load(write(file, *rows)).comparisons]
    assert groups[0] == groups[1] == groups[3] != groups[2]


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)).filter(lambda pair: pair[0] != pair[1]), min_size=1))
@settings(max_examples=40)
def test_no_text_without_prompt_is_in_two_groups(tmp_path_factory: pytest.TempPathFactory, pairs: list) -> None:
    path = tmp_path_factory.mktemp("groups") / "pairs.jsonl"
    rows = [{"prompt": "", "chosen": f"t{one}", "rejected": f"t{other}"} for one, other in pairs]
    groups = defaultdict(set)
    for pair in load(write(path, *rows)).comparisons:
        groups[pair.chosen].add(pair.group)
        groups[pair.rejected].add(pair.group)
    assert all(len(found) == 1 for found in groups.values())


def test_a_group_does_not_depend_on_where_the_file_lies(tmp_path: Path) -> None:
    rows = [{"prompt": "", "chosen": "a", "rejected": "b"}, PAIR]
    one, other = (load(write(tmp_path / name, *rows)).comparisons for name in ("one.jsonl", "other.jsonl"))
    assert [pair.group for pair in one] == [pair.group for pair in other]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_prefix_of_a_valid_file_is_read_or_refused_with_a_line(path: Path, tmp_path: Path) -> None:
    content = path.read_bytes()
    whole = load(path)
    cut = tmp_path / "cut.jsonl"
    for length in range(len(content)):
        cut.write_bytes(content[:length])
        try:
            found = load(cut)
        except DataError as error:
            assert str(error).startswith(f"{cut}:")
        else:
            assert found.rows <= whole.rows
            assert [p.chosen for p in found.comparisons] == [p.chosen for p in whole.comparisons][
                : len(found.comparisons)
            ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
KEYS = sorted(
    {key for path in EXAMPLES for line in path.read_text(encoding="utf-8").splitlines() for key in json.loads(line)}
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant"]), "content": st.sampled_from(["a", "b"]) | JSON}
    ),
    max_size=4,
)


@given(
    st.lists(st.dictionaries(st.sampled_from(KEYS), JSON | MESSAGES | st.just("a"), max_size=8), max_size=3), st.data()
)
@settings(max_examples=300, deadline=None)
def test_no_row_of_any_shape_ends_in_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict], data: st.DataObject
) -> None:
    path = write(tmp_path_factory.getbasetemp() / "any.jsonl", *rows)
    try:
        loaded = load(path, data.draw(st.sampled_from([None, *FORMATS])))
    except DataError:
        return
    held = len(loaded.comparisons) + len(loaded.prompts) + len(loaded.texts) + len(loaded.unreadable)
    assert held == loaded.rows == len(rows)


def test_the_command_line_counts_and_needs_no_torch(tmp_path: Path) -> None:
    """Torch is made impossible to import, then the real command is run."""
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    command = [sys.executable, "-m", "regard.cli.main", "data", "check"]
    done = subprocess.run(
        [*command, str(example("helpsteer3")), "--json"], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["comparisons"], found["judgements"], found["ties"], found["unreadable_votes"]) == (3, 8, 1, 1)
    broken = write(tmp_path / "broken.jsonl", PAIR, "{")
    done = subprocess.run([*command, str(broken)], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"regard: {broken}:2: broken JSON")
    assert len(done.stderr.splitlines()) == 1
