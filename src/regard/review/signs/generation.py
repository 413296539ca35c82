# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# (pyarrow has no type stubs)
"""What tells faults of the sampler apart, and whether responses end, and whether the grader answers."""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from regard.review.facts import Facts
from regard.review.outcome import Onset
from regard.review.sampler_gap import Gap, gaps, quarters
from regard.review.signs import Answer, no, sign, unknown, yes
from regard.review.statistics import first_of, lasting
from regard.runlog.sample import Floats, RolloutSample
from regard.text import rank_correlation

MISMATCH = "kl/generator_trainer_k3/mean"
BOTH = ("rollouts: generator_logprobs", "rollouts: logprobs")
SAME, APART, TIMES = 1e-7, 1e-5, 1000.0
EARLY, LARGE, CLOSELY = 0.3, 1e-3, 0.5
LENGTH, CAP, EOS, CUT = "length/response_tokens/mean", "length/cap/value", "finish/eos/frac", "finish/truncated/frac"


# Sampler against trainer


def _of_either(facts: Facts, holds: str, text: str) -> Answer:
    """Whether a property of the gap holds at the start or at the end."""
    pair = gaps(facts)
    if pair is None:
        return unknown("The rollouts do not have the log-probabilities of both sampler and trainer.", *BOTH)
    shown = next((gap for gap in pair if getattr(gap, holds)), max(pair, key=lambda gap: gap.k3))
    where = "first" if shown is pair[0] else "last"
    sentence = text.format(gap=shown, where=where)
    return yes(sentence) if getattr(shown, holds) else no(sentence)


@sign("sampler-gap-at-end")
def sampler_gap_at_end(facts: Facts) -> Answer:
    """At the end of the run sampler and trainer differ by more than number formats explain."""
    pair = gaps(facts)
    if pair is None:
        return unknown("The rollouts do not have the log-probabilities of both sampler and trainer.", *BOTH)
    text = f"Sampler and trainer differ by {pair[1].size:.2g} nats per token at the end (k3 {pair[1].k3:.2g})."
    return yes(text) if pair[1].there else no(text)


@sign("sampler-slope-off")
def sampler_slope_off(facts: Facts) -> Answer:
    """The trainer's log-probabilities spread by another factor than the sampler's, as under another temperature."""
    return _of_either(
        facts,
        "slope_off",
        "On the {where} rollouts the trainer's log-probabilities spread {gap.slope:.3f} ± {gap.slope_error:.3f} times "
        "as far as the sampler's.",
    )


@sign("sampler-mass-missing")
def sampler_mass_missing(facts: Facts) -> Answer:
    """The mean ratio of trainer to sampler is below 1: the sampler left out part of the distribution."""
    return _of_either(
        facts,
        "mass_missing",
        "On the {where} rollouts the mean ratio of trainer to sampler is {gap.mass:.3f} ± {gap.mass_error:.3f}.",
    )


@sign("sampler-is-an-older-policy")
def sampler_is_an_older_policy(facts: Facts) -> Answer:
    """Sampler and trainer agree at first, and where the policy then moves away from the reference the sampler does not:
    it samples with older weights."""
    pair = gaps(facts)
    parts = [gap for gap in quarters(facts) if gap.there]
    if pair is None or (parts and all(gap.follows is None for gap in parts)):
        return unknown(
            "The rollouts do not have log-probabilities of sampler, trainer and reference.",
            *BOTH, "rollouts: ref_logprobs",
        )  # fmt: skip
    if not parts:
        return no("Sampler and trainer agree.")
    best = max(gap.follows or 0.0 for gap in parts)
    text = f"What the trainer gives a token beyond the sampler correlates by up to {best:.2f} with what it gives it "
    text += "beyond the reference."
    # Old weights are far from the new ones only when these have moved. What is far at once is no age, unless it follows
    # the policy closely, as with a sampler that is always one step behind.
    other = best < CLOSELY and _far_at_once(facts)
    return yes(text) if any(gap.behind for gap in parts) and not pair[0].there and not other else no(text)


