"""Stage 3: the reward model, a decoder body with a scalar head at EOS, trained to rank.

    Δ = r_chosen − r_rejected
    L(φ) = −(1/N) Σ [p·log σ(Δ) + (1−p)·log σ(−Δ)] + c·E[(r_chosen + r_rejected)²]

p is the share of raters that preferred `chosen`. A batch is a few groups of comparisons; inside a group texts recur, so
each distinct text is scored once however many comparisons it is part of.
"""

import time
from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from regard.data.comparisons import Comparison
from regard.data.ratings import human_agreement
from regard.models.checkpoints import trained_parameters
from regard.models.heads import RewardModel
from regard.models.loading import add_lora, build_scratch, load_causal, merged, resolve_source
from regard.ops import centering_penalty, pairwise_loss
from regard.text import rank_correlation
from regard.train.corpus import Corpus, RewardData
from regard.train.progress import StageProgress
from regard.train.seeds import batch_rows, derive
from regard.train.stage import Context, GradientStep, Meter, Saver, give_back_memory, linear_schedule

MARGIN_BINS = (0.0, 0.5, 1.0, 2.0, 3.0, 8.0)
"""Edges, in rating points, of the table that sets accuracy beside human agreement."""


DEV_PAIRS = 900
"""Pairs of the dev split, in whole groups, scored after each eighth of the stage; the whole test split is scored once,
at the end."""


class Pairs(NamedTuple):
    """Comparisons of one batch as indices into its distinct texts."""

    texts: list[str]
    chosen: Tensor
    rejected: Tensor
    p_chosen: Tensor


def index_pairs(comparisons: list[Comparison]) -> Pairs:
    place: dict[str, int] = {}
    for pair in comparisons:
        for text in (pair.prompt + pair.chosen, pair.prompt + pair.rejected):
            place.setdefault(text, len(place))
    return Pairs(
        list(place),
        torch.tensor([place[p.prompt + p.chosen] for p in comparisons]),
        torch.tensor([place[p.prompt + p.rejected] for p in comparisons]),
        torch.tensor([p.p_chosen for p in comparisons]),
    )


def run_reward_model(context: Context, corpus: Corpus) -> None:
    config, settings, seed = context.config.rm, context.config.model, context.config.seed
    source = str(context.final("pretrain")) if settings.source == "scratch" else resolve_source(settings.source)
    body, tokenizer = load_causal(source, getattr(torch, settings.dtype))
    if config.body == "random":
        body = build_scratch(settings.scratch, tokenizer, derive(seed, "rm", "init")).eval().to(body.dtype)
    if settings.lora_rank:
        body = add_lora(body, settings.lora_rank, derive(seed, "rm", "lora"))
    reward_model = RewardModel(body, tokenizer, config.max_text_tokens)
    evaluation = train_reward_model(context, reward_model, corpus.rewards)
    if context.world.rank == 0:
        context.run.write_json("stages/rm/evaluation.json", evaluation)
        give_back_memory()
        reward_model.save(context.final("rm"), merged(reward_model.model, settings, source))
    context.world.barrier()


