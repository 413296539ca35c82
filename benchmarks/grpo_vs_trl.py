"""GRPO beside TRL's GRPOTrainer (1.16.0): seconds and memory of the same groups of responses.

Every arm begins from the SFT model and the reward model of a finished run of `movie-sentiment`, answers the same
prompts, eight responses each, and takes the same optimiser steps; the arms take turns (`turns.py`).

    .venv/bin/python benchmarks/grpo_vs_trl.py RUN --work WORK [--steps 6]

| arm | adapters |
|---|---|
| regard | as in the recipe of RUN: on the last blocks |
| regard-all | on every block, as TRL has them |
| trl | on every block, of a model in the recipe's dtype |

Scores are those of the same reward model, less the same penalty for a response without end. The environment of TRL is
made where it is missing. Prints seconds of each iteration, episodes a second, peak memory, tokens of a response, and
the ratios turn by turn.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from ppo_vs_trl import prepare, run_regard
from results import environment, publish, ratios
from turns import Turns, compare, table, take_turns

GROUP = 8
ARMS = ("regard", "regard-all", "trl")


def run_trl(work: Path, turns: Turns) -> None:
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
        TrainerCallback,
    )
    from trl import GRPOConfig, GRPOTrainer

    task = json.loads((work / "task.json").read_text())
    config, ppo = task["config"], task["config"]["ppo"]
    dtype = getattr(torch, config["model"]["dtype"])
    tokenizer = AutoTokenizer.from_pretrained(work / "sft", padding_side="left")
    judge = AutoModelForSequenceClassification.from_pretrained(work / "rm-trl", dtype=dtype, num_labels=1).eval()
    eos = tokenizer.eos_token_id

    def score(prompts: list[str], completions: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        texts = [prompt + text + tokenizer.eos_token for prompt, text in zip(prompts, completions, strict=True)]
        rows = tokenizer(texts, return_tensors="pt", padding=True, padding_side="right", add_special_tokens=False)
        with torch.inference_mode():
            scores = judge(**rows).logits[:, 0].float().tolist()
        return [
            s - ppo["missing_eos_penalty"] * (ids[-1] != eos) for s, ids in zip(scores, completion_ids, strict=True)
        ]

    micro = min(ppo["micro_batch_size"], ppo["batch_size"] // ppo["num_minibatches"])
    passes = ppo["batch_size"] // ppo["num_minibatches"] // micro
    updates = ppo["epochs"] * ppo["num_minibatches"]
    facts: dict[str, float] = {}

    class Clock(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            turns.next()

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
            if logs and "completions/mean_length" in logs:
                facts["tokens"] = float(logs["completions/mean_length"])

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step and state.global_step % updates == 0:
                turns.next(**facts)

        def on_train_end(self, *_: Any, **__: Any) -> None:
            turns.next(**facts)

    arguments = GRPOConfig(
        output_dir=str(work / "trl" / "out"),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=passes,
        steps_per_generation=ppo["batch_size"] // micro,
        num_generations=GROUP,
        num_iterations=ppo["epochs"],
        max_steps=ppo["steps"] * updates,
        max_completion_length=ppo["max_response_tokens"],
        temperature=ppo["temperature"],
        beta=ppo["kl_coef"],
        epsilon=ppo["clip_range"],
        learning_rate=ppo["learning_rate"],
        warmup_steps=ppo["warmup_steps"],
        max_grad_norm=ppo["max_grad_norm"],
        shuffle_dataset=False,
        bf16=dtype == torch.bfloat16,
        gradient_checkpointing=False,
        report_to=[],
        use_cpu=True,
        save_strategy="no",
        logging_steps=1,
        seed=config["seed"],
        disable_tqdm=True,
    )
    rank = config["model"]["lora_rank"]
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(work / "sft", dtype=dtype),
        reward_funcs=score,
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": list(dict.fromkeys(task["texts"]))}),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM"),
        callbacks=[Clock()],
    )
    trainer.train()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", nargs="?", type=Path, help="a finished run of movie-sentiment")
    parser.add_argument("--trl", help="python of an environment with TRL 1.16.0, made if not given")
    parser.add_argument("--work", type=Path, required=True, help="a new directory")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    args = parser.parse_args()
    work = args.work.resolve()
    if args.arm == "trl":
        run_trl(work, Turns())
    elif args.arm:
        run_regard(work, args.arm, Turns(), {"ppo.lora_layers": 0} if args.arm == "regard-all" else {})
    elif args.run is None:
        parser.error("give a finished run")
    else:
        trl = environment("trl-1.16.0", args.trl)
        groups = ["ppo.algorithm=grpo", f"ppo.group_size={GROUP}", "ppo.whiten_advantages=false"]
        ppo = prepare(args.run, work, args.steps, groups)["config"]["ppo"]
        pythons = {arm: trl if arm == "trl" else sys.executable for arm in ARMS}
        measured = take_turns(__file__, work, pythons, args.steps)
        found = table(measured, ppo["batch_size"], "episodes")
        result = {"batch_size": ppo["batch_size"], "steps": args.steps, "arms": found}
        result |= compare(found, "regard", "trl") | compare(found, "regard-all", "trl")
        publish(result, ratios(result), {arm: one["seconds"] for arm, one in found.items()}, work / "turns.svg")


if __name__ == "__main__":
    main()
