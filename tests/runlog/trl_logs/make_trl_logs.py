"""Real logs of TRL's trainers, on a model of 1.7 million parameters; they become the fixtures beside this file.

TRL needs an environment of its own (PPO left it after 1.12.0):

    python -m venv .trl && .trl/bin/pip install torch==2.13.0
    .trl/bin/pip install transformers==5.23.0 accelerate==1.15.0 datasets==5.2.0 tensorboard trl==1.16.0   # or 1.12.0
    regard run tiny --out runs/tiny
    .trl/bin/python tests/runlog/trl_logs/make_trl_logs.py grpo --run runs/tiny --pairs pairs.jsonl --seed 1 --out OUT

`pairs.jsonl` has {"chosen", "rejected"} a line. Writes OUT/trainer_state.json, OUT/training_args.json and OUT/runs
(TensorBoard). The trainers' own defaults hold but for size and speed.
"""

import argparse
import json
import os
from pathlib import Path

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

PRAISE = ("good", "great", "love", "best", "excellent", "wonderful", "fun", "funny", "beautiful", "perfect")


def praise(completions: list[str], **_: object) -> list[float]:
    return [min(3.0, float(sum(text.lower().count(word) for word in PRAISE))) for text in completions]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("algorithm", choices=["sft", "reward", "dpo", "grpo", "rloo", "ppo"])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    model_dir = args.run / "stages/sft/final"
    tokenizer = AutoTokenizer.from_pretrained(model_dir, padding_side="left")
    pairs = [json.loads(line) for line in args.pairs.read_text(encoding="utf-8").splitlines()]
    prompts = [" ".join(pair["chosen"].split()[:4]) for pair in pairs]
    common = dict(output_dir=str(args.out), max_steps=args.steps, logging_steps=1, seed=args.seed, use_cpu=True,
                  bf16=False, report_to=["tensorboard"], save_strategy="no", learning_rate=2e-4,
                  per_device_train_batch_size=16)  # fmt: skip
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(args.out / "runs")
    rows = {
        "sft": [{"text": pair["chosen"]} for pair in pairs],
        "reward": [{"chosen": pair["chosen"], "rejected": pair["rejected"]} for pair in pairs],
        "dpo": [{"prompt": "", "chosen": pair["chosen"], "rejected": pair["rejected"]} for pair in pairs],
        "grpo": [{"prompt": prompt} for prompt in prompts],
        "rloo": [{"prompt": prompt} for prompt in prompts],
        "ppo": [{"input_ids": tokenizer(prompt)["input_ids"]} for prompt in prompts],
    }[args.algorithm]
    rows = [row for row in rows if row.get("input_ids", [0])]
    held_out, rows = Dataset.from_list(rows[:64]), Dataset.from_list(rows[64:])
    policy = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    data = dict(train_dataset=rows, processing_class=tokenizer)
    evaluated = dict(eval_strategy="steps", eval_steps=20)
    sampled = dict(max_completion_length=24, num_generations=4, temperature=1.0)
    if args.algorithm == "sft":
        from trl import SFTConfig, SFTTrainer

        trainer = SFTTrainer(policy, args=SFTConfig(**common, **evaluated), eval_dataset=held_out, **data)
    elif args.algorithm == "reward":
        from trl import RewardConfig, RewardTrainer

        model = AutoModelForSequenceClassification.from_pretrained(model_dir, num_labels=1, dtype=torch.float32)
        trainer = RewardTrainer(model, args=RewardConfig(**common, **evaluated), eval_dataset=held_out, **data)
    elif args.algorithm == "dpo":
        from trl import DPOConfig, DPOTrainer

        trainer = DPOTrainer(policy, args=DPOConfig(**common, **evaluated), eval_dataset=held_out, **data)
    elif args.algorithm == "grpo":
        from trl import GRPOConfig, GRPOTrainer

        trainer = GRPOTrainer(policy, praise, args=GRPOConfig(beta=0.04, **common, **sampled), **data)
    elif args.algorithm == "rloo":
        from trl import RLOOConfig, RLOOTrainer

        trainer = RLOOTrainer(policy, praise, args=RLOOConfig(**common, **sampled), **data)
    else:
        from trl.experimental.ppo import PPOConfig, PPOTrainer

        one_number = dict(num_labels=1, dtype=torch.float32)
        reward_model = AutoModelForSequenceClassification.from_pretrained(model_dir, **one_number)
        value_model = AutoModelForSequenceClassification.from_pretrained(model_dir, **one_number)
        reference = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
        common.pop("max_steps")
        config = PPOConfig(**common, total_episodes=16 * args.steps, response_length=24, stop_token="eos",
                           num_sample_generations=0, missing_eos_penalty=1.0)  # fmt: skip
        trainer = PPOTrainer(config, model=policy, ref_model=reference, reward_model=reward_model,
                             value_model=value_model, eval_dataset=held_out, **data)  # fmt: skip
    trainer.train()
    args.out.mkdir(parents=True, exist_ok=True)
    trainer.state.save_to_json(str(args.out / "trainer_state.json"))
    settings = json.loads(trainer.args.to_json_string())
    (args.out / "training_args.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
