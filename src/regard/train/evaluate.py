"""Before and after: SFT model and policy answer the same held-out prompts with the same random numbers.

Gold is a judge that the reward model never saw; the interval is a paired bootstrap over prompts.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regard.models.policy import FrozenReference
from regard.models.sequences import make_batch, response_hidden, response_logprobs
from regard.rollout.generator import PolicyGenerator
from regard.rollout.protocols import Prompt, Scorer
from regard.text import distinct_n
from regard.train.counterfactual import counterfactuals
from regard.train.ppo import Parts
from regard.train.seeds import uniforms
from regard.train.stage import Context, micro_batches

SAMPLES_SHOWN = 64


def paired_bootstrap(before: Sequence[float], after: Sequence[float], resamples: int, seed: int) -> dict[str, Any]:
    """Mean difference after − before over pairs, with its 95 % bootstrap interval (Efron & Tibshirani 1993)."""
    difference = np.asarray(after) - np.asarray(before)
    draws = np.random.default_rng(seed).integers(0, len(difference), (resamples, len(difference)))
    low, high = np.quantile(difference[draws].mean(1), [0.025, 0.975])
    return {
        "sft": float(np.mean(before)),
        "policy": float(np.mean(after)),
        "difference": float(difference.mean()),
        "ci95": [float(low), float(high)],
        "n": len(difference),
    }


def run_eval(context: Context, parts: Parts, reference: FrozenReference, prompts: list[Prompt]) -> dict[str, Any]:
    """Return the part of summary.json that speaks of quality; write stages/eval/samples.json, judged.json with every
    measure of every answer, and counterfactual.json with what the phrases that spread are worth by themselves."""
    config, seed = context.config, context.config.seed
    noise = uniforms(len(prompts), config.ppo.max_response_tokens, 0, "eval")
    before = _answers(reference.active, parts, reference, prompts, noise, context)
    after = _answers(lambda: nullcontext(parts.policy.model), parts, reference, prompts, noise, context)
    log = context.run.stage("eval")
    for step, answers in enumerate((before, after)):
        log.log(
            step,
            {
                "eval/gold/mean": float(np.mean(answers["gold"])),
                "eval/score/mean": float(np.mean(answers["score"])),
                "eval/perplexity_ref/mean": answers["perplexity"],
                "eval/kl_k1/seq_sum": float(np.mean(answers["kl"])),
                "eval/distinct_2/frac": distinct_n(answers["texts"], 2),
            },
        )
    samples = [
        {
            "prompt": prompt.text,
            "sft": before["texts"][i],
            "policy": after["texts"][i],
            **{
                f"{measure}_{who}": answers[measure][i]
                for measure in ("score", *parts.judges)
                for who, answers in (("sft", before), ("policy", after))
            },
        }
        for i, prompt in enumerate(prompts[:SAMPLES_SHOWN])
    ]
    context.run.write_json("stages/eval/samples.json", samples)
    whole = {name: {"sft": before[name], "policy": after[name]} for name in ("score", *parts.judges)}
    context.run.write_json("stages/eval/judged.json", whole)
    scorers: dict[str, Scorer] = {"score": parts.scorer, **parts.judges}
    worth = counterfactuals(
        [prompt.text for prompt in prompts],
        before["texts"],
        after["texts"],
        scorers,
        {name: float(np.std(before[name])) for name in scorers},
    )
    context.run.write_json("stages/eval/counterfactual.json", worth)
    judged = {
        name: paired_bootstrap(before[name], after[name], config.eval.bootstrap, seed)
        for name in ("gold", "score", *(j for j in parts.judges if j != "gold"))
    }
    kl, lengths = float(np.mean(after["kl"])), float(np.mean(after["length"]))
    return {
        **judged,
        "kl": {"per_sequence": kl, "per_token": float(np.sum(after["kl"]) / np.sum(after["length"])), "unit": "nats"},
        "perplexity": {
            "sft": before["perplexity"],
            "policy": after["perplexity"],
            "ratio": after["perplexity"] / before["perplexity"],
        },
        "length": {"sft": float(np.mean(before["length"])), "policy": lengths},
        "distinct_2": {"sft": distinct_n(before["texts"], 2), "policy": distinct_n(after["texts"], 2)},
        "truncated": {"sft": float(np.mean(before["truncated"])), "policy": float(np.mean(after["truncated"]))},
    }


@torch.no_grad()
def _answers(
    active: Callable[[], AbstractContextManager[Any]],
    parts: Parts,
    reference: FrozenReference,
    prompts: list[Prompt],
    noise: Tensor,
    context: Context,
) -> dict[str, Any]:
    """Sample from the model `active` opens, and judge; perplexity is exp of the mean NLL under the reference."""
    tokenizer, ppo = parts.policy.tokenizer, context.config.ppo
    world = context.world
    rows: list[tuple[str, int, bool, float, float]] = []
    own = list(range(len(prompts)))[world.rank :: world.size]
    for micro in micro_batches(own, ppo.batch_size):
        asked = [prompts[i].tokens for i in micro]
        with active() as model:
            generator = PolicyGenerator(
                model, pad_id=tokenizer.pad_token_id, eos_id=tokenizer.eos_token_id, temperature=ppo.temperature
            )
            generated = generator.generate(asked, noise[micro])
            batch = make_batch(asked, generated.responses, tokenizer.pad_token_id)
            hidden = response_hidden(model, batch)
            own_logprobs = response_logprobs(model, hidden, batch, temperature=ppo.temperature).logprobs.double().sum(1)
        ref_logprobs = reference.logprobs(batch).double().sum(1)
        for k, response in enumerate(generated.responses):
            text = tokenizer.decode(response, skip_special_tokens=True)
            rows.append(
                (text, len(response), not generated.finished[k], float(own_logprobs[k]), float(ref_logprobs[k]))
            )
    rows = world.gather(rows)
    texts = [row[0] for row in rows]
    prompt_texts = [p.text for p in prompts]
    judges: dict[str, Scorer] = {"score": parts.scorer, **parts.judges}
    return {
        "texts": texts,
        "length": [row[1] for row in rows],
        "truncated": [row[2] for row in rows],
        "kl": [row[3] - row[4] for row in rows],
        "perplexity": math.exp(-sum(row[4] for row in rows) / sum(row[1] for row in rows)),
        **{name: judge.score(prompt_texts, texts) for name, judge in judges.items()},
    }


def verdict(summary: dict[str, Any]) -> str:
    """One line for a person; never called better while the independent judge does not say so."""
    gold, score, perplexity = summary["gold"], summary["score"], summary["perplexity"]
    interval = f"95 % {gold['ci95'][0]:+.3f} … {gold['ci95'][1]:+.3f}"
    change = f"gold {gold['sft']:.3f} → {gold['policy']:.3f} ({gold['difference']:+.3f}, {interval})"
    if gold["ci95"][0] > 0 and perplexity["ratio"] <= 1.5:
        return f"Better: {change}"
    if gold["ci95"][0] > 0:
        return f"Better by the judge but less fluent: {change}, perplexity × {perplexity['ratio']:.2f}"
    if gold["ci95"][1] < 0:
        return f"Worse: {change} while the optimised score went {score['difference']:+.3f}"
    return f"No clear change: {change}"