@sign("sampler-gap-is-noise")
def sampler_gap_is_noise(facts: Facts) -> Answer:
    """Sampler and trainer differ without a system: same spread, mean ratio 1, no relation to how the policy moved."""
    pair = gaps(facts)
    if pair is None:
        return unknown("The rollouts do not have the log-probabilities of both sampler and trainer.", *BOTH)
    worst = max(pair, key=lambda gap: gap.k3)
    text = (
        f"Sampler and trainer differ by {worst.size:.2g} nats per token, spread {worst.slope:.3f} to 1, mean ratio "
        f"{worst.mass:.3f}."
    )
    there = [gap for gap in pair if gap.there]
    behind = sampler_is_an_older_policy(facts).holds is True
    return yes(text) if there and not behind and all(_is_noise(gap) for gap in there) else no(text)


def _is_noise(gap: Gap) -> bool:
    return not gap.spread_differs and not gap.mass_missing


def mismatch_onset(facts: Facts) -> tuple[int, int, Floats] | None:
    """(index of the first step above the limit, step, series) of the logged mismatch; None where it is never above."""
    reading = first_of(facts.policy, (MISMATCH,), 8) if facts.policy else None
    if reading is None:
        return None
    above = np.flatnonzero(reading.values > 1e-4)
    return (int(above[0]), int(reading.steps[above[0]]), reading.values) if len(above) else None


@sign("sampler-gap-builds-up")
def sampler_gap_builds_up(facts: Facts) -> Answer:
    """The mismatch of sampler and trainer begins small and grows over several steps, as when weights fall behind; a
    changed setting is there at once."""
    if facts.policy is None or MISMATCH not in facts.policy.metrics:
        return unknown("The mismatch of sampler and trainer is not logged.", MISMATCH)
    found = mismatch_onset(facts)
    if found is None:
        return no("Sampler and trainer agree throughout.")
    at, step, values = found
    level = _upper(values[at:])
    text = f"The mismatch is {values[at]:.2g} at step {step} and {level:.2g} in the upper half of what follows."
    return yes(text) if values[at] < EARLY * level and level > LARGE else no(text)


