"""Stage 4: online PPO (or A2C, GRPO, RLOO) with a learned reward model and a KL leash to the frozen reference.

One iteration, top to bottom in `run_ppo`:

    sample      y ~ π_old(·|x) from the full distribution
    score       r(x, y) by the reward model, minus a penalty if y has no EOS
    reward      r_t = −β·(log π_old − log π_ref)_t, plus the score at the last token
    advantage   GAE over (r_t, V), whitened over all tokens of the global batch; under GRPO and RLOO, which have no
                value, by how much Σ_t r_t is above that of the other responses to the prompt
    update      epochs of minibatches on the clipped surrogate and the clipped value loss

Two anchors that must not be mixed: the ratio is against the policy that sampled, the KL against the reference.
Sources: Schulman et al. 2017 (PPO, eq. 7), Schulman et al. 2016 (GAE, eq. 16), Ziegler et al. 2019 (KL in the reward).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from regard.config import PPOConfig
from regard.errors import RunLogError
from regard.models.checkpoints import trained_parameters
from regard.models.loading import save_causal
from regard.models.policy import PolicyAndValue, PolicyOutput
from regard.models.sequences import SequenceBatch, make_batch, with_trunk
from regard.models.sizes import MANY_WEIGHTS
from regard.ops import (
    AdvantageOutput,
    PolicyLossOutput,
    ShapedReward,
    ValueLossOutput,
    a2c_loss,
    clipped_value_loss,
    gae,
    group_relative_advantages,
    leave_one_out_advantages,
    masked_whiten,
    ppo_clip_loss,
    shaped_reward,
)
from regard.rollout.protocols import Generator, KLController, Prompt, PromptSource, Reference, Scorer, SumScorer
from regard.train.invariants import check_invariants
from regard.train.ppo_metrics import UpdateSums, iteration_metrics, rollout_rows
from regard.train.progress import StageProgress
from regard.train.seeds import epoch_order, uniforms
from regard.train.stage import (
    Context,
    GradientStep,
    Meter,
    Saver,
    StepStats,
    give_back_memory,
    linear_schedule,
    micro_batches,
)
from regard.train.throughput import Limit


class Minibatch(NamedTuple):
    """Rows of one iteration as the losses see them; [B, T] response tokens, right-padded."""

    batch: SequenceBatch
    old_logprobs: Tensor
    ref_logprobs: Tensor
    old_values: Tensor
    advantages: Tensor
    returns: Tensor


RewardShaping = Callable[[Tensor, Tensor, Tensor, Tensor, float], ShapedReward]
"""(scores [B], old_logprobs, ref_logprobs, response_mask, kl_coef) ↦ rewards per token."""
AdvantageEstimator = Callable[[PPOConfig, Tensor, Tensor, Tensor], tuple[AdvantageOutput, Tensor]]
"""(config, rewards, values, response_mask) ↦ advantages and returns, and the advantages as the loss sees them."""
PolicyLoss = Callable[[PPOConfig, PolicyOutput, Minibatch, float], PolicyLossOutput]
"""(config, forward pass, rows, num_loss_tokens) ↦ loss and sums. Where the value has a model of its own, the pass is of
one of the two alone: a loss of the policy sees values of 0, a loss of the value log-probabilities of 0."""
ValueLoss = Callable[[PPOConfig, PolicyOutput, Minibatch, float], ValueLossOutput]
Schedule = Callable[[int, int, int], float]
"""(iteration, iterations, warm-up) ↦ factor of the peak learning rate."""
Probe = Callable[[PolicyAndValue, int], dict[str, float]]
"""(policy, iteration) ↦ declared metrics of something that is not trained on."""


def estimate_advantages(
    config: PPOConfig, rewards: Tensor, values: Tensor, response_mask: Tensor
) -> tuple[AdvantageOutput, Tensor]:
    """GAE, and the same whitened over all tokens of the global batch. Under rloo what a response's reward is above the
    mean of the others, and under grpo the same in deviations of its group."""
    if not config.has_critic:
        raw = leave_one_out_advantages(rewards, response_mask, group_size=config.group_size)
        if config.algorithm == "rloo":
            return raw, raw.advantages
        return raw, group_relative_advantages(rewards, response_mask, group_size=config.group_size).advantages
    raw = gae(rewards, values, response_mask, gamma=config.gamma, gae_lambda=config.gae_lambda)
    return raw, masked_whiten(raw.advantages, response_mask) if config.whiten_advantages else raw.advantages


def policy_loss(config: PPOConfig, out: PolicyOutput, minibatch: Minibatch, num_loss_tokens: float) -> PolicyLossOutput:
    """The clipped surrogate; under a2c its statistics with the loss of A2C."""
    surrogate = ppo_clip_loss(
        out.logprobs,
        minibatch.old_logprobs,
        minibatch.advantages,
        minibatch.batch.response_mask,
        clip_range=config.clip_range,
        num_loss_tokens=num_loss_tokens,
        form=config.clip_form,
    )
    if config.algorithm != "a2c":
        return surrogate
    loss = a2c_loss(out.logprobs, minibatch.advantages, minibatch.batch.response_mask, num_loss_tokens=num_loss_tokens)
    return surrogate._replace(loss=loss)


def value_loss(config: PPOConfig, out: PolicyOutput, minibatch: Minibatch, num_loss_tokens: float) -> ValueLossOutput:
    return clipped_value_loss(
        out.values,
        minibatch.old_values,
        minibatch.returns,
        minibatch.batch.response_mask,
        value_clip_range=config.value_clip_range,
        num_loss_tokens=num_loss_tokens,
    )


@dataclass(frozen=True)
class Parts:
    """Everything a fault can sit in, passed in. The equations have defaults; the rest is of the run."""

    policy: PolicyAndValue
    reference: Reference
    generator: Generator
    scorer: Scorer
    source: PromptSource
    kl_controller: KLController
    judges: dict[str, Scorer]
    """Never optimised; `gold` and second opinions, for the record."""
    shape_reward: RewardShaping = shaped_reward
    estimate_advantages: AdvantageEstimator = estimate_advantages
    policy_loss: PolicyLoss = policy_loss
    value_loss: ValueLoss = value_loss
    gradient_step: type[GradientStep] | Callable[..., GradientStep] = GradientStep
    """Called as `GradientStep` is."""
    schedule: Schedule = linear_schedule
    make_room: Callable[[], None] = lambda: None
    """Called before each update of many weights, which needs most memory and none of the frozen models."""
    probe: Probe | None = None
    """Measured after each iteration; what it returns is logged."""


@dataclass
class Rollouts:
    """One iteration's global batch, the same on every process."""

    prompts: list[Prompt]
    responses: list[list[int]]
    texts: list[str]
    finished: list[bool]
    generator_logprobs: list[list[float]]
    scores: list[float]
    judged: dict[str, list[float]]
    batch: SequenceBatch
    old_logprobs: Tensor
    ref_logprobs: Tensor
    old_values: Tensor
    entropy: Tensor
    trunk: list[Tensor] | None = None
    """[length, D] per row, what the frozen first blocks make of it; None where every block is trained."""