def train_reward_model(context: Context, reward_model: RewardModel, data: RewardData) -> dict[str, Any]:
    """The loop of the stage; it changes `reward_model` in place and returns what `evaluate_reward_model` found."""
    config, world, seed, log = context.config.rm, context.world, context.config.seed, context.run.stage("rm")
    groups = _by_group(data.train)
    if context.config.data.max_rm_groups:
        order = sorted(range(len(groups)), key=lambda i: derive(0, "rm groups", i))
        groups = [groups[i] for i in order[: context.config.data.max_rm_groups]]
    steps = config.steps or max(1, config.epochs * len(groups) // config.batch_size)

    parameters = trained_parameters({"body": reward_model.model, "head": reward_model.head})
    head = list(reward_model.head.parameters())
    body_parameters = [p for p in parameters.values() if all(p is not h for h in head)]
    update = GradientStep(
        [
            {"params": body_parameters, "lr": config.learning_rate},
            {"params": head, "lr": 10 * config.learning_rate},  # the head starts at zero, the body does not
        ],
        config.max_grad_norm,
        world,
    )
    saver = Saver(log, parameters, update, world, config.checkpoint_every, config.keep_every, steps)
    done = saver.resume()
    dev = [pair for pair in _first_pairs(_by_group(data.dev), DEV_PAIRS) if pair.p_chosen != 0.5]
    eighths = {max(1, steps * k // 8) for k in range(1, 9)}
    evaluation: dict[str, Any] | None = None
    meter = Meter()
    with StageProgress("rm", steps, done, quiet=context.quiet) as progress:
        for step in range(done, steps):
            started = time.monotonic()
            rows = batch_rows(step, config.batch_size, len(groups), seed, "rm")
            batch = [groups[row] for row in rows]
            num_pairs = sum(map(len, batch))
            sums = torch.zeros(5, dtype=torch.float64)  # loss, right, decided, margin, tokens
            update.begin()
            for own in _packed(world.own(batch), config.micro_batch_size):
                pairs = index_pairs(own)
                encoded = reward_model.encode(pairs.texts)
                scores = reward_model.scores_of(encoded)
                chosen, rejected = scores[pairs.chosen], scores[pairs.rejected]
                ranking = pairwise_loss(chosen, rejected, p_chosen=pairs.p_chosen, num_pairs=num_pairs)
                loss = ranking.loss + config.center_penalty * centering_penalty(chosen, rejected, num_pairs=num_pairs)
                loss.backward()
                sums += torch.stack(
                    [ranking.loss.detach(), ranking.correct_count, ranking.decided_count, ranking.margin_sum,
                     torch.tensor(sum(map(len, encoded)))]
                ).double()  # fmt: skip
            world.sum(sums)
            schedule = linear_schedule(step, steps, config.warmup_steps)
            stats = update.step(schedule)
            metrics = {
                "loss/rm/mean": float(sums[0]),
                "rm/accuracy_train/mean": float(sums[1] / sums[2].clamp(min=1)),
                "rm/margin/mean": float(sums[3] / num_pairs),
                "optim/grad_norm/last": stats.grad_norm,
                "optim/grad_clipped/frac": float(stats.clipped),
                "optim/nonfinite_grads/count": float(not stats.finite),
                "optim/learning_rate/last": config.learning_rate * schedule,
                "data/epochs/count": (step + 1) * config.batch_size / len(groups),
                "throughput/tokens_per_s": float(sums[4]) / (time.monotonic() - started),
                "memory/peak_rss/gb": meter.peak_gb(),
            }
            if step == 0:
                metrics |= describe_pairs([pair for group in groups for pair in group])
            if dev and step + 1 in eighths:
                metrics |= _held_out(reward_model, dev, config.micro_batch_size)
            if step + 1 == steps:
                evaluation = evaluate_reward_model(reward_model, data, config.micro_batch_size)
                metrics |= {key: evaluation[name] for name, key in EVALUATION_KEYS.items() if name in evaluation}
            log.log(step + 1, metrics)
            saver.save(step + 1)
            progress.update(step + 1, metrics)

    # None: killed after the last step and resumed.
    return evaluation or evaluate_reward_model(reward_model, data, config.micro_batch_size)


def _by_group(comparisons: list[Comparison]) -> list[list[Comparison]]:
    groups: dict[str, list[Comparison]] = defaultdict(list)
    for pair in comparisons:
        groups[pair.group].append(pair)
    return list(groups.values())


def _first_pairs(groups: list[list[Comparison]], enough: int) -> list[Comparison]:
    """Pairs of the first groups that together have at least `enough`, or of all."""
    pairs: list[Comparison] = []
    for group in groups:
        if len(pairs) >= enough:
            break
        pairs += group
    return pairs


def describe_pairs(pairs: list[Comparison]) -> dict[str, float]:
    """What the training pairs are like, before anything is learned from them."""
    lengths = [
        (len(p.chosen), len(p.rejected)) for p in pairs if p.p_chosen != 0.5 and len(p.chosen) != len(p.rejected)
    ]
    described = {
        "data/pairs/count": float(len(pairs)),
        "data/pairs_unanimous/frac": float(np.mean([pair.p_chosen in (0.0, 1.0) for pair in pairs])),
    }
    if lengths:
        described["data/pairs_chosen_longer/frac"] = float(np.mean([chosen > other for chosen, other in lengths]))
    return described


def _packed(groups: list[list[Comparison]], micro_batch_size: int) -> list[list[Comparison]]:
    """Whole groups, joined while their texts fit one forward pass; a larger group stands alone."""
    packs: list[list[Comparison]] = []
    size = micro_batch_size
    for group in groups:
        texts = len({text for pair in group for text in (pair.chosen, pair.rejected)})
        if size + texts <= micro_batch_size:
            packs[-1] = packs[-1] + group
            size += texts
        else:
            packs.append(group)
            size = texts
    return packs


def _scores(reward_model: RewardModel, pairs: Pairs, micro_batch_size: int) -> Tensor:
    scores = reward_model.score([""] * len(pairs.texts), pairs.texts, micro_batch_size)
    return torch.tensor(scores, dtype=torch.float64)


def _held_out(reward_model: RewardModel, comparisons: list[Comparison], micro_batch_size: int) -> dict[str, float]:
    pairs = index_pairs(comparisons)
    scores = _scores(reward_model, pairs, micro_batch_size)
    margin = scores[pairs.chosen] - scores[pairs.rejected]
    p_chosen = pairs.p_chosen.double()
    loss = -(p_chosen * logsigmoid(margin) + (1 - p_chosen) * logsigmoid(-margin))
    return {"rm/accuracy_val/mean": float((margin > 0).double().mean()), "rm/loss_val/mean": float(loss.mean())}


EVALUATION_KEYS = {
    "accuracy": "rm/accuracy_test/mean",
    "pairs": "rm/pairs_test/count",
    "score_mean": "rm/score/mean",
    "score_std": "rm/score/std",
    "kept_rater_accuracy": "rm/accuracy_trusted/mean",
    "ece": "rm/ece/value",
    "rater_agreement": "rm/rater_agreement/mean",
    "accuracy_shorter_chosen": "rm/accuracy_shorter_chosen/mean",
    "score_length_spearman": "rm/score_length_spearman/value",
}
"""What of the evaluation is also a metric, logged with the last step."""


def evaluate_reward_model(reward_model: RewardModel, data: RewardData, micro_batch_size: int) -> dict[str, Any]:
    """The table of the report: accuracy by size of the human margin beside the human ceiling, calibration, length bias.

    Accuracy counts pairs on which the raters as a whole are decided; ties have no right answer. The interval is a
    bootstrap over groups, since pairs of one group share texts and raters.
    """
    test = data.test
    pairs = index_pairs(test)
    scores = _scores(reward_model, pairs, micro_batch_size).numpy()
    difference = scores[pairs.chosen.numpy()] - scores[pairs.rejected.numpy()]
    p_chosen = pairs.p_chosen.numpy()
    decided = p_chosen != 0.5
    right = (difference > 0) & decided
    groups = np.array([pair.group for pair in test])
    lengths = [len(text) for text in pairs.texts]
    result: dict[str, Any] = {
        "pairs": int(decided.sum()),
        "accuracy": float(right[decided].mean()),
        "ci95": _group_bootstrap(right[decided], groups[decided]),
        "score_mean": float(scores.mean()),
        "score_std": float(scores.std()),
        "score_length_spearman": rank_correlation(scores, lengths),
        **_calibration(difference, p_chosen),
    }
    size = np.array(lengths)
    shorter = decided & (size[pairs.chosen.numpy()] < size[pairs.rejected.numpy()])
    if shorter.any():
        result["accuracy_shorter_chosen"] = float(right[shorter].mean())
    agreement = pair_agreement(test)
    if agreement is not None:
        result["rater_agreement"] = agreement
    kept = data.kept
    if kept:
        kept_pairs = index_pairs(kept)
        place = {text: i for i, text in enumerate(pairs.texts)}
        kept_scores = scores[[place[text] for text in kept_pairs.texts]]
        gap = kept_scores[kept_pairs.chosen.numpy()] - kept_scores[kept_pairs.rejected.numpy()]
        kept_decided = kept_pairs.p_chosen.numpy() != 0.5
        result["kept_rater_accuracy"] = float((gap > 0)[kept_decided].mean())
    blocks = data.blocks.get("test", [])
    if blocks:
        agreement = human_agreement(blocks, MARGIN_BINS)
        margins = np.array([abs(pair.margin or 0.0) for pair in test])
        result["bins"] = []
        for low, high, humans in zip(MARGIN_BINS, MARGIN_BINS[1:], agreement.by_bin, strict=False):
            inside = decided & (margins >= low) & (margins < high)
            result["bins"].append(
                {
                    "margin": [low, high],
                    "pairs": int(inside.sum()),
                    "accuracy": float(right[inside].mean()) if inside.any() else None,
                    "human_agreement": humans,
                }
            )
        result["human_ceiling"] = agreement.overall
    return result


def pair_agreement(comparisons: list[Comparison]) -> float | None:
    """P(two raters of a pair prefer the same response | neither sees a tie), each pair counted once.

        agreement = mean over pairs of [C(w, 2) + C(l, 2)] / C(w + l, 2),    w, l = raters for either response

    None where no pair has two raters that decided.
    """
    shares: list[float] = []
    for pair in comparisons:
        decided = pair.num_raters - pair.num_ties
        wins = round(pair.p_chosen * pair.num_raters - pair.num_ties / 2)
        if decided > 1:
            losses = decided - wins
            shares.append((wins * (wins - 1) + losses * (losses - 1)) / (decided * (decided - 1)))
    return float(np.mean(shares)) if shares else None


def _calibration(difference: np.ndarray, p_chosen: np.ndarray, num_bins: int = 10) -> dict[str, Any]:
    """ECE = Σ_b (n_b/n)·|mean σ(Δ) − mean p| over ten equal bins of σ(Δ) (Guo et al. 2017, eq. 3, with soft labels).

    Each pair is entered in both directions, or a chosen-first order would make every p at least one half.
    """
    predicted = 1 / (1 + np.exp(-np.concatenate([difference, -difference])))
    observed = np.concatenate([p_chosen, 1 - p_chosen])
    place = np.minimum((predicted * num_bins).astype(int), num_bins - 1)
    rows, ece = [], 0.0
    for b in range(num_bins):
        inside = place == b
        if inside.any():
            mean_predicted, mean_observed = float(predicted[inside].mean()), float(observed[inside].mean())
            ece += inside.mean() * abs(mean_predicted - mean_observed)
            rows.append(
                {
                    "p": [b / num_bins, (b + 1) / num_bins],
                    "predicted": mean_predicted,
                    "observed": mean_observed,
                    "pairs": int(inside.sum()),
                }
            )
    return {"ece": float(ece), "reliability": rows}


def _group_bootstrap(right: np.ndarray, groups: np.ndarray, resamples: int = 2000) -> list[float]:
    _, index = np.unique(groups, return_inverse=True)
    hits = np.bincount(index, weights=right)
    sizes = np.bincount(index)
    draws = np.random.default_rng(0).integers(0, len(sizes), (resamples, len(sizes)))
    means = hits[draws].sum(1) / sizes[draws].sum(1)
    return np.quantile(means, [0.025, 0.975]).tolist()
