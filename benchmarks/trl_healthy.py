"""Healthy runs of TRL's trainers, three seeds each, which a review must not call faulty.

A language of 40 words is learned from nothing by a model of some 100,000 parameters; people of this language prefer
praise. TRL needs environments of its own (PPO left it after 1.12.0):

    TRL=$(python benchmarks/results.py trl-1.16.0)
    TRL_PPO=$(python benchmarks/results.py trl-1.12.0)
    export PYTHONPATH=src OMP_NUM_THREADS=1
    $TRL benchmarks/trl_healthy.py reward --seed 1 --work WORK --out tests/runlog/trl_healthy
    $TRL_PPO benchmarks/trl_healthy.py ppo --seed 1 --work WORK --out tests/runlog/trl_healthy

`reward` comes first: it leaves in WORK the initial policy and the reward model of its seed, which the others load.
Writes OUT/<algorithm>-<seed>/trainer_state.json and training_args.json, and WORK/<algorithm>-<seed>/record: the same
run by RegardCallback.
"""

import argparse
import json
import os
import random
from pathlib import Path
from typing import Any

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from regard.integrations.trl import RegardCallback

THINGS = ["film", "plot", "cast", "song", "book", "meal", "room", "trip", "game", "view"]
GOOD = ["good", "great", "lovely", "bright", "clever", "warm"]
BAD = ["bad", "awful", "dull", "weak", "cold", "slow"]
PLAIN = ["long", "short", "old", "new", "plain", "large"]
GLUE = ["the", "a", "was", "is", "and", "but", "very", "quite", "too", ".", ","]
VOCABULARY = ["[PAD]", "[EOS]", "[UNK]", *GLUE, *THINGS, *GOOD, *BAD, *PLAIN]
MAX_RESPONSE = 16


def prompt(rng: random.Random) -> str:
    return f"{rng.choice(('the', 'a'))} {rng.choice(THINGS)} {rng.choice(('was', 'is'))}"


def response(rng: random.Random) -> str:
    """One to three adjectives, each with or without an adverb: 2 to 10 tokens."""
    words: list[str] = []
    for index in range(rng.choice((1, 1, 2, 2, 3))):
        if index:
            words.append(rng.choice(("and", "but", ",")))
        if rng.random() < 0.4:
            words.append(rng.choice(("very", "quite", "too")))
        words.append(rng.choice(rng.choice((GOOD, BAD, PLAIN))))
    return " ".join([*words, "."])


def praise(completions: list[str], **_: Any) -> list[float]:
    """Words of praise less words of blame, two of each at most."""
    texts = [text.split() for text in completions]
    return [float(min(2, sum(w in GOOD for w in t)) - min(2, sum(w in BAD for w in t))) for t in texts]


def pairs(rng: random.Random, count: int) -> list[dict[str, str]]:
    """Two responses to a prompt; one time in ten people prefer the one with less praise."""
    rows: list[dict[str, str]] = []
    while len(rows) < count:
        first, second = response(rng), response(rng)
        a, b = praise([first, second])
        if a != b:
            chosen, rejected = (first, second) if (a > b) != (rng.random() < 0.1) else (second, first)
            rows.append({"prompt": prompt(rng), "chosen": f" {chosen}", "rejected": f" {rejected}"})
    return rows