def run_ppo(
    context: Context, parts: Parts, frozen: dict[str, Any], *, on_broken: Literal["raise", "record"] = "raise"
) -> None:
    """Train `parts.policy` for `config.ppo.steps` iterations.

    Args:
        frozen: modules whose weights must not change ("reference", "reward_model"); each has `sha256()`.
        on_broken: what follows when an invariant does not hold: stop, or write it down and go on, for a run that is
            made to be reviewed.
    Raises:
        RunLogError: a step-0 invariant does not hold, or a frozen model changed; not with `on_broken="record"`.
    """
    config, world, seed = context.config.ppo, context.world, context.config.ppo_seed
    log, policy = context.run.stage("ppo"), parts.policy
    reward_scale = score_scale(config, parts.scorer)
    parameters = trained_parameters({"policy": policy})
    head = list(policy.value_head.parameters())
    body = [p for p in parameters.values() if all(p is not h for h in head)]
    update = parts.gradient_step(
        [
            {"params": body, "lr": config.learning_rate},
            {"params": head, "lr": 10 * config.learning_rate},  # the head starts at zero, the body does not
        ],
        config.max_grad_norm,
        world,
        value_parameters=policy.value_parameters(),
    )
    saver = Saver(log, parameters, update, world, config.checkpoint_every, config.keep_every, config.steps)
    done = saver.resume()
    hashes = {name: part.sha256() for name, part in frozen.items()}
    if done:
        parts.kl_controller.coef = saver.extra["kl_coef"]
        if saver.extra["frozen_sha256"] != hashes:
            raise RunLogError("A frozen model is not the one this run began with. Restore it, or begin a new run.")
    else:
        saver.extra = {"kl_coef": parts.kl_controller.coef, "policy_version": 0, "frozen_sha256": hashes}
        saver.save(0)

    many = sum(p.numel() for p in parameters.values()) > MANY_WEIGHTS
    limit = Limit.of(parts, world)
    meter = Meter()
    with StageProgress("ppo", config.steps, done, quiet=context.quiet) as progress:
        for step in range(done, config.steps):
            clock = [time.monotonic()]
            prompts = parts.source.prompts(step)
            noise = uniforms(len(prompts), config.max_response_tokens, seed, "ppo", step)
            rollouts = sample_and_score(context, parts, prompts, noise, reward_scale, clock)
            if step == 0:
                found = check_invariants(parts, rollouts, hashes, frozen, context.config.model.dtype, reward_scale)
                log.log(0, found.metrics)
                log.event("invariants", passed=not found.broken, broken=found.broken, tolerance=found.tolerance)
                if found.broken and on_broken == "raise":
                    raise RunLogError(
                        f"Step-0 invariant broken: {found.broken[0]}. Training on would be measuring noise; "
                        f"see the invariant rows of {log.dir / 'metrics.jsonl'}."
                    )

            kl_coef = parts.kl_controller.coef
            scores = torch.tensor(rollouts.scores, dtype=torch.float32)
            mask = rollouts.batch.response_mask
            shaped = parts.shape_reward(scores, rollouts.old_logprobs, rollouts.ref_logprobs, mask, kl_coef)
            raw, advantages = parts.estimate_advantages(config, shaped.rewards, rollouts.old_values, mask)

            if many:
                parts.make_room()
                give_back_memory()
            before = weight_vector(parameters)
            sums = run_update(
                context,
                policy,
                update,
                rollouts,
                advantages,
                raw.returns,
                step,
                policy_loss=parts.policy_loss,
                value_loss=parts.value_loss,
                schedule=parts.schedule,
            )
            if many:
                give_back_memory()
            clock.append(time.monotonic())
            saver.extra["policy_version"] += sums.updates
            metrics = iteration_metrics(
                rollouts, shaped, raw, advantages, sums, kl_coef, config, reward_scale, step, clock
            )
            if limit is not None:
                metrics |= limit.metrics(rollouts, len(sums.epoch_kl), clock)
            metrics["policy/version/count"] = float(saver.extra["policy_version"])
            metrics["memory/peak_rss/gb"] = meter.peak_gb()
            after = weight_vector(parameters)
            if before is not None and after is not None:
                metrics["optim/param_norm/value"] = float(after.norm())
                metrics["optim/update_norm/value"] = float((after - before).norm())
                metrics["optim/weights_changed/frac"] = float((after != before).double().mean())
            if parts.probe is not None:
                metrics |= parts.probe(policy, step + 1)
            log.log(step + 1, metrics)
            version = saver.extra["policy_version"] - sums.updates
            log.rollouts(step + 1, rollout_rows(rollouts, shaped, advantages, raw, step + 1, version))
            parts.kl_controller.update(
                metrics["kl/policy_ref_k1/seq_sum"], metrics["kl/policy_ref_k1/token_mean"], len(prompts)
            )
            saver.extra["kl_coef"] = parts.kl_controller.coef
            saver.save(step + 1)
            progress.update(step + 1, metrics)

    for name, part in frozen.items():
        if part.sha256() != hashes[name]:
            if on_broken == "raise":
                raise RunLogError(f"The frozen {name} changed during training. The run's KL or scores mean nothing.")
            log.event("frozen_changed", step=config.steps, model=name)
    if world.rank == 0:
        model = policy.model
        if hasattr(model, "peft_config"):
            model.save_pretrained(context.final("ppo"), safe_serialization=True)  # adapters only, beside the SFT model
        else:
            save_causal(model, policy.tokenizer, context.final("ppo"))
    world.barrier()


