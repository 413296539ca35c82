# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# (pyarrow has no type stubs)
"""What tells faults of the data and of SFT apart: labels, prompts, format, how well the initial policy was trained."""

import json
from collections import Counter
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from regard.review.facts import Facts
from regard.review.ranking import concordance, group_keys, start_rows
from regard.review.signs import Answer, no, sign, unknown, yes
from regard.review.statistics import first_of
from regard.runlog.reader import StageLog
from regard.runlog.sample import RolloutSample

AGREEMENT, TRUSTED = "rm/rater_agreement/mean", "rm/accuracy_trusted/mean"
TEST, PAIRS = ("rm/accuracy_test/mean", "rm/accuracy_val/mean"), "rm/pairs_test/count"
SFT_LOSS, ENTROPY = "loss/sft_eval/mean", "entropy/policy/token_mean"
ZERO_STD = "group/zero_std/frac"


def last(stage: StageLog | None, *keys: str) -> float | None:
    """The last finite value of the first of these metrics that the stage has."""
    reading = first_of(stage, keys) if stage else None
    return float(reading.values[-1]) if reading else None


def accuracy_error(facts: Facts) -> float | None:
    """Standard error of an accuracy on the reward model's test pairs, at most: 0.5 / sqrt(pairs)."""
    pairs = last(facts.rm, PAIRS)
    return 0.5 / pairs**0.5 if pairs else None


# Labels


@sign("raters-disagree")
def raters_disagree(facts: Facts) -> Answer:
    """Two raters of a pair agree in fewer than 68 % of the cases; people who compare with care reach 0.7 to 0.77."""
    value = last(facts.rm, AGREEMENT)
    if value is None:
        return unknown("No pair of the record was labelled twice.", AGREEMENT)
    text = f"Two raters of a pair agree on {value:.2f} of the pairs, 0.5 being chance."
    return yes(text) if value < 0.68 else no(text)


@sign("labels-below-trusted")
def labels_below_trusted(facts: Facts) -> Answer:
    """The reward model is right more often by trusted labels than by those of its kind, by 15 points and 2 SE."""
    trusted, by_label, error = last(facts.rm, TRUSTED), last(facts.rm, *TEST), accuracy_error(facts)
    if trusted is None or by_label is None or error is None:
        return unknown("There is no accuracy by trusted labels beside that by the raters' labels.", TRUSTED, PAIRS)
    text = f"Right on {trusted:.2f} of the pairs by trusted labels, {by_label:.2f} by the raters'."
    return yes(text) if trusted - by_label > max(0.15, 2 * error) else no(text)


@sign("trusted-accuracy-below-half")
def trusted_accuracy_below_half(facts: Facts) -> Answer:
    """By trusted labels the reward model is wrong more often than a coin, by 2 SE: something is swapped."""
    trusted, error = last(facts.rm, TRUSTED), accuracy_error(facts)
    if trusted is None or error is None:
        return unknown("There is no accuracy by trusted labels with its number of pairs.", TRUSTED, PAIRS)
    text = f"By trusted labels {trusted:.2f} ± {error:.2f} of the pairs are ranked right."
    return yes(text) if trusted + 2 * error < 0.5 else no(text)


@sign("score-against-gold-at-start")
def score_against_gold_at_start(facts: Facts) -> Answer:
    """On the first rollouts the score prefers what an independent judge rejects: concordance below 0.5 by 2 SE."""
    sample = facts.rollouts
    if sample is None or not sample.has("score", "gold"):
        return unknown("The first rollouts have no score with an independent judgement.", "rollouts: gold")
    agreement = concordance(sample, sample.numbers["score"], sample.numbers["gold"], start_rows(sample))
    if agreement is None:
        return unknown("Too few of the first rollouts can be compared.", "rollouts: gold")
    text = f"On the first rollouts score and judge order {agreement} of the pairs alike."
    return yes(text) if agreement.share + 2 * agreement.error < 0.5 else no(text)


# Prompts


def repeated_share(sample: RolloutSample) -> float | None:
    """Share of the rollouts that belong to a prompt which its step has more than once, beyond the usual group.

    The usual group is the commonest number of responses to a prompt in a step. None below ten groups.
    """
    _, sizes = np.unique(group_keys(sample, np.ones(len(sample), dtype=bool)), return_counts=True)
    if len(sizes) < 10:
        return None
    usual = np.bincount(sizes).argmax()
    return float(sizes[sizes >= 2 * usual].sum() - usual * (sizes >= 2 * usual).sum()) / float(sizes.sum())


@sign("prompts-repeat-in-a-step")
def prompts_repeat_in_a_step(facts: Facts) -> Answer:
    """More than 5 % of the rollouts are of a prompt that their own step has already had in another group."""
    sample = facts.rollouts
    if sample is None or not (sample.has("prompt_id") or sample.has("prompt")):
        return unknown("The rollouts do not say of which prompt they are.", "rollouts: prompt_id")
    share = repeated_share(sample)
    if share is None:
        return unknown("There are fewer than ten groups of rollouts.", "rollouts: prompt_id")
    text = f"{share:.0%} of the rollouts repeat a prompt of their own step beyond its group."
    return yes(text) if share > 0.05 else no(text)


