"""Stage 4 beside TRL's last PPOTrainer (1.12.0): seconds and memory of the same episodes, and gold at the end.

Every arm begins from the SFT model and the reward model of a finished run of `movie-sentiment`, draws responses to the
same prompts, and takes the same optimiser steps. The arms live side by side and take turns: one iteration each, while
the others wait (`turns.py`). The four together need more than 24 GB; `--arms regard,trl-lora` leaves two out.

    .venv/bin/python benchmarks/ppo_vs_trl.py RUN --work WORK [--steps 5] [--gold]

| arm | policy | value |
|---|---|---|
| regard | as in the recipe of RUN: adapters, one backbone | a head on that backbone |
| trl-lora | the same adapters, on all blocks | a model of its own, every weight trained, as TRL does it |
| regard-full | every weight trained, reference apart | a model of its own, every weight trained |
| trl-full | the same | the same |

Fewer and longer answers, four epochs: `--set ppo.batch_size=16 --set ppo.micro_batch_size=8 --set ppo.epochs=4 --set
ppo.num_minibatches=1 --set ppo.max_response_tokens=64 --set data.prompt_tokens=[41,41]`.

The environment of TRL is made where it is missing. Prints seconds per iteration of each arm, episodes per second and
peak memory, and how `regard` compares with `trl-lora` and `regard-full` with `trl-full`, turn by turn. With `--gold`
the arms run all iterations of RUN's recipe, and each policy answers the held-out prompts with the same noise; the gold
judge compares.
"""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from results import environment, publish, ratios
from turns import Turns, compare, table, take_turns

ARMS = ("regard", "trl-lora", "regard-full", "trl-full")
FULL_LEARNING_RATE = 1e-5
"""Where every weight is trained; that of adapters would destroy the model."""


def run_regard(work: Path, arm: str, turns: Turns, changes: Mapping[str, Any]) -> None:
    """Stage 4 with `changes` of the task's configuration, as the child `arm`."""
    from regard.config import RecipeConfig, changed_config
    from regard.rollout.protocols import Prompt
    from regard.runlog.writer import RunWriter
    from regard.train import pipeline
    from regard.train.corpus import Corpus
    from regard.train.distributed import start_world
    from regard.train.ppo import run_ppo
    from regard.train.stage import Context, prepare_process

    prepare_process()
    task = json.loads((work / "task.json").read_text())
    config = changed_config(RecipeConfig.model_validate(task["config"]), changes)
    out = work / arm
    run = RunWriter(out, config=config.model_dump(mode="json"), seed=config.seed, argv=sys.argv, resume=False, rank=0)
    for stage in ("sft", "rm"):
        (out / "stages" / stage).mkdir(parents=True, exist_ok=True)
        (out / "stages" / stage / "final").symlink_to(work / stage)
    parts, reference, reward_model = pipeline.assemble(Context(config, run, start_world(), True), Corpus(config))
    source = parts.source
    facts: dict[str, float] = {}

    def watch(stage: str, step: int, metrics: Mapping[str, float]) -> None:
        facts.update(tokens=metrics.get("length/response_tokens/mean", 0.0))

    run.watch = watch

    class Waiting:
        def prompts(self, step: int) -> list[Prompt]:
            turns.next(**facts)
            return source.prompts(step)

    parts = dataclasses.replace(parts, source=Waiting(), judges={})
    frozen = {"reference": reference, "reward_model": pipeline.Hashed(reward_model)}
    run_ppo(Context(config, run, start_world(), True), parts, frozen)
    turns.next(**facts)
    run.close()


FULL: dict[str, Any] = {
    "model.lora_rank": 0,
    "ppo.lora_layers": 0,
    "ppo.value_model": "separate",
    "ppo.learning_rate": FULL_LEARNING_RATE,
    "ppo.checkpoint_every": 1000,  # 3 GB each, and TRL writes none here; the last iteration has the only one
}


