"""The reward model beside TRL's RewardTrainer (1.16.0): seconds and memory of the same pairs.

Both train adapters of every block of the same model to rank the same pairs of rated texts in the same order, and take
turns (`turns.py`). The pairs of a group share their texts, each of which we score once and TRL once a pair: `--texts 2`
has every text in one pair only, the worst case for us, 4 is what UltraFeedback has, and in the recipe a group has 30.

    .venv/bin/python benchmarks/reward_vs_trl.py --work WORK [--steps 8] [--texts 4]

The environment of TRL is made where it is missing. Prints seconds of each step of 30 pairs, pairs a second, peak
memory, tokens and loss of a step, and the ratio turn by turn. The first loss is that of a model that does not know
(log 2) for both, and the losses agree as long as the adapters, which begin differently, have not learned much.
"""

import argparse
import itertools
import json
import math
import os
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from results import environment, publish, ratios
from turns import Turns, compare, table, take_turns

PAIRS = 30
"""Of a step: 30 groups of 2 texts, 10 of 3, 5 of 4, 3 of 5 or 2 of 6."""


def configuration(model: str, steps: int, texts: int) -> Any:
    from regard.config import load_recipe

    settings = {
        "model.source": model,
        "rm.batch_size": PAIRS // math.comb(texts, 2),
        "rm.micro_batch_size": 2 * PAIRS,
        "rm.steps": steps + 1,  # the last scores the test pairs too, so it is not measured
        "rm.warmup_steps": 1,
        "data.max_rm_groups": 0,
    }
    return load_recipe("movie-sentiment", [f"{key}={value}" for key, value in settings.items()])


def run_regard(work: Path, turns: Turns) -> None:
    import torch

    from regard.data.comparisons import Comparison
    from regard.models.heads import RewardModel
    from regard.models.loading import add_lora, load_causal
    from regard.runlog.writer import RunWriter
    from regard.train.corpus import RewardData
    from regard.train.distributed import start_world
    from regard.train.reward_model import train_reward_model
    from regard.train.seeds import derive
    from regard.train.stage import Context, prepare_process

    prepare_process()
    task = json.loads((work / "task.json").read_text())
    config = configuration(task["model"], task["steps"], task["texts"])
    pairs = [
        Comparison("", chosen, rejected, 1.0, 1, 0, (), None, str(index), "ratings")
        for index, group in enumerate(task["groups"])
        for chosen, rejected in group
    ]
    body, tokenizer = load_causal(task["model"], getattr(torch, config.model.dtype))
    body = add_lora(body, config.model.lora_rank, derive(config.seed, "rm", "lora"))
    reward_model = RewardModel(body, tokenizer, config.rm.max_text_tokens)
    distinct = [text for group in task["groups"] for text in {text for pair in group for text in pair}]
    tokens = sum(map(len, reward_model.encode(distinct))) / len(pairs)
    out = work / "regard"
    run = RunWriter(out, config=config.model_dump(mode="json"), seed=config.seed, argv=sys.argv, resume=False, rank=0)

    def watch(stage: str, step: int, metrics: Mapping[str, float]) -> None:
        if step <= task["steps"]:
            turns.next(loss=metrics["loss/rm/mean"], tokens=tokens * PAIRS)

    run.watch = watch
    turns.next()
    train_reward_model(
        Context(config, run, start_world(), True), reward_model, RewardData(pairs, [], pairs[:PAIRS], [], {})
    )
    run.close()