@sign("few-different-prompts")
def few_different_prompts(facts: Facts) -> Answer:
    """Each prompt came eight times or more on average, not counting several responses at one step."""
    sample = facts.rollouts
    if sample is None or not (sample.has("prompt_id") or sample.has("prompt")):
        return unknown("The rollouts do not say of which prompt they are.", "rollouts: prompt_id")
    groups = len(np.unique(group_keys(sample, np.ones(len(sample), dtype=bool))))
    different = int(sample.prompt_codes.max()) + 1
    text = f"{different} different prompts came in {groups} groups of rollouts."
    return yes(text) if groups >= 8 * different else no(text)


def shared_with_eval(facts: Facts) -> tuple[int, int] | None:
    """(held-out prompts that were also trained on, held-out prompts in the record); None where the record has none."""
    path = facts.run.path / "stages" / "eval" / "samples.json"
    sample = facts.rollouts
    if sample is None or not sample.has("prompt") or not path.is_file():
        return None
    try:
        rows: Any = json.loads(path.read_text(encoding="utf-8"))
        asked = {" ".join(str(row["prompt"]).split()) for row in rows}
    except (OSError, ValueError, TypeError, KeyError):
        return None
    trained = {" ".join(prompt.split()) for prompt in set(sample.texts["prompt"])}
    return (len(asked & trained), len(asked)) if asked else None


@sign("eval-prompts-in-training")
def eval_prompts_in_training(facts: Facts) -> Answer:
    """At least 5 % of the held-out prompts, and three of them, were also prompts of stage 4."""
    counts = shared_with_eval(facts)
    if counts is None:
        return unknown("The record has no held-out prompts beside those of stage 4.", "rollouts: prompt")
    common, total = counts
    text = f"{common} of {total} held-out prompts were also trained on."
    return yes(text) if common >= max(3, 0.05 * total) else no(text)


@sign("dead-groups-from-the-start")
def dead_groups_from_the_start(facts: Facts) -> Answer:
    """From the first tenth of the run on, more than half of the groups give all their responses the same score."""
    reading = first_of(facts.policy, (ZERO_STD,)) if facts.policy else None
    if reading is None:
        return unknown("The share of groups without variance is not logged.", ZERO_STD)
    text = f"At the start {reading.start:.0%} of the groups have one score for all responses."
    return yes(text) if reading.start > 0.5 else no(text)


@sign("dead-groups-differ-in-text")
def dead_groups_differ_in_text(facts: Facts) -> Answer:
    """Groups with one score for all responses, a fifth of all at least, hold different texts, so it is not the policy
    that lacks variety."""
    sample = facts.rollouts
    if sample is None or not sample.has("score", "response"):
        return unknown("The rollouts have no texts with scores.", "rollouts: response")
    rows = np.isfinite(sample.numbers["score"])
    keys, scores = group_keys(sample, rows), sample.numbers["score"][rows]
    texts = [text for text, kept in zip(sample.texts["response"], rows, strict=True) if kept]
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order], prepend=keys[order][0] - 1))
    groups = [group for group in np.split(order, starts[1:]) if len(group) > 1]
    if not groups:
        return unknown("No prompt has several responses in a step.", "rollouts: prompt_id")
    dead = [group for group in groups if np.ptp(scores[group]) == 0]
    if len(dead) < 0.2 * len(groups):
        return no(f"{len(dead)} of {len(groups)} groups have one score for all responses.")
    variety = float(np.mean([len({texts[i] for i in group}) / len(group) for group in dead]))
    text = f"In {len(dead)} of {len(groups)} groups all scores are equal; {variety:.0%} of their texts are different."
    return yes(text) if variety > 0.5 else no(text)


# Format, and the initial policy


def first_tokens(stage: StageLog, column: str) -> list[list[int]]:
    """Token ids of the first step that has rollouts, `prompt_tokens` or `tokens`; empty where the record has none."""
    for step in stage.rollout_steps[:1]:
        try:
            listed = pq.read_table(stage.rollout_files[step], columns=[column]).column(column).to_pylist()
        except (OSError, ValueError, KeyError, pa.ArrowException):
            return []
        return [tokens for tokens in listed if tokens]
    return []


def sft_prompt_tokens(facts: Facts) -> list[list[int]]:
    """Token ids of a few prompts as SFT saw them; empty where the record has none."""
    events = [event for event in (facts.sft.events if facts.sft else []) if event.get("kind") == "rendered"]
    listed: Any = events[-1].get("prompts") if events else None
    if not isinstance(listed, list):
        return []
    prompts = [tokens for tokens in listed if isinstance(tokens, list) and tokens]
    return prompts if all(isinstance(token, int) for tokens in prompts for token in tokens) else []


class FormatDifference(NamedTuple):
    """How the prompts of two stages differ: in words ("" where they do not), how many of the one that lacks the token
    have it, and below which share that counts."""

    text: str
    share: float
    limit: float


