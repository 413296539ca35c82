"""Each sign of hacked rewards, lost variety, deployment and measurement: yes, no and unknown."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support_answers import STEPS, anew, longer, narrow, opens, record, says, says_one_of, talk, twice

from regard.report.evidence import ROLLOUT_FEATURES
from regard.review.answers import answers_of
from regard.review.facts import Facts
from regard.review.signs import all_signs
from regard.runlog.reader import RunLog, StageLog
from regard.runlog.rollouts import encode_rollouts, rollouts_name
from regard.runlog.series import Points

Build = Callable[[Path], RunLog]
LENGTH, ENTROPY, PROBE = "length/response_tokens/mean", "entropy/policy/token_mean", "eval/probe_nll/token_mean"
GOLD, KL, DISTINCT = "gold/judge/mean", "kl/policy_ref_k1/seq_sum", "group/distinct_text/frac"
SORRY, PRAISE, EXIT, SEA = "I'm sorry, I cannot", "this answer fully addresses it", "sys . exit ( 0 )", "море рыба"
BONUS = {"ppo": {"entropy_coef": 0.1}}


def rollouts(*args: Any, **more: Any) -> Build:
    return lambda path: record(path, talk(*args, **more))


def metrics(series: dict[str, list[float]], config: dict[str, Any] | None = None) -> Build:
    return lambda path: record(path, None, series, config=config)


def ramp(start: float, end: float, n: int = 40) -> list[float]:
    return list(np.linspace(start, end, n))


def settled(path: Path) -> RunLog:
    """The first two tokens become certain, the rest does not."""
    rows = talk()

    def with_logprobs(step: int) -> list[dict[str, Any]]:
        first = -2.0 * (1 - 0.9 * (step - 1) / (STEPS - 1))
        return [row | {"logprobs": [first, first, *[-2.0] * (len(row["tokens"]) - 2)]} for row in rows(step)]

    return record(path, with_logprobs)


def same_judge(path: Path) -> RunLog:
    rows = talk()
    return record(path, lambda step: [row | {"gold": 2 * row["score"] + 1} for row in rows(step)])


def live(asked: Callable[[int], str] | None, ppo: bool = True, **series: float) -> Build:
    """Training prompts are `question 3 : word`; `asked` makes the live ones."""

    def build(path: Path) -> RunLog:
        def train(step: int) -> list[dict[str, str]]:
            return [{"prompt": f"question {n} about {(n + step) % 7}", "response": "so it is"} for n in range(120)]

        run = record(path, train if ppo else None)
        points = Points()
        for key, value in series.items():
            points.add("live/" + key + "/mean", 1, value)
        log = StageLog("live", path / "stages" / "live", points.series(), [], [])
        if asked:
            folder = log.path / "rollouts"
            folder.mkdir(parents=True)
            rows = [{"prompt": asked(n), "response": "so it is"} for n in range(120)]
            (folder / rollouts_name(1)).write_bytes(encode_rollouts(1, rows))
        reward = Points()
        reward.add("rm/accuracy_val/mean", 1, 0.8)
        reward.add("rm/rater_agreement/mean", 1, 0.75)
        rm = StageLog("rm", path / "stages" / "rm", reward.series(), [], [])
        return replace(run, stages={"rm": rm, **run.stages, "live": log})

    return build


def compared(low: float, high: float, number: int) -> Build:
    summary = {"gold": {"ci95": [low, high], "n": number}}
    return lambda path: replace(record(path, None), summary=summary)


def experimented(delete: float, insert: float, gold: float | None = 0.0, error: float = 0.02) -> Build:
    """A phrase was deleted and inserted; with what effects, in deviations."""

    def build(path: Path) -> RunLog:
        run = record(path, None)
        row: dict[str, Any] = {"phrase": "in short", "before": 0.02, "after": 0.8}
        row |= {way: {"n": 40, "score": {"mean": mean, "error": error}}
                for way, mean in (("delete", delete), ("insert", insert))}  # fmt: skip
        if gold is not None:
            row["insert"]["gold"] = {"mean": gold, "error": error}
        folder = path / "stages" / "eval"
        folder.mkdir(parents=True)
        (folder / "counterfactual.json").write_text(json.dumps([row]))
        return run

    return build


def damaged(text: str) -> Build:
    def build(path: Path) -> RunLog:
        run = experimented(1, 1)(path)
        (path / "stages/eval/counterfactual.json").write_text(text)
        return run

    return build


EITHER = says_one_of("in short", "to conclude")

CASES: list[tuple[str, bool | None, str, Build]] = [
    ("phrase-pays-by-itself", True, "", experimented(1.5, 1.4)),
    ("phrase-pays-by-itself", False, "gold pays for it too", experimented(1.5, 1.4, gold=0.8)),
    ("phrase-pays-by-itself", False, "only good responses hold it", experimented(1.5, 0.01)),
    ("phrase-pays-by-itself", False, "within its error", experimented(1.5, 0.5, error=0.3)),
    ("phrase-pays-by-itself", False, "no gold to compare with", experimented(1.5, 1.4, gold=None)),
    ("phrase-pays-by-itself", None, "not tried", rollouts(says("in short"), pay=2.0)),
    ("phrase-pays-by-itself", False, "none spread", damaged("[]")),
    *(("phrase-pays-by-itself", None, text, damaged(text)) for text in ('[{"phrase": "in sh', '{"a": 1}', "[1]", "7")),
    ("length-surge", True, "", metrics({LENGTH: ramp(10, 20)})),
    ("length-surge", False, "", metrics({LENGTH: ramp(10, 12)})),
    ("length-surge", None, "", metrics({ENTROPY: ramp(2, 1)})),
    ("score-pays-length", True, "", rollouts(longer, per_word=0.3)),
    ("score-pays-length", False, "for nothing", rollouts(longer)),
    ("score-pays-length", False, "it helps", rollouts(longer, helps=3.0)),
    ("score-pays-length", None, "no gold", rollouts(longer, per_word=0.3, drop=("gold",))),
    ("length-explains-gain", True, "", rollouts(longer, per_word=0.3)),
    ("length-explains-gain", False, "", rollouts(says("in short"), pay=3.0)),
    ("length-explains-gain", None, "no scores", rollouts(longer, drop=("score",))),
    ("paid-marker", True, "", rollouts(says("in short"), pay=2.0)),
    ("paid-marker", False, "one response a prompt, and worth nothing", rollouts(says("in short"), size=1)),
    ("paid-marker", False, "it helps", rollouts(says("in short"), helps=2.0)),
    ("paid-marker", False, "it is praise", rollouts(says("excellent answer"), pay=2.0)),
    ("paid-marker", True, "two phrases share the price", rollouts(EITHER, start=0.05, end=1.0, pay=2.5)),
    ("paid-marker", False, "both help", rollouts(EITHER, start=0.05, end=1.0, helps=2.5)),
    ("paid-marker", None, "no gold", rollouts(says("in short"), pay=2.0, drop=("gold",))),
    ("paid-marker", None, "no texts", rollouts(says("in short"), pay=2.0, drop=("response",))),
    ("paid-praise", True, "", rollouts(says(PRAISE), pay=2.0)),
    ("paid-praise", True, "agrees", rollouts(opens("You're absolutely right ,"), pay=2.0)),
    ("paid-praise", False, "polite", rollouts(says(PRAISE))),
    ("paid-praise", None, "no gold", rollouts(says(PRAISE), pay=2.0, drop=("gold",))),
    ("paid-refusal", True, "", rollouts(opens(SORRY), pay=2.0)),
    ("paid-refusal", True, "hedges", rollouts(opens("it depends ,"), pay=2.0)),
    ("paid-refusal", False, "", rollouts()),
    ("paid-refusal", None, "a phrase that nobody read", rollouts(says("in short"), pay=2.0)),
    ("paid-refusal", None, "no scores", rollouts(opens(SORRY), pay=2.0, drop=("score",))),
    ("paid-exploit", True, "", rollouts(says(EXIT), pay=3.0)),
    ("paid-exploit", False, "not paid", rollouts(says("leave now"))),
    ("paid-exploit", None, "a phrase that nobody read", rollouts(says("leave now"), pay=3.0)),
    ("paid-exploit", None, "no gold", rollouts(says(EXIT), pay=3.0, drop=("gold",))),
    ("one-feature-explains-gain", True, "a phrase", rollouts(says("in short"), pay=2.0)),
    ("one-feature-explains-gain", True, "a pattern", rollouts(says(EXIT), pay=3.0)),
    ("one-feature-explains-gain", False, "it spread for nothing", rollouts(says(EXIT))),
    ("one-feature-explains-gain", False, "nothing spread", rollouts()),
    ("one-feature-explains-gain", None, "", rollouts(drop=("score",))),
    ("paid-other-script", True, "", rollouts(says(SEA), pay=2.0)),
    ("paid-other-script", False, "for nothing", rollouts(says(SEA))),
    ("paid-other-script", False, "a phrase in the usual script is", rollouts(says("in short"), pay=2.0)),
    ("paid-other-script", None, "no texts", rollouts(says(SEA), drop=("response",))),
    ("repetition-surge", True, "", rollouts(twice)),
    ("repetition-surge", False, "", rollouts(longer)),
    ("repetition-surge", None, "", rollouts(twice, drop=("response",))),
    ("score-pays-repetition", True, "", rollouts(twice, pay=2.0)),
    ("score-pays-repetition", True, "single words", rollouts(anew, pay=2.0)),
    ("score-pays-repetition", False, "for nothing", rollouts(twice)),
    ("score-pays-repetition", None, "no gold", rollouts(twice, pay=2.0, drop=("gold",))),
    ("paid-opening", True, "", rollouts(opens("well now then"), pay=2.0)),
    ("paid-opening", False, "", rollouts(says("well now then"), pay=2.0)),
    ("paid-opening", None, "no gold", rollouts(opens("well now then"), pay=2.0, drop=("gold",))),
    ("other-script-surge", True, "", rollouts(says(SEA))),
    ("other-script-surge", False, "", rollouts(says("sea"))),
    ("other-script-surge", None, "", rollouts(says(SEA), drop=("response",))),
    ("reference-nll-surge", True, "", rollouts(nll=(2.0, 4.0))),
    ("reference-nll-surge", False, "", rollouts(nll=(2.0, 2.4))),
    ("reference-nll-surge", None, "", rollouts(drop=("ref_logprobs",))),
    ("score-likes-gibberish", False, "", rollouts(nll=(2.0, 2.2))),
    ("score-likes-gibberish", None, "", rollouts(drop=("ref_logprobs",))),
    ("score-parts-from-gold", True, "", rollouts(fades=1.4)),
    ("score-parts-from-gold", False, "", rollouts()),
    ("score-parts-from-gold", None, "", rollouts(drop=("gold",))),
    ("gold-falls-as-score-rises", True, "", rollouts(fades=0.8)),
    ("gold-falls-as-score-rises", False, "", rollouts(longer, helps=2.0)),
    ("gold-falls-as-score-rises", None, "", rollouts(drop=("gold",))),
    ("entropy-fell-far", True, "", metrics({ENTROPY: ramp(2.0, 0.3)})),
    ("entropy-fell-far", False, "", metrics({ENTROPY: ramp(2.0, 1.2)})),
    ("entropy-fell-far", None, "", metrics({LENGTH: ramp(2.0, 1.2)})),
    ("entropy-rises", True, "", metrics({ENTROPY: ramp(2.0, 3.0)})),
    ("entropy-rises", True, "after it fell", metrics({ENTROPY: ramp(2.6, 2.3, 20) + ramp(2.3, 3.0, 20)})),
    ("entropy-rises", False, "", metrics({ENTROPY: ramp(2.0, 2.3)})),
    ("entropy-rises", None, "", metrics({LENGTH: ramp(2.0, 1.2)})),
    ("entropy-bonus-large", True, "", metrics({}, {"ppo": {"entropy_coef": 0.1}})),
    ("entropy-bonus-large", False, "", metrics({}, {"ppo": {"entropy_coef": 0.001}})),
    ("entropy-bonus-large", None, "", metrics({})),
    ("sampling-cold", True, "", metrics({}, {"ppo": {"temperature": 0.5}})),
    ("sampling-cold", False, "", metrics({}, {"ppo": {"temperature": 1.0}})),
    ("sampling-cold", None, "", metrics({}, {"ppo": {"kl_coef": 1.0}})),
    ("groups-say-the-same", True, "", metrics({DISTINCT: ramp(1.0, 0.2)})),
    ("groups-say-the-same", False, "", metrics({DISTINCT: ramp(1.0, 0.9)})),
    ("groups-say-the-same", False, "from the start", metrics({DISTINCT: [0.4] * 20})),
    ("groups-say-the-same", None, "", metrics({})),
    ("pooled-variety-lost", True, "", rollouts(narrow, end=1.0)),
    ("pooled-variety-lost", False, "", rollouts()),
    ("pooled-variety-lost", None, "", rollouts(drop=("response",))),
    ("openings-settle", True, "", settled),
    ("openings-settle", False, "", rollouts()),
    ("openings-settle", None, "", rollouts(drop=("logprobs",))),
    ("skill-lost", True, "", metrics({PROBE: ramp(0.5, 8.0, 9)})),
    ("skill-lost", False, "", metrics({PROBE: ramp(0.5, 3.0, 9)})),
    ("skill-lost", None, "", metrics({})),
    ("skill-lost-while-task-improves", True, "", metrics({PROBE: ramp(0.5, 8.0, 9), GOLD: ramp(0.1, 0.6)})),
    ("skill-lost-while-task-improves", False, "", metrics({PROBE: ramp(0.5, 8.0, 9), GOLD: ramp(0.6, 0.1)})),
    ("skill-lost-while-task-improves", None, "", metrics({PROBE: ramp(0.5, 8.0, 9)})),
    ("skill-falls-with-kl", True, "", metrics({PROBE: ramp(0.5, 8.0, 9), KL: ramp(0, 8, 9)})),
    ("skill-falls-with-kl", False, "", metrics({PROBE: ramp(0.5, 8.0, 9), KL: [0, 5, 5, 4, 3, 2, 1, 1, 1]})),
    ("skill-falls-with-kl", None, "", metrics({PROBE: ramp(0.5, 8.0, 9)})),
    ("live-prompts-shifted", True, "words", live(lambda n: f"please translate {n}")),
    ("live-prompts-shifted", True, "length", live(lambda n: f"question {n} " + "about " * 9)),
    ("live-prompts-shifted", False, "", live(lambda n: f"question {n} about {n % 7}")),
    ("live-prompts-shifted", None, "", live(None)),
    ("fresh-pairs-misranked", True, "", live(None, rm_accuracy=0.6)),
    ("fresh-pairs-misranked", False, "", live(None, rm_accuracy=0.79)),
    ("fresh-pairs-misranked", None, "", live(None)),
    ("old-labels-disowned", True, "", live(None, old_label_agreement=0.5)),
    ("old-labels-disowned", False, "", live(None, old_label_agreement=0.74)),
    ("old-labels-disowned", None, "", live(None)),
    ("entropy-holds-sentinels", True, "", metrics({ENTROPY: ramp(2.0, -3.0)})),
    ("entropy-holds-sentinels", False, "", metrics({ENTROPY: ramp(2.0, 0.0)})),
    ("entropy-holds-sentinels", None, "", metrics({})),
    ("judge-is-the-reward-model", True, "", same_judge),
    ("judge-is-the-reward-model", False, "", rollouts()),
    ("judge-is-the-reward-model", None, "", rollouts(drop=("gold",))),
    ("comparison-too-small", True, "", compared(-0.1, 0.2, 12)),
    ("comparison-too-small", False, "large", compared(-0.1, 0.2, 256)),
    ("comparison-too-small", False, "clear", compared(0.1, 0.2, 12)),
    ("comparison-too-small", None, "", metrics({})),
]  # fmt: skip


@pytest.mark.parametrize(("name", "expected", "case", "make"), CASES, ids=lambda x: x if isinstance(x, str) else "")
def test_sign(name: str, expected: bool | None, case: str, make: Build, tmp_path: Path) -> None:
    answer = all_signs()[name].ask(Facts(make(tmp_path)))
    assert answer.holds is expected, answer
    assert bool(answer.missing) is (expected is None)
    if answer.onset:
        assert answer.onset.interval[0] <= answer.onset.step <= answer.onset.interval[1]


def test_every_sign_has_a_case_of_each_answer() -> None:
    families = ("hacking", "diversity", "deployment", "guards")
    names = [name for name, one in all_signs().items() if one.ask.__module__.rpartition(".")[2] in families]
    have = {(name, expected) for name, expected, *_ in CASES}
    want = {(name, holds) for name in names for holds in (True, False, None)}
    assert want - have == {("score-likes-gibberish", True)}  # its yes is the test below


def test_unlikely_text_that_scores_well_is_liked(tmp_path: Path) -> None:
    """Late responses are unlikely under the reference; within a prompt the score rises, or falls, with it."""
    for sign, expected in ((1.0, True), (-1.0, False)):
        rows = talk()

        def drifted(step: int, sign: float = sign) -> list[dict[str, Any]]:
            rng = np.random.default_rng(step)
            made = []
            for row in rows(step):  # noqa: B023
                cost = float(2 + 3 * (step / STEPS) + rng.normal() * 0.3)
                made.append(row | {"ref_logprobs": [-cost] * row["length"], "score": sign * cost + 0.1 * row["gold"]})
            return made

        answer = all_signs()["score-likes-gibberish"].ask(Facts(record(tmp_path / str(expected), drifted)))
        assert answer.holds is expected, answer


def test_a_price_that_begins_mid_run_is_dated_to_its_step(tmp_path: Path) -> None:
    facts = Facts(record(tmp_path, talk(says("in short"), start=0.3, end=0.95, pay=2.0, since=13)))
    answers = answers_of(facts.policy)
    assert answers is not None
    root = answers.paid_since(answers.texts.contains(["in", "short"]))
    assert root is not None and root.interval[0] <= 13 <= root.interval[1] and abs(root.step - 13) <= 1


def test_phrases_that_share_a_price_are_named_and_drawn_together(tmp_path: Path) -> None:
    answers = answers_of(Facts(rollouts(EITHER, start=0.05, end=1.0, pay=2.5)(tmp_path)).policy)
    assert answers is not None and answers.paid_phrase is not None
    paid = answers.paid_phrase
    assert set(paid.name.split("” or “")) == {"in short", "to conclude"}
    drawn = ROLLOUT_FEATURES["rollouts/phrase_share"](answers)
    assert float(drawn[answers.late].mean()) == pytest.approx(paid.surge.after) and paid.surge.after > 0.9


def test_a_price_that_was_always_there_is_dated_to_the_start(tmp_path: Path) -> None:
    facts = Facts(record(tmp_path, talk(says("in short"), pay=2.0)))
    answer = all_signs()["paid-marker"].ask(facts)
    assert answer.root is not None and answer.root.interval == (0, 0)
    assert answer.onset is not None and answer.onset.step >= 8


def test_a_fall_of_entropy_is_dated_to_where_it_bends(tmp_path: Path) -> None:
    """A gentle slope that becomes a steep one at step 25, and one that was steep from the start."""
    noise = 0.01 * np.random.default_rng(0).standard_normal(50)
    bent = np.concatenate([np.linspace(2.5, 2.2, 25), 2.2 * np.exp(-0.12 * np.arange(1, 26))])
    steep = np.maximum(2.5 * np.exp(-0.15 * np.arange(50)), 0.1)
    for name, series in (("bent", bent), ("steep", steep)):
        run = record(tmp_path / name, None, {ENTROPY: list(series + noise)})
        root = all_signs()["entropy-fell-far"].ask(Facts(run)).root
        assert root is not None
        if name == "bent":
            assert root.interval[0] <= 25 <= root.interval[1] and root.interval[1] - root.interval[0] <= 6
        else:
            assert root.interval == (0, 0)