def weight_vector(parameters: dict[str, torch.nn.Parameter]) -> Tensor | None:
    """All trained weights as one vector, or None where they are too many."""
    if sum(p.numel() for p in parameters.values()) > MANY_WEIGHTS:
        return None
    return torch.cat([p.detach().flatten().float() for p in parameters.values()])


def score_scale(config: PPOConfig, scorer: Scorer) -> float:
    """What scores are divided by: their deviation on SFT samples, as measured when the reward model was made."""
    deviation = getattr(scorer, "deviation", 1.0)
    return float(deviation) if config.scale_scores and deviation > 0 else 1.0


@torch.no_grad()
def sample_and_score(
    context: Context, parts: Parts, prompts: list[Prompt], noise: Tensor, reward_scale: float, clock: list[float]
) -> Rollouts:
    """Each process samples and scores its own rows; then all know all."""
    config, world, policy = context.config.ppo, context.world, parts.policy
    pad = policy.tokenizer.pad_token_id
    own = world.own(prompts)
    generated = parts.generator.generate([p.tokens for p in own], noise[world.rank :: world.size])
    clock.append(time.monotonic())
    texts = [policy.tokenizer.decode(response, skip_special_tokens=True) for response in generated.responses]
    prompt_texts = [p.text for p in own]
    scores = parts.scorer.score(prompt_texts, texts)
    scores = [
        score / reward_scale - (0.0 if ended else config.missing_eos_penalty)
        for score, ended in zip(scores, generated.finished, strict=True)
    ]
    judged = {name: judge.score(prompt_texts, texts) for name, judge in parts.judges.items()}
    if isinstance(parts.scorer, SumScorer):
        judged["main_score"] = [main / reward_scale for main in parts.scorer.main(prompt_texts, texts)]
    per_token: dict[int, tuple[list[float], ...]] = {}
    trunk: dict[int, Tensor | None] = {}
    lengths = [len(prompt.tokens) + len(response) for prompt, response in zip(own, generated.responses, strict=True)]
    by_length = sorted(range(len(own)), key=lambda row: lengths[row])  # less padding of attention
    for rows in micro_batches(by_length, config.micro_batch_size):
        batch = make_batch([own[r].tokens for r in rows], [generated.responses[r] for r in rows], pad)
        batch = with_trunk(policy.model, batch)
        out = policy(batch)
        ref_logprobs = parts.reference.logprobs(batch)
        for i, row in enumerate(rows):
            length = len(generated.responses[row])
            trunk[row] = None if batch.trunk is None else batch.trunk[i]
            per_token[row] = tuple(
                x[i, :length].tolist() for x in (out.logprobs, ref_logprobs, out.values, out.entropy)
            )
    everything = world.gather(
        list(
            zip(
                generated.responses,
                texts,
                generated.finished,
                generated.logprobs,
                scores,
                [per_token[row] for row in range(len(own))],
                [trunk[row] for row in range(len(own))],
                *judged.values(),
                strict=True,
            )
        )
    )
    responses, texts, finished, generator_logprobs, scores, tokens, states, *judgements = map(
        list, zip(*everything, strict=True)
    )
    batch = make_batch([p.tokens for p in prompts], responses, pad)
    padded = [_pad([row[k] for row in tokens], batch.tokens.shape[1]) for k in range(4)]
    clock.append(time.monotonic())
    return Rollouts(
        prompts,
        responses,
        texts,
        finished,
        generator_logprobs,
        scores,
        dict(zip(judged, judgements, strict=True)),
        batch,
        *padded,
        trunk=[kept for kept in states if kept is not None] or None,
    )