def run_trl(work: Path, arm: str, turns: Turns) -> None:
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    import torch
    from datasets import Dataset
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
        TrainerCallback,
    )
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    task = json.loads((work / "task.json").read_text())
    config, ppo = task["config"], task["config"]["ppo"]
    tokenizer = AutoTokenizer.from_pretrained(work / "sft", padding_side="left")
    adapters = arm == "trl-lora"

    def classifier() -> Any:
        return AutoModelForSequenceClassification.from_pretrained(work / "rm-trl", dtype=torch.float32, num_labels=1)

    def causal() -> Any:
        return AutoModelForCausalLM.from_pretrained(work / "sft", dtype=torch.float32)

    peft_config = None
    if adapters:
        from peft import LoraConfig

        rank = config["model"]["lora_rank"]
        peft_config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")

    class Clock(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            turns.next()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            turns.next(tokens=0.0)  # TRL's PPO does not say how long its responses were

    micro = min(ppo["micro_batch_size"], ppo["batch_size"] // ppo["num_minibatches"])
    arguments = PPOConfig(
        output_dir=str(work / arm / "out"),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=ppo["batch_size"] // ppo["num_minibatches"] // micro,
        num_mini_batches=ppo["num_minibatches"],
        num_ppo_epochs=ppo["epochs"],
        total_episodes=len(task["prompts"]),
        response_length=ppo["max_response_tokens"],
        stop_token="eos",
        missing_eos_penalty=ppo["missing_eos_penalty"],
        temperature=ppo["temperature"],
        kl_coef=ppo["kl_coef"],
        cliprange=ppo["clip_range"],
        cliprange_value=ppo["value_clip_range"],
        vf_coef=ppo["value_coef"],
        gamma=ppo["gamma"],
        lam=ppo["gae_lambda"],
        learning_rate=ppo["learning_rate"] if adapters else FULL_LEARNING_RATE,
        warmup_steps=ppo["warmup_steps"],
        max_grad_norm=ppo["max_grad_norm"],
        local_rollout_forward_batch_size=ppo["batch_size"],
        bf16=config["model"]["dtype"] == "bfloat16",
        gradient_checkpointing=False,
        report_to=[],
        num_sample_generations=0,
        use_cpu=True,
        save_strategy="no",
        logging_steps=1,
        seed=config["seed"],
        disable_tqdm=True,
    )
    dataset = Dataset.from_dict({"input_ids": task["prompts"]})
    trainer = PPOTrainer(
        arguments,
        processing_class=tokenizer,
        model=causal(),
        ref_model=None if adapters else causal(),
        reward_model=classifier(),
        value_model=classifier(),
        train_dataset=dataset,
        eval_dataset=dataset.select(range(micro)),
        peft_config=peft_config,
        callbacks=[Clock()],
    )
    trainer.train()
    policy = trainer.policy_model
    (policy.merge_and_unload() if adapters else policy).save_pretrained(work / arm / "final")


def prepare(run: Path, work: Path, steps: int | None, overrides: list[str]) -> dict[str, Any]:
    """Write what every arm needs into `work`: models, prompts, settings."""
    import torch
    import yaml
    from transformers import LlamaConfig, LlamaForSequenceClassification

    from regard.config import RecipeConfig, put_value, split_override
    from regard.models.heads import RewardModel
    from regard.models.loading import load_causal
    from regard.models.sequences import transformer_body
    from regard.train.corpus import Corpus, ReviewPrompts

    plain = yaml.safe_load((run / "config.yaml").read_text())
    if steps is not None:
        plain["ppo"]["steps"] = steps
    plain["ppo"]["early_stop_kl"] = None  # TRL has none, and every arm takes all epochs
    for override in overrides:
        put_value(plain, *split_override(override))
    config = RecipeConfig.model_validate(plain)
    work.mkdir(parents=True)
    for stage in ("sft", "rm"):
        (work / stage).symlink_to((run / "stages" / stage / "final").resolve())
    tokenizer = load_causal(str(work / "sft"), torch.float32)[1]
    pool = Corpus(config).prompts(tokenizer, held_out=False)
    source = ReviewPrompts(pool, config.ppo.batch_size, config.ppo_seed, config.ppo.group_size)
    prompts = [prompt for step in range(config.ppo.steps) for prompt in source.prompts(step)]
    # TRL reads one linear layer without a bias; what the bias, centre and unit add to a score is folded in where it
    # can be, and a constant is left out.
    reward_model = RewardModel.load(work / "rm", torch.float32)
    body = transformer_body(reward_model.model)
    settings = LlamaConfig.from_pretrained(work / "rm", num_labels=1, pad_token_id=tokenizer.pad_token_id)
    classifier = LlamaForSequenceClassification(settings)
    classifier.model.load_state_dict(body.state_dict())
    with torch.no_grad():
        classifier.score.weight.copy_(reward_model.head.linear.weight / reward_model.deviation)
    classifier.save_pretrained(work / "rm-trl")
    task = {
        "config": config.model_dump(mode="json"),
        "prompts": [list(prompt.tokens) for prompt in prompts],
        "texts": [prompt.text for prompt in prompts],
    }
    (work / "task.json").write_text(json.dumps(task))
    return task


def gold_of(work: Path, arms: list[str]) -> dict[str, dict[str, Any]]:
    """Each policy and the SFT model on the held-out prompts, with the same noise."""
    import numpy as np
    import torch
    from peft import PeftModel

    from regard.config import RecipeConfig
    from regard.models.loading import load_causal
    from regard.rollout.generator import PolicyGenerator
    from regard.rollout.judges import star_judge
    from regard.train.corpus import Corpus
    from regard.train.seeds import uniforms

    config = RecipeConfig.model_validate(json.loads((work / "task.json").read_text())["config"])
    corpus = Corpus(config)
    judge = star_judge(tuple(corpus.reviews.judge[: config.eval.judge_reviews]))
    results: dict[str, list[float]] = {}
    for arm in ["sft", *arms]:
        model, tokenizer = load_causal(str(work / "sft"), torch.float32)
        if arm == "regard":
            model = PeftModel.from_pretrained(model, str(work / arm / "stages" / "ppo" / "final")).merge_and_unload()
        elif arm != "sft":
            place = work / arm / ("stages/ppo/final" if arm.startswith("regard") else "final")
            model = type(model).from_pretrained(place, dtype=torch.float32).eval()
        prompts = corpus.prompts(tokenizer, held_out=True)[: config.eval.num_prompts]
        noise = uniforms(len(prompts), config.ppo.max_response_tokens, config.seed, "ppo_vs_trl")
        generator = PolicyGenerator(model, pad_id=tokenizer.pad_token_id, eos_id=tokenizer.eos_token_id)
        responses = generator.generate([p.tokens for p in prompts], noise).responses
        texts = [tokenizer.decode(response, skip_special_tokens=True) for response in responses]
        results[arm] = judge.score([p.text for p in prompts], texts)
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(results["sft"]), (10_000, len(results["sft"])))
    gold: dict[str, dict[str, Any]] = {"sft": {"gold": float(np.mean(results["sft"]))}}
    for arm in arms:
        gain = np.array(results[arm]) - np.array(results["sft"])
        low, high = np.quantile(gain[drawn].mean(1), [0.025, 0.975])
        gold[arm] = {"gold": float(np.mean(results[arm])), "gain": float(gain.mean()), "ci95": [low, high]}
    return gold


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", nargs="?", type=Path, help="a finished run of movie-sentiment")
    parser.add_argument("--trl", help="python of an environment with TRL 1.12.0, made if not given")
    parser.add_argument("--work", type=Path, required=True, help="a new directory")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--set", action="append", metavar="KEY=VALUE", help="other settings than RUN's, for all arms")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--gold", action="store_true", help="all iterations of the recipe, then compare gold")
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    args = parser.parse_args()
    work = args.work.resolve()
    if args.arm:
        if args.arm.startswith("trl"):
            run_trl(work, args.arm, Turns())
        else:
            run_regard(work, args.arm, Turns(), FULL if args.arm == "regard-full" else {})
        return
    if args.run is None:
        parser.error("give a finished run")
    trl = environment("trl-1.12.0", args.trl)
    task = prepare(args.run, work, None if args.gold else args.steps, args.set or [])
    ppo, arms = task["config"]["ppo"], args.arms.split(",")
    pythons = {arm: trl if arm.startswith("trl") else sys.executable for arm in arms}
    measured = take_turns(__file__, work, pythons, ppo["steps"])
    found = table(measured, ppo["batch_size"], "episodes")
    result: dict[str, Any] = {"batch_size": ppo["batch_size"], "steps": ppo["steps"], "arms": found}
    result |= compare(found, "regard", "trl-lora") | compare(found, "regard-full", "trl-full")
    if args.gold:
        result["gold"] = gold_of(work, list(result["arms"]))
    (work / "result.json").write_text(json.dumps(result, indent=1))
    judged = {arm: one for arm, one in result.get("gold", {}).items() if "gain" in one}
    gold = "".join(f"; gold of {arm} gains {one['gain']:+.3f}" for arm, one in judged.items())
    publish(result, ratios(result) + gold, {arm: one["seconds"] for arm, one in found.items()}, work / "turns.svg")


if __name__ == "__main__":
    main()
