"""Stage 1: the initial policy. Pre-training from nothing and supervised fine-tuning are one loop over examples.

L(θ) = −(1/N) Σ log π_θ(y_t | x, y_<t),   N = response tokens of the whole batch over all processes
"""

import time
from typing import Any

import torch

from regard.config import PretrainConfig, SFTConfig
from regard.models.checkpoints import trained_parameters
from regard.models.loading import (
    add_lora,
    build_scratch,
    load_causal,
    merged,
    resolve_source,
    save_causal,
    train_tokenizer,
)
from regard.models.sequences import make_batch, response_hidden, response_logprobs
from regard.ops import sft_loss
from regard.train.corpus import Corpus, Example
from regard.train.progress import StageProgress
from regard.train.seeds import batch_rows, derive
from regard.train.stage import Context, GradientStep, Meter, Saver, give_back_memory, linear_schedule, micro_batches

TOKENIZER_REVIEWS = 4000
RENDERED = 16
"""Examples whose token ids are put down as an event, to be compared with what stage 4 makes of its prompts, and to see
whether answers are taught to end."""


def run_pretrain(context: Context, corpus: Corpus) -> None:
    """From random weights to a model of review text, with its own tokenizer."""
    config = context.config.pretrain
    texts = [review.text for review in corpus.reviews.sft[:TOKENIZER_REVIEWS]]
    tokenizer = train_tokenizer(texts, context.config.model.scratch.vocab_size)
    model = build_scratch(context.config.model.scratch, tokenizer, derive(context.config.seed, "init"))
    model = model.to(getattr(torch, context.config.model.dtype))
    examples = corpus.windows(tokenizer, config.sequence_tokens, config.steps * config.batch_size)
    train_on_examples(context, "pretrain", config, model, tokenizer.pad_token_id, examples, held_out=[])
    if context.world.rank == 0:
        save_causal(model, tokenizer, context.final("pretrain"))
    context.world.barrier()


def run_sft(context: Context, corpus: Corpus) -> None:
    """From the initial model to the policy that stage 4 starts from and is leashed to."""
    config = context.config.sft
    settings = context.config.model
    source = str(context.final("pretrain")) if settings.source == "scratch" else resolve_source(settings.source)
    dtype = getattr(torch, settings.dtype)
    model, tokenizer = load_causal(source, dtype)
    if settings.lora_rank:
        model = add_lora(model, settings.lora_rank, derive(context.config.seed, "sft", "lora"))
    examples = corpus.examples(tokenizer)
    held_out = examples[: max(8, min(128, len(examples) // 20))]
    train_on_examples(context, "sft", config, model, tokenizer.pad_token_id, examples[len(held_out) :], held_out)
    if context.world.rank == 0:
        give_back_memory()
        save_causal(merged(model, settings, source), tokenizer, context.final("sft"))
    context.world.barrier()


def train_on_examples(
    context: Context,
    stage: str,
    config: PretrainConfig | SFTConfig,
    model: Any,
    pad_id: int,
    examples: list[Example],
    held_out: list[Example],
) -> None:
    """The loop of both stages; it changes `model` in place. `held_out` is measured before and after each quarter."""
    log, world, seed = context.run.stage(stage), context.world, context.config.seed
    parameters = trained_parameters({"model": model})
    update = GradientStep(
        [{"params": list(parameters.values()), "lr": config.learning_rate}], config.max_grad_norm, world
    )
    saver = Saver(log, parameters, update, world, config.checkpoint_every, config.keep_every, config.steps)
    done = saver.resume()
    if done == 0 and held_out:
        log.log(0, {"loss/sft_eval/mean": _held_out_loss(model, held_out, pad_id, config.micro_batch_size)})
        log.event(
            "rendered",
            prompts=[list(example.prompt) for example in held_out[:RENDERED]],
            responses=[list(example.response) for example in held_out[:RENDERED]],
        )
    quarters = {max(1, config.steps * k // 4) for k in range(1, 5)}
    meter = Meter()
    with StageProgress(stage, config.steps, done, quiet=context.quiet) as progress:
        for step in range(done, config.steps):
            started = time.monotonic()
            rows = batch_rows(step, config.batch_size, len(examples), seed, stage)
            chosen = [examples[row] for row in rows]
            num_loss_tokens = sum(len(example.response) for example in chosen)
            loss_sum = torch.zeros(1, dtype=torch.float64)
            own = sorted(world.own(chosen), key=lambda e: len(e.prompt) + len(e.response))  # less padding per pass
            update.begin()
            for micro in micro_batches(own, config.micro_batch_size):
                batch = make_batch([e.prompt for e in micro], [e.response for e in micro], pad_id)
                logprobs = response_logprobs(model, response_hidden(model, batch), batch).logprobs
                loss = sft_loss(logprobs, batch.response_mask, num_loss_tokens=num_loss_tokens)
                loss.backward()
                loss_sum += loss.detach().double()
            world.sum(loss_sum)
            schedule = linear_schedule(step, config.steps, config.warmup_steps)
            stats = update.step(schedule)
            metrics = {
                "loss/sft/mean": float(loss_sum),
                "optim/grad_norm/last": stats.grad_norm,
                "optim/grad_clipped/frac": float(stats.clipped),
                "optim/nonfinite_grads/count": float(not stats.finite),
                "optim/learning_rate/last": config.learning_rate * schedule,
                "data/tokens/count": float(num_loss_tokens),
                "throughput/tokens_per_s": num_loss_tokens / (time.monotonic() - started),
                "memory/peak_rss/gb": meter.peak_gb(),
            }
            if held_out and step + 1 in quarters:
                metrics["loss/sft_eval/mean"] = _held_out_loss(model, held_out, pad_id, config.micro_batch_size)
            log.log(step + 1, metrics)
            saver.save(step + 1)
            progress.update(step + 1, metrics)


@torch.no_grad()
def _held_out_loss(model: Any, examples: list[Example], pad_id: int, micro_batch_size: int) -> float:
    total = 0.0
    tokens = sum(len(example.response) for example in examples)
    for micro in micro_batches(examples, micro_batch_size):
        batch = make_batch([e.prompt for e in micro], [e.response for e in micro], pad_id)
        logprobs = response_logprobs(model, response_hidden(model, batch), batch).logprobs
        total += float(sft_loss(logprobs, batch.response_mask, num_loss_tokens=tokens))
    return total
