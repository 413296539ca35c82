"""Sampling with SmolLM2-135M: ours beside Hugging Face's generate, the same number of tokens from the same prompts.

    python benchmarks/rollout.py [--batch 32] [--prompt 41] [--response 64] [--rounds 5]

Both draw from the full distribution with a key-value cache, in bfloat16 where the processor multiplies it. No response
ends early, so that both sides make the same number of tokens. The two take turns, and the ratio is that of each round;
first, our log-probabilities are compared with those of a plain forward pass. Prints one JSON object: tokens/s, the
ratios, and the share of the machine's limit (2 · weights · tokens FLOP, see `roofline.py`).
"""

import argparse
import json
import statistics
import time
from typing import Any

import torch
from roofline import limit

from regard.data.assets import fetch
from regard.data.reviews import load_imdb
from regard.models.loading import load_causal
from regard.models.sequences import make_batch, response_hidden, response_logprobs
from regard.rollout.generator import PolicyGenerator
from regard.runlog.environment import multiplies_bfloat16
from regard.train.seeds import uniforms

NEVER = -1
"""An EOS that no model draws."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--prompt", type=int, default=41)
    parser.add_argument("--response", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.use_deterministic_algorithms(True)
    dtype = torch.bfloat16 if multiplies_bfloat16() else torch.float32
    model, tokenizer = load_causal(str(fetch("smollm2-135m")), dtype)
    model.generation_config.eos_token_id = None
    reviews = load_imdb(fetch("imdb-reviews"))[: args.batch]
    prompts = [tokenizer.encode(review.text, add_special_tokens=False)[: args.prompt] for review in reviews]
    noise = uniforms(args.batch, args.response, 1, "rollout")
    ours = PolicyGenerator(model, pad_id=tokenizer.pad_token_id, eos_id=NEVER)
    width = max(map(len, prompts))
    ids = torch.full((args.batch, width), tokenizer.pad_token_id)
    attention = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        attention[row, width - len(prompt) :] = 1

    def theirs() -> None:
        with torch.no_grad():
            made = model.generate(
                input_ids=ids, attention_mask=attention, do_sample=True, top_k=0, top_p=1.0, temperature=1.0,
                max_new_tokens=args.response, pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip
        assert made.shape[1] == width + args.response

    sampled = ours.generate(prompts, noise)
    assert all(len(response) == args.response for response in sampled.responses)
    batch = make_batch(prompts, sampled.responses, tokenizer.pad_token_id)
    with torch.no_grad():
        plain = response_logprobs(model, response_hidden(model, batch), batch).logprobs
    gap = plain - torch.tensor(sampled.logprobs)
    k3 = float((gap.exp() - 1 - gap).mean())
    theirs()

    seconds: dict[str, list[float]] = {"regard": [], "generate": []}
    for _ in range(args.rounds):
        for name, work in (("regard", lambda: ours.generate(prompts, noise)), ("generate", theirs)):
            begun = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - begun)
    tokens = args.batch * args.response
    weights = sum(p.numel() for p in model.parameters())
    flop = 2 * weights * (tokens + sum(map(len, prompts)))
    highest = limit(dtype)
    result: dict[str, Any] = {"dtype": str(dtype), "batch": args.batch, "response": args.response, "k3_to_forward": k3}
    for name, times in seconds.items():
        median = statistics.median(times)
        result[name] = {"tokens_per_s": tokens / median, "share_of_limit": flop / median / 1e9 / highest}
    pairs = zip(seconds["regard"], seconds["generate"], strict=True)
    result["ratios"] = sorted(round(slow / fast, 3) for fast, slow in pairs)
    result["ratio"] = statistics.median(result["ratios"])
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