def _upper(values: Floats) -> float:
    """Median of the upper half."""
    return float(np.median(np.sort(values)[len(values) // 2 :]))


def _far_at_once(facts: Facts) -> bool:
    """Whether the logged mismatch has its later size in the first step in which there is any."""
    found = mismatch_onset(facts)
    if found is None:
        return False
    at, _, values = found
    level = _upper(values[at:])
    return level > LARGE and bool(values[at] >= EARLY * level)


@sign("agreement-lost")
def agreement_lost(facts: Facts) -> Answer:
    """Sampler and trainer agree to rounding at first, and from one step to the end their mismatch is a thousand times
    as large and above 1e-5 nats per token."""
    mismatch = first_of(facts.policy, (MISMATCH,), 8) if facts.policy else None
    if mismatch is None:
        return unknown("The mismatch of sampler and trainer is not logged.", MISMATCH)
    level = abs(mismatch.start)
    text = f"The mismatch of sampler and trainer begins at {level:.2g}"
    if level > SAME:
        return no(text + " nats per token, beyond rounding.")
    spell = lasting(mismatch, lambda values: values > max(APART, TIMES * level))
    if spell is None:
        return no(text + f" and ends at {mismatch.end:.2g} nats per token.")
    since = max(0, spell.first - 1)  # the smoothing of the spell moves its beginning by a point
    first = since + int(np.flatnonzero(mismatch.values[since:] > max(APART, TIMES * level))[0])
    step, before = int(mismatch.steps[first]), int(mismatch.steps[max(0, first - 1)])
    onset = Onset(step, (before, step))
    return yes(f"{text} and is {mismatch.end:.2g} nats per token from step {step} on.", onset, root=onset)


@sign("weights-not-sent")
def weights_not_sent(facts: Facts) -> Answer:
    """The rollouts themselves, or the logged staleness, say that the sampler's weights fall behind: more than eight
    versions, or one version for more than five steps of training."""
    staleness = first_of(facts.policy, ("policy/staleness/mean",), 5) if facts.policy else None
    sample = facts.rollouts
    if sample is not None and sample.has("policy_version") and len(sample.distinct_steps) > 6:
        _, versions = sample.by_step(sample.numbers["policy_version"])
        stays = _longest_run(versions)
        text = f"One version of the weights sampled {stays} steps in a row."
        if stays > 5:
            return yes(text)
    elif staleness is None:
        return unknown("Neither staleness nor the version of the sampler's weights is recorded.",
                       "policy/staleness/mean", "rollouts: policy_version")  # fmt: skip
    else:
        text = "The versions of the sampler's weights are not recorded."
    if staleness is not None and staleness.end > 8:
        return yes(f"Rollouts are {staleness.end:.0f} versions old at the end.")
    return no(text)


def _longest_run(values: Floats) -> int:
    change = np.flatnonzero(np.diff(values) != 0)
    return int(np.diff(np.concatenate([[-1], change, [len(values) - 1]])).max())


@sign("gap-grows-with-padding")
def gap_grows_with_padding(facts: Facts) -> Answer:
    """The difference of sampler and trainer is the larger, the more padding a row needs, by rank, within the first
    steps; rows without padding agree."""
    sample = facts.rollouts
    if sample is None or not sample.has("logprobs", "generator_logprobs"):
        return unknown("The rollouts do not have the log-probabilities of both sampler and trainer.", *BOTH)
    found = _gap_and_padding(facts, sample)
    if found is None:
        return unknown("The rollouts do not say how long the prompts are.", "rollouts: prompt_tokens")
    sizes, padding = found
    if sizes.mean() < 1e-3:
        return no("Sampler and trainer agree at the start.")
    relation = rank_correlation(padding, sizes)
    text = f"Rank correlation of padding and mismatch is {relation:.2f} over {len(sizes)} of the first rollouts."
    return yes(text) if relation > 0.3 else no(text)


def _gap_and_padding(facts: Facts, sample: RolloutSample) -> tuple[Floats, Floats] | None:
    """Mean |T − S| and padding of each row of the first two steps; padding is up to the longest row of the step."""
    trainer, sampler = sample.per_token["logprobs"], sample.per_token["generator_logprobs"]
    if facts.policy is None or len(trainer.values) != len(sampler.values):
        return None
    spread = np.abs(trainer.values - sampler.values)
    counts = np.maximum(trainer.lengths, 1)
    sizes = np.bincount(trainer.rows, weights=spread, minlength=len(sample)) / counts
    parts: list[tuple[Floats, Floats]] = []
    for step in sample.distinct_steps[:2]:
        rows = sample.steps == step
        lengths = _prompt_lengths(facts, int(step), int(rows.sum()))
        if lengths is None:
            return None
        total = lengths + trainer.lengths[rows]
        parts.append((sizes[rows], total.max() - total))
    return np.concatenate([a for a, _ in parts]), np.concatenate([b for _, b in parts])


def _prompt_lengths(facts: Facts, step: int, rows: int) -> Floats | None:
    assert facts.policy is not None
    file = facts.policy.rollout_files.get(step)
    try:
        column = pq.read_table(file, columns=["prompt_tokens"]).column("prompt_tokens") if file else None
    except (OSError, ValueError, pa.ArrowException):
        return None
    lists = column.slice(0, rows).to_pylist() if column is not None else []
    if len(lists) != rows or not all(lists):
        return None
    return np.array([len(tokens) for tokens in lists], dtype=np.float64)


# Do responses end?


def sft_length(facts: Facts) -> float | None:
    """Mean length of the SFT answers in tokens, EOS included; None where the record does not say, or where the answers
    reach their own cap, so that their true length is not known."""
    tokens = first_of(facts.sft, ("data/tokens/count",), 3) if facts.sft else None
    batch, cap = facts.number("sft.batch_size"), facts.number("sft.max_response_tokens")
    if tokens is None or not batch or not cap:
        return None
    mean = float(tokens.values.mean()) / batch
    return mean if mean < 0.8 * cap else None


SFT_NEEDS = ("stages/sft: data/tokens/count", "config: sft.batch_size")


@sign("cut-from-the-start")
def cut_from_the_start(facts: Facts) -> Answer:
    """More than 15 % of the responses of the first steps are cut by the cap."""
    cut = first_of(facts.policy, (CUT,)) if facts.policy else None
    if cut is None:
        return unknown("The share of cut responses is not logged.", CUT)
    share = float(np.median(cut.values[:3]))
    text = f"{share:.0%} of the first responses are cut by the cap."
    return yes(text) if share > 0.15 else no(text)


@sign("longer-than-sft-answers")
def longer_than_sft_answers(facts: Facts) -> Answer:
    """The first responses are longer than the answers that SFT taught, by more than 30 %."""
    taught = sft_length(facts)
    length = first_of(facts.policy, (LENGTH,)) if facts.policy else None
    if taught is None or length is None:
        return unknown("The length of the SFT answers is not recorded.", *SFT_NEEDS)
    value = float(length.values[0])  # the policy may learn to write more within a few steps
    text = f"The first responses have {value:.1f} tokens in the mean, the answers of SFT {taught:.1f}."
    return yes(text) if value > 1.3 * taught else no(text)


@sign("sft-labels-lack-an-end")
def sft_labels_lack_an_end(facts: Facts) -> Answer:
    """Of the answers that SFT was shown whole, fewer than 70 % end with one and the same token: EOS is not learned."""
    events = [event for event in (facts.sft.events if facts.sft else []) if event.get("kind") == "rendered"]
    listed: Any = events[-1].get("responses") if events else None
    cap = facts.number("sft.max_response_tokens")
    answers = [tokens for tokens in listed or () if isinstance(tokens, list) and tokens]
    whole = [tokens for tokens in answers if cap is None or len(tokens) < cap]
    if len(whole) < 8:
        return unknown("The token ids of SFT's answers are not recorded.", "stages/sft/events.jsonl: rendered")
    _, count = Counter(tokens[-1] for tokens in whole).most_common(1)[0]
    text = f"{count} of {len(whole)} answers of SFT end with the same token."
    return yes(text) if count < 0.7 * len(whole) else no(text)


@sign("cap-near-sft-length")
def cap_near_sft_length(facts: Facts) -> Answer:
    """The cap is less than 1.4 times the mean length of the SFT answers, so a good part of such answers is cut."""
    taught = sft_length(facts)
    cap = facts.number("ppo.max_response_tokens", "max_response_tokens", "response_length", "max_completion_length")
    if taught is None or cap is None:
        return unknown("The cap or the length of the SFT answers is not recorded.", *SFT_NEEDS)
    text = f"The cap is {cap:.0f} tokens; the answers of SFT have {taught:.1f} in the mean."
    return yes(text) if cap < 1.4 * taught else no(text)


@sign("would-end-under-a-longer-cap")
def would_end_under_a_longer_cap(facts: Facts) -> Answer:
    """Many of the first responses are cut, and by the rate at which responses end just before the cap, nine in ten of
    all would end under four times the cap. Where that rate is low the policy does not know how to end."""
    sample = facts.rollouts
    if sample is None or not sample.has("finished", "length"):
        return unknown("The rollouts do not say whether and when each response ended.", "rollouts: finished")
    rows = sample.early(share=0.0, least=128)
    done, length = sample.numbers["finished"][rows] > 0.5, sample.numbers["length"][rows]
    cut = float(1 - done.mean())
    if cut <= 0.15:
        return no(f"{cut:.0%} of the first responses are cut.")
    cap = float(length[~done].max())
    half = cap / 2
    exposed = float(np.clip(length - half, 0, None).sum())
    ended = float((done & (length > half)).sum())
    rate = ended / exposed if exposed > 0 else 0.0
    left = cut * (1 - min(rate, 1.0)) ** (3 * cap)
    text = (
        f"{cut:.0%} of the first responses are cut at {cap:.0f} tokens; at the rate of {rate:.1%} of the tokens that "
    )
    text += f"end one, {left:.0%} would be left at four times the cap."
    return yes(text) if left < 0.1 else no(text)


@sign("end-is-forced")
def end_is_forced(facts: Facts) -> Answer:
    """At the cap responses end with a token that the trainer gives 5 nats less than the sampler, or than it gives ends
    elsewhere: somebody else put it there."""
    sample = facts.rollouts
    if sample is None or not sample.has("logprobs", "finished"):
        return unknown("The rollouts do not have the log-probability of the last token.", "rollouts: logprobs")
    lengths = sample.per_token["logprobs"].lengths
    done = (sample.numbers["finished"] > 0.5) & (lengths > 0)
    if not done.any():
        return no("No response ended.")
    last = np.full(len(sample), np.nan)
    ends = sample.per_token["logprobs"].offsets[1:] - 1
    last[lengths > 0] = sample.per_token["logprobs"].values[ends[lengths > 0]]
    at_cap = done & (lengths == lengths.max())
    before = done & ~at_cap
    if at_cap.sum() < 8 or at_cap.mean() < 0.02:
        return no(f"{int(at_cap.sum())} responses end at the very cap.")
    usual = float(np.median(last[before])) if before.any() else -1.0
    value = float(np.median(last[at_cap]))
    text = f"The end has a log-probability of {value:.1f} at the cap and of {usual:.1f} elsewhere."
    return yes(text) if value < usual - 5 else no(text)


# Does the grader answer?


def default_share(sample: RolloutSample) -> tuple[float, float, int] | None:
    """(largest share of one step's different texts that have one and the same score, that score, the step) over steps,
    where scores are otherwise nearly all different; None where scores are coarse by nature.

    The share is the third largest over the steps, so that it is not one step's chance.
    """
    score, response = sample.numbers["score"], sample.texts["response"]
    finite = np.isfinite(score)
    codes = {text: number for number, text in enumerate(dict.fromkeys(response))}
    texts = sample.prompt_codes * len(codes) + np.array([codes[text] for text in response], dtype=np.int64)
    shares: list[tuple[float, float, int]] = []
    rest_different = rest = 0
    for step in sample.distinct_steps:
        rows = np.flatnonzero((sample.steps == step) & finite)
        _, once = np.unique(np.stack([texts[rows].astype(float), score[rows]]), axis=1, return_index=True)
        own = score[rows][once]
        values, counts = np.unique(own, return_counts=True)
        if len(own) < 8:
            continue
        top = int(np.argmax(counts))
        shares.append((float(counts[top] / len(own)) if counts[top] > 1 else 0.0, float(values[top]), int(step)))
        rest_different += len(values) - 1
        rest += len(own) - int(counts[top])
    if len(shares) < 5 or rest < 20 or rest_different < 0.8 * rest:
        return None
    return sorted(shares, reverse=True)[2]


@sign("one-score-for-many-texts")
def one_score_for_many_texts(facts: Facts) -> Answer:
    """In at least three steps a tenth or more of the different texts have exactly the same score, while other scores
    are all different: a grader that gives a default."""
    sample = facts.rollouts
    if sample is None or not sample.has("score", "response"):
        return unknown("The rollouts have no texts with scores.", "rollouts: response", "rollouts: score")
    found = default_share(sample)
    if found is None:
        return unknown("Scores take few values, so an equal one says nothing.", "rollouts: gold")
    share, value, step = found
    text = f"At step {step} {share:.0%} of the different texts have a score of exactly {value:.4g}."
    return yes(text) if share >= 0.1 else no(text)


@sign("default-score-hides-quality")
def default_score_hides_quality(facts: Facts) -> Answer:
    """Within the rows that have the step's commonest score, quality varies as much as elsewhere."""
    sample = facts.rollouts
    if sample is None or not sample.has("score", "gold", "response"):
        return unknown("The rollouts have no independent judgement beside the score.", "rollouts: gold")
    found = default_share(sample)
    if found is None or found[0] < 0.05:
        return no("No score is given to many texts.")
    same = sample.numbers["score"] == found[1]
    gold = sample.numbers["gold"]
    inside, outside = float(np.nanstd(gold[same])), float(np.nanstd(gold[~same]))
    text = f"Texts with the score {found[1]:.4g} differ in quality by {inside:.2g}, others by {outside:.2g}."
    return yes(text) if inside > 0.5 * outside and outside > 0 else no(text)
