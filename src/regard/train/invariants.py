"""What must hold before the first update of stage 4, whatever the model and the data.

If one of these fails, every later curve measures the fault: a ratio that is not 1 at the start means that the sampled
and the trained distribution differ, a KL that is not 0 that the reference is another model.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from regard.models.sequences import make_batch
from regard.runlog.invariants import HASHES_EQUAL, LIMITS

if TYPE_CHECKING:
    from regard.train.ppo import Parts, Rollouts

TOLERANCE = {"float32": 1e-3, "bfloat16": 0.25}
"""Largest |difference| of a log-probability, in nats. In bfloat16 a logit near 16 is rounded to steps of 1/8."""

NUM_ROWS = 8


class InvariantReport(NamedTuple):
    metrics: dict[str, float]
    broken: list[str]
    """One sentence for each invariant that does not hold."""
    tolerance: float


@torch.no_grad()
def check_invariants(
    parts: "Parts",
    rollouts: "Rollouts",
    hashes: dict[str, str],
    frozen: dict[str, Any],
    dtype: str,
    reward_scale: float = 1.0,
) -> InvariantReport:
    """Ratio 1, KL 0, two equal forwards, padding and micro-batches without effect, frozen weights as hashed."""
    tolerance = TOLERANCE[dtype]
    rows = list(range(min(NUM_ROWS, len(rollouts.prompts))))
    pad = parts.policy.tokenizer.pad_token_id
    prompts = [rollouts.prompts[r].tokens for r in rows]
    responses = [rollouts.responses[r] for r in rows]
    batch = make_batch(prompts, responses, pad)
    width = batch.tokens.shape[1]
    mask = batch.response_mask

    first = parts.policy(batch).logprobs
    second = parts.policy(batch).logprobs
    wider = batch._replace(input_ids=torch.nn.functional.pad(batch.input_ids, (0, 7), value=pad))
    padded = parts.policy(wider).logprobs
    single = torch.zeros_like(first)
    for row in rows:
        alone = parts.policy(make_batch(prompts[row : row + 1], responses[row : row + 1], pad)).logprobs[0]
        single[row, : len(alone)] = alone
    generator = torch.zeros_like(first)
    for row in rows:
        generator[row, : len(responses[row])] = torch.tensor(rollouts.generator_logprobs[row])

    old = rollouts.old_logprobs[rows, :width]
    ratio_off = float(((first - old) * mask).abs().exp().sub(1).max())
    kl = ((rollouts.old_logprobs - rollouts.ref_logprobs) * rollouts.batch.response_mask).sum(1)
    generator_gap = float(((generator - old) * mask).abs().max())
    forwards = float((first - second).abs().max())
    padding = float((first - padded).abs().max())
    micro = float(((first - single) * mask).abs().max())
    score_gap = _score_gap(parts, rollouts, reward_scale)
    unchanged = all(part.sha256() == hashes[name] for name, part in frozen.items())

    metrics = {
        "invariant/ratio_max_deviation/value": ratio_off,
        "invariant/kl_ref/value": float(kl.mean()),
        "invariant/two_forwards_max_diff/value": forwards,
        "invariant/padding_max_diff/value": padding,
        "invariant/microbatch_max_diff/value": micro,
        "invariant/generator_trainer_max_diff/value": generator_gap,
        HASHES_EQUAL: float(unchanged),
    }
    sentences = {
        "invariant/ratio_max_deviation/value": f"ratio deviates from 1 by {ratio_off:.3g}",
        "invariant/kl_ref/value": f"KL to the reference is {float(kl.mean()):.3g} nats per sequence",
        "invariant/two_forwards_max_diff/value": f"two forward passes of the same batch differ by {forwards:.3g} nats",
        "invariant/padding_max_diff/value": f"padding changes a log-probability by {padding:.3g} nats",
        "invariant/microbatch_max_diff/value": f"batch composition changes a log-probability by {micro:.3g} nats",
        "invariant/generator_trainer_max_diff/value": f"sampler and trainer disagree on a log-probability by "
        f"{generator_gap:.3g} nats",
    }
    sizes = metrics | {"invariant/kl_ref/value": float(kl.abs().mean())}  # one sequence must not make up for another
    # Not `>`: what is not a number does not hold.
    broken = [sentences[key] for key, multiple in LIMITS.items() if not sizes[key] <= multiple * tolerance]
    if not unchanged:
        broken.append("a frozen model is not the one that was loaded")
    if score_gap is not None:
        metrics["invariant/score_alone_max_diff/value"] = score_gap
    return InvariantReport(metrics, broken, tolerance)


def _score_gap(parts: "Parts", rollouts: "Rollouts", reward_scale: float) -> float | None:
    """Largest difference between a response's score among the whole batch and alone, in deviations of the batch's
    scores. Recorded only: a scorer that is a remote judge may differ a little from call to call."""
    rows = [row for row, ended in enumerate(rollouts.finished) if ended][:NUM_ROWS]  # else a penalty is in the score
    deviation = float(torch.tensor(rollouts.scores, dtype=torch.float64).std(correction=0))
    if not rows or deviation == 0:
        return None
    alone = [parts.scorer.score([rollouts.prompts[row].text], [rollouts.texts[row]])[0] / reward_scale for row in rows]
    return max(abs(rollouts.scores[row] - score) for row, score in zip(rows, alone, strict=True)) / deviation