def run_trl(work: Path, turns: Turns) -> None:
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
    from trl import RewardConfig, RewardTrainer

    task = json.loads((work / "task.json").read_text())
    rm, rank, dtype = task["rm"], task["lora_rank"], getattr(torch, task["dtype"])
    tokenizer = AutoTokenizer.from_pretrained(task["path"])
    tokenizer.pad_token = tokenizer.unk_token or tokenizer.bos_token
    model = AutoModelForSequenceClassification.from_pretrained(task["path"], dtype=dtype, num_labels=1)
    torch.nn.init.zeros_(model.score.weight)
    facts: dict[str, float] = {"loss": 0.0, "tokens": 0.0}
    seen = 0.0

    class Clock(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            turns.next()

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
            nonlocal seen
            if logs and "num_tokens" in logs:
                facts.update(loss=float(logs["loss"]), tokens=float(logs["num_tokens"]) - seen)
                seen = float(logs["num_tokens"])
                turns.next(**facts)

    arguments = RewardConfig(
        output_dir=str(work / "trl" / "out"),
        per_device_train_batch_size=PAIRS,
        max_steps=task["steps"],
        max_length=rm["max_text_tokens"],
        center_rewards_coefficient=rm["center_penalty"],
        learning_rate=rm["learning_rate"],
        warmup_steps=rm["warmup_steps"],
        max_grad_norm=rm["max_grad_norm"],
        train_sampling_strategy="sequential",
        bf16=dtype == torch.bfloat16,
        gradient_checkpointing=False,
        report_to=[],
        use_cpu=True,
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
    )
    lora = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="SEQ_CLS", modules_to_save=["score"]
    )
    trainer = RewardTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict(
            {"chosen": [pair[0] for pair in task["ordered"]], "rejected": [pair[1] for pair in task["ordered"]]}
        ),
        processing_class=tokenizer,
        peft_config=lora,
        callbacks=[Clock()],
    )
    trainer.train()


def prepare(work: Path, model: str, steps: int, texts: int) -> None:
    """Groups of rated texts with all their pairs, every text in one group, and the order in which both sides take
    them."""
    from regard.data.assets import fetch
    from regard.data.ratings import load_movie_ratings
    from regard.models.loading import resolve_source
    from regard.train.seeds import batch_rows

    config = configuration(model, steps, texts)
    rng = random.Random(config.seed)
    groups: list[list[tuple[str, str]]] = []
    for block in load_movie_ratings(fetch("movie-ratings")):
        rated = list(zip(block.texts, block.ratings.mean(1).tolist(), strict=True))
        rng.shuffle(rated)
        for start in range(0, len(rated) - texts + 1, texts):
            best_first = sorted(rated[start : start + texts], key=lambda one: -one[1])
            if len({rating for _, rating in best_first}) == texts:
                groups.append(list(itertools.combinations([text for text, _ in best_first], 2)))
    size = config.rm.batch_size
    rows = [row for step in range(steps + 1) for row in batch_rows(step, size, len(groups), config.seed, "rm")]
    task = {
        "model": model,
        "path": resolve_source(model),
        "steps": steps,
        "rm": config.rm.model_dump(mode="json"),
        "lora_rank": config.model.lora_rank,
        "dtype": config.model.dtype,
        "texts": texts,
        "groups": groups,
        "ordered": [pair for row in rows for pair in groups[row]],
    }
    work.mkdir(parents=True)
    (work / "task.json").write_text(json.dumps(task))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trl", help="python of an environment with TRL 1.16.0, made if not given")
    parser.add_argument("--work", type=Path, required=True, help="a new directory")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--texts", type=int, choices=(2, 3, 4, 5, 6), default=4, help="of a group")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    args = parser.parse_args()
    work = args.work.resolve()
    if args.arm:
        (run_trl if args.arm == "trl" else run_regard)(work, Turns())
        return
    trl = environment("trl-1.16.0", args.trl)
    prepare(work, args.model, args.steps, args.texts)
    measured = take_turns(__file__, work, {"regard": sys.executable, "trl": trl}, args.steps)
    found = table(measured, PAIRS, "pairs")
    losses = {arm: [round(row["loss"], 3) for row in rows] for arm, rows in measured.items()}
    result = {
        "pairs": PAIRS,
        "texts of a group": args.texts,
        "steps": args.steps,
        "arms": found,
        "losses": losses,
    } | compare(found, "regard", "trl")
    publish(result, ratios(result), {arm: one["seconds"] for arm, one in found.items()}, work / "turns.svg")


if __name__ == "__main__":
    main()