def format_difference(facts: Facts) -> FormatDifference | None:
    """A first or last token that nine in ten prompts have in SFT or in stage 4 and fewer than half in the other; None
    where fewer than eight prompts of each are recorded with their token ids."""
    before, now = sft_prompt_tokens(facts), first_tokens(facts.policy, "prompt_tokens") if facts.policy else []
    if len(before) < 8 or len(now) < 8:
        return None
    for place, word in ((-1, "end"), (0, "begin")):
        shares = [Counter(tokens[place] for tokens in prompts) for prompts in (before, now)]
        for here, there, names in ((0, 1, ("SFT", "stage 4")), (1, 0, ("stage 4", "SFT"))):
            token, count = shares[here].most_common(1)[0]
            share, other = count / shares[here].total(), shares[there][token] / shares[there].total()
            if share >= 0.9 and other < 0.5:
                text = (
                    f"{share:.0%} of the prompts of {names[0]} {word} with token {token}; in {names[1]} {other:.0%} do."
                )
                return FormatDifference(text, other, 0.5)
    return FormatDifference("", 1.0, 0.5)


@sign("prompt-format-differs-from-sft")
def prompt_format_differs_from_sft(facts: Facts) -> Answer:
    """The prompts of stage 4 begin or end otherwise than those of SFT: a first or last token that nine in ten have in
    one stage and fewer than half in the other."""
    found = format_difference(facts)
    if found is None:
        return unknown("The token ids of prompts are not recorded in both stages.", "rollouts: prompt_tokens",
                       "stages/sft/events.jsonl: rendered")  # fmt: skip
    return yes(found.text) if found.text else no("The prompts of stage 4 begin and end as those of SFT.")


@sign("separator-in-responses")
def separator_in_responses(facts: Facts) -> Answer:
    """More than 5 % of the first responses begin with the token that ended nine in ten of SFT's prompts: the policy
    writes what it misses."""
    before, now = sft_prompt_tokens(facts), first_tokens(facts.policy, "tokens") if facts.policy else []
    if len(before) < 8 or len(now) < 8:
        return unknown("The token ids of SFT's prompts and of responses are not both recorded.", "rollouts: tokens",
                       "stages/sft/events.jsonl: rendered")  # fmt: skip
    token, count = Counter(tokens[-1] for tokens in before).most_common(1)[0]
    if count < 0.9 * len(before):
        return no("SFT's prompts end with no token in common.")
    share = sum(tokens[0] == token for tokens in now) / len(now)
    text = f"{share:.0%} of the first responses begin with token {token}, which ends the prompts of SFT."
    return yes(text) if share > 0.05 else no(text)


def start_against_sft(facts: Facts) -> tuple[float, float] | None:
    """(entropy of the policy at the start of stage 4, held-out loss at the end of SFT), nats per token; None where one
    is missing or sampling has another temperature than 1. They are equal for a model that is as sure as it is right."""
    entropy = first_of(facts.policy, (ENTROPY,)) if facts.policy else None
    loss = last(facts.sft, SFT_LOSS)
    if entropy is None or loss is None or loss <= 0 or facts.number("ppo.temperature", "temperature") not in (None, 1):
        return None
    return float(entropy.values[0]), loss


@sign("less-sure-than-after-sft")
def less_sure_than_after_sft(facts: Facts) -> Answer:
    """At the start the policy's entropy is above SFT's held-out loss by more than a quarter: it meets
    other prompts than it learned."""
    pair = start_against_sft(facts)
    if pair is None:
        return unknown("There is no entropy at the start beside a held-out loss of SFT.", SFT_LOSS, ENTROPY)
    text = f"Entropy {pair[0]:.2f} nats per token at the start; SFT ended with a held-out loss of {pair[1]:.2f}."
    return yes(text) if pair[0] > 1.25 * pair[1] else no(text)


@sign("surer-than-right-after-sft")
def surer_than_right_after_sft(facts: Facts) -> Answer:
    """At the start the policy's entropy is below SFT's held-out loss by more than a quarter: it is surer than it is
    right."""
    pair = start_against_sft(facts)
    if pair is None:
        return unknown("There is no entropy at the start beside a held-out loss of SFT.", SFT_LOSS, ENTROPY)
    text = f"Entropy {pair[0]:.2f} nats per token at the start; SFT ended with a held-out loss of {pair[1]:.2f}."
    return yes(text) if pair[0] < 0.75 * pair[1] else no(text)


@sign("sft-barely-trained")
def sft_barely_trained(facts: Facts) -> Answer:
    """SFT's held-out loss falls by 2 % between the last two evaluations, half as fast as it ever did."""
    loss = first_of(facts.sft, (SFT_LOSS,), 4) if facts.sft else None
    if loss is None or loss.values[0] <= 0:
        return unknown("There are not four evaluations of SFT's held-out loss.", SFT_LOSS)
    slopes = np.diff(loss.values) / np.diff(loss.steps)
    text = f"SFT's held-out loss goes from {loss.values[0]:.3f} to {loss.values[-1]:.3f} in {loss.steps[-1]} steps."
    moved = (loss.values[-2] - loss.values[-1]) / loss.values[-2]
    return yes(text) if moved > 0.02 and slopes[-1] < 0.5 * slopes.min() else no(text)