def make_tokenizer() -> PreTrainedTokenizerFast:
    inner = Tokenizer(WordLevel({word: index for index, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    inner.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", eos_token="[EOS]", unk_token="[UNK]", padding_side="left"
    )


def initial_policy(directory: Path, seed: int) -> None:
    """Train the language model on texts of the language and save it, as the initial policy and reference."""
    rng = random.Random(seed)
    tokenizer = make_tokenizer()
    config = LlamaConfig(
        vocab_size=len(VOCABULARY), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=64, pad_token_id=0, eos_token_id=1, bos_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(400):
        texts = [f"{prompt(rng)} {response(rng)} [EOS]" for _ in range(64)]
        batch = tokenizer(texts, padding=True, padding_side="right", return_tensors="pt", return_token_type_ids=False)
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        loss = model(**batch, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"initial policy: {loss.item():.3f} nats per token")
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def make_trainer(algorithm: str, seed: int, work: Path, steps: int) -> Any:
    rng = random.Random(1000 + seed)
    policy_dir, reward_dir = work / f"policy-{seed}", work / f"reward-model-{seed}"
    if not policy_dir.exists():
        initial_policy(policy_dir, seed)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(policy_dir)
    policy = AutoModelForCausalLM.from_pretrained(policy_dir, dtype=torch.float32)
    common = dict(
        output_dir=str(work / f"{algorithm}-{seed}"), logging_steps=1, seed=seed, use_cpu=True, bf16=False,
        report_to=[], save_strategy="no", disable_tqdm=True, gradient_checkpointing=False,
    )  # fmt: skip
    prompts = [{"prompt": prompt(rng)} for _ in range(4096)]
    ranked = pairs(rng, 64 * steps + 256)
    held_out, training = Dataset.from_list(ranked[:256]), Dataset.from_list(ranked[256:])
    evaluated = dict(eval_strategy="steps", eval_steps=10, per_device_eval_batch_size=128)
    offline = dict(train_dataset=training, eval_dataset=held_out, processing_class=tokenizer)
    sampled = dict(max_completion_length=MAX_RESPONSE, num_generations=8, temperature=1.0)
    grouped = dict(train_dataset=Dataset.from_list(prompts), processing_class=tokenizer)
    if algorithm == "reward":
        from trl import RewardConfig, RewardTrainer

        one = AutoModelForSequenceClassification.from_pretrained(policy_dir, num_labels=1, dtype=torch.float32)
        args = RewardConfig(**common, **evaluated, max_steps=steps, learning_rate=1e-3, per_device_train_batch_size=64)
        return RewardTrainer(one, args=args, **offline)
    if algorithm == "dpo":
        from trl import DPOConfig, DPOTrainer

        args = DPOConfig(**common, **evaluated, max_steps=steps, learning_rate=3e-4, per_device_train_batch_size=64)
        return DPOTrainer(policy, args=args, **offline)
    if algorithm == "grpo":
        from trl import GRPOConfig, GRPOTrainer

        args = GRPOConfig(**common, **sampled, max_steps=steps, learning_rate=5e-4, beta=0.04,
                          per_device_train_batch_size=64)  # fmt: skip
        return GRPOTrainer(policy, praise, args=args, **grouped)
    if algorithm == "rloo":
        from trl import RLOOConfig, RLOOTrainer

        args = RLOOConfig(**common, **sampled, max_steps=steps, learning_rate=5e-4, per_device_train_batch_size=64)
        return RLOOTrainer(policy, praise, args=args, **grouped)
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    one_number = dict(num_labels=1, dtype=torch.float32)
    args = PPOConfig(**common, total_episodes=64 * steps, per_device_train_batch_size=64, learning_rate=3e-4,
                     response_length=MAX_RESPONSE, stop_token="eos", missing_eos_penalty=1.0, temperature=1.0,
                     num_sample_generations=0, kl_coef=0.1)  # fmt: skip
    ids = [{"input_ids": tokenizer(row["prompt"])["input_ids"]} for row in prompts]
    return PPOTrainer(
        args,
        processing_class=tokenizer,
        model=policy,
        ref_model=AutoModelForCausalLM.from_pretrained(policy_dir, dtype=torch.float32),
        reward_model=AutoModelForSequenceClassification.from_pretrained(reward_dir, **one_number),
        value_model=AutoModelForSequenceClassification.from_pretrained(policy_dir, **one_number),
        train_dataset=Dataset.from_list(ids[64:]),
        eval_dataset=Dataset.from_list(ids[:64]),
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("algorithm", choices=["reward", "dpo", "grpo", "rloo", "ppo"])
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    trainer = make_trainer(options.algorithm, options.seed, options.work, options.steps)
    name = f"{options.algorithm}-{options.seed}"
    trainer.add_callback(RegardCallback(options.work / name / "record", trainer))
    trainer.train()
    if options.algorithm == "reward":
        trainer.save_model(str(options.work / f"reward-model-{options.seed}"))
    store(trainer, options.out / name)


def store(trainer: Any, directory: Path) -> None:
    """What the Trainer leaves beside a checkpoint, one row a line and six digits a number, without paths."""
    directory.mkdir(parents=True, exist_ok=True)
    rows = [json.dumps({key: short(value) for key, value in row.items()}) for row in trainer.state.log_history]
    body = '{"global_step": %d, "log_history": [\n%s\n]}\n' % (trainer.state.global_step, ",\n".join(rows))  # noqa: UP031
    (directory / "trainer_state.json").write_text(body, encoding="utf-8")
    settings = json.loads(trainer.args.to_json_string()) | {"output_dir": "out", "logging_dir": None}
    (directory / "training_args.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def short(value: object) -> object:
    return float(f"{value:.6g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