def _pad(rows: list[list[float]], width: int) -> Tensor:
    out = torch.zeros((len(rows), width))
    for i, row in enumerate(rows):
        out[i, : len(row)] = torch.tensor(row)
    return out


def run_update(
    context: Context,
    policy: PolicyAndValue,
    update: GradientStep,
    rollouts: Rollouts,
    advantages: Tensor,
    returns: Tensor,
    step: int,
    *,
    policy_loss: PolicyLoss = policy_loss,
    value_loss: ValueLoss = value_loss,
    schedule: Schedule = linear_schedule,
) -> UpdateSums:
    """Epochs of minibatches. A minibatch's loss is divided by its global token count, so neither micro-batches nor
    processes change it; the epochs end early once the policy has moved `early_stop_kl` from the one that sampled."""
    config, world = context.config.ppo, context.world
    pad = policy.tokenizer.pad_token_id
    value_coef = config.value_coef if config.has_critic else 0.0
    sums = UpdateSums()
    factor = schedule(step, config.steps, config.warmup_steps)
    size = config.batch_size // config.num_minibatches
    for epoch in range(config.epochs):
        order = epoch_order(config.batch_size, epoch, context.config.ppo_seed, "ppo", step)
        epoch_sums = torch.zeros(UpdateSums.WIDTH, dtype=torch.float64)
        for rows in micro_batches(order, size):
            num_loss_tokens = sum(len(rollouts.responses[r]) for r in rows)
            local = torch.zeros(UpdateSums.WIDTH, dtype=torch.float64)
            extremes = torch.tensor([float("-inf"), float("-inf")], dtype=torch.float64)
            own = sorted(world.own(rows), key=lambda r: rollouts.batch.lengths[r])  # less padding of attention
            steps: list[StepStats] = []
            for trained, parameters in policy.apart().items():  # the gradients of only one model are there at a time
                update.begin(parameters)
                for micro in micro_batches(own, config.micro_batch_size):
                    minibatch = _rows(rollouts, micro, advantages, returns, pad)
                    out = policy(
                        minibatch.batch, trained, with_entropy=False, differentiable_entropy=config.entropy_coef > 0
                    )
                    loss = torch.zeros(())
                    if trained != "value":
                        surrogate = policy_loss(config, out, minibatch, num_loss_tokens)
                        entropy = (out.entropy * minibatch.batch.response_mask).sum() / num_loss_tokens
                        loss = loss + surrogate.loss - config.entropy_coef * entropy
                        local += UpdateSums.of_policy(surrogate)
                        ratios = torch.tensor([surrogate.ratio_max, -surrogate.ratio_min])
                        extremes = torch.maximum(extremes, ratios.double())
                    if trained != "policy":
                        value = value_loss(config, out, minibatch, num_loss_tokens)
                        loss = loss + value_coef * value.loss
                        local += UpdateSums.of_value(value)
                    loss.backward()
                    local[2] += float(loss.detach())
                steps.append(update.step(factor))
            world.sum(local)
            extremes = torch.stack(world.gather([extremes])).amax(0)
            sums.add_update(local, extremes, StepStats.of(steps), update.optimizer.param_groups[0]["lr"])
            epoch_sums += local
        sums.add_epoch(epoch_sums)
        if config.early_stop_kl is not None and sums.epoch_kl[-1] > config.early_stop_kl:
            sums.early_stopped = True
            break
    return sums


def _rows(rollouts: Rollouts, rows: list[int], advantages: Tensor, returns: Tensor, pad: int) -> Minibatch:
    batch = make_batch([rollouts.prompts[r].tokens for r in rows], [rollouts.responses[r] for r in rows], pad)
    if rollouts.trunk is not None:
        batch = batch._replace(trunk=[rollouts.trunk[r] for r in rows])
    per_token = rollouts.old_logprobs, rollouts.ref_logprobs, rollouts.old_values, advantages, returns
    return Minibatch(batch, *(x[rows, : batch.tokens.shape[1]] for x in per_token))
