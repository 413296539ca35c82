"""What a configuration will need before it is run: peak memory of each stage, and the time of a step of stage 4.

Memory is counted, not measured: weights with their gradients and moments, what a forward pass keeps for its backward
pass, logits, copies that are made for sampling and for saving. Not planned are evaluation, which needs no more than
stage 4, and the reward model on the user's own comparisons, whose lengths are not known before they are read. Time is
the operations of an iteration (`models/sizes.py`) over the machine's measured rate, for responses of nearly the most
tokens. The constants were measured by `benchmarks/planner.py`, and how far off they are stands in docs/experiments.md.
"""

import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regard.config import ModelConfig, RecipeConfig, changed_config
from regard.data.assets import ASSETS, default_cache
from regard.errors import ConfigError
from regard.models.native import compiler
from regard.models.sizes import MANY_WEIGHTS, Phases, Sizes, logits_chunk

IMPORTED_GB = 0.47
"""Of a process with its libraries, where torch is built without CUDA; with CUDA they take 0.85."""
BESIDE_GB = {"pretrain": 0.1, "sft": 0.1, "rm": 0.25, "ppo": 0.4}
"""Of texts, and of freed arrays that a process keeps, which grow from stage to stage."""
FULL = 0.95
"""Tokens of a response, as a share of the most."""
LOGITS_COPIES = 4
"""Arrays of the size of the logits that are alive at once: they, their exponentials, gradients."""
HOLES = 1.2
"""What an update has at most, holes between its arrays included, over the arrays."""
OFF = 0.15
"""By how much a plan of memory may be off, of what was measured."""
TEXTS_PER_GROUP, TOKENS_PER_TEXT = 30, 32
"""Of the fetched ratings: a group of comparisons is a block of so many texts. Tokens are those of the largest block
(mean 26 a text)."""


@dataclass(frozen=True)
class Plan:
    """What a configuration will cost.

    Attributes:
        gb: the peak resident memory of each stage, in 10^9 bytes.
        step_seconds: one iteration of stage 4; None where the rate of the machine is not given.
    """

    gb: dict[str, float]
    step_seconds: float | None

    @property
    def peak_gb(self) -> float:
        return max(self.gb.values())


def plan(
    config: RecipeConfig,
    gflops: float | None = None,
    processes: int = 1,
    answered: float = FULL,
    imported_gb: float = IMPORTED_GB,
) -> Plan | None:
    """The cost of `config` for each of so many processes; None where the sizes of its model are not known here.

    Args:
        gflops: what all processes together make of a product of large matrices in the configuration's dtype.
        answered: tokens of a response, as a share of the most. A policy that ends early takes less time.
        imported_gb: what a process has before it holds a model, as `imported_gb` measures it.
    """
    sizes = sizes_for(config.model)
    if sizes is None:
        return None
    gb = {stage: imported_gb + BESIDE_GB[stage] + count / 1e9 for stage, count in _bytes(config, sizes, processes)}
    return Plan(gb, None if gflops is None else _step_seconds(config, sizes, gflops, answered))


def sizes_for(model: ModelConfig) -> Sizes | None:
    """Of the initial model; None for one that is not on this machine yet, or whose blocks are not a Llama's."""
    if model.source == "scratch":
        shape = model.scratch
        width, inner = shape.hidden_size, shape.hidden_size * 8 // 3 // 8 * 8  # as in `models.loading.build_scratch`
        return Sizes(width, inner, width, width, shape.num_layers, shape.vocab_size)
    directory = default_cache() / model.source if model.source in ASSETS else Path(model.source)
    try:
        return Sizes.of_config(json.loads((directory / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def kept_bytes(sizes: Sizes, dtype: str, rank: int, in_c: bool) -> float:
    """What a block keeps of a token for the backward pass, in bytes; counted with torch's hooks on saved tensors.

    Args:
        in_c: whether `kernels.c` computes what it can, in bfloat16. Without it the weights of attention are kept too,
            here for sequences of some 40 tokens.
    """
    if dtype == "bfloat16" and not in_c:
        return 8 * sizes.intermediate + 16 * sizes.hidden + 12 * sizes.queries + 14 * rank
    if dtype == "bfloat16":
        return 6 * sizes.intermediate + 8 * sizes.hidden + 4 * (sizes.queries + sizes.keys) + 14 * rank
    hidden = (16 if rank else 24) * sizes.hidden
    return 16 * sizes.intermediate + hidden + 12 * sizes.queries + 8 * sizes.keys + 28 * rank


def _bytes(config: RecipeConfig, sizes: Sizes, processes: int) -> Iterator[tuple[str, float]]:
    """(stage, bytes that a process allocates at its worst moment)."""
    model, sft, ppo = config.model, config.sft, config.ppo
    rank, size = model.lora_rank, 2 if model.dtype == "bfloat16" else 4
    in_c = shutil.which(compiler()[0]) is not None
    prompt, plain = config.data.prompt_tokens[1], size * sizes.weights
    # A saved model is read again in float32 where adapters are merged into it, and a quarter more than that was
    # measured; one without adapters is turned into the bytes of a file.
    saved = 5 * sizes.weights if rank else 4 * sizes.weights

    def rows(at_once: int, batch: int) -> int:
        return min(at_once, -(-batch // processes))

    def logits(tokens: float) -> float:
        return LOGITS_COPIES * 4 * min(logits_chunk(sizes.vocabulary), tokens) * sizes.vocabulary

    def trained(layers: int = sizes.layers) -> int:
        return layers * sizes.adapters(rank) if rank else sizes.weights

    def states(layers: int = sizes.layers) -> float:
        """Weights and what belongs to those that are trained: moments, and the remainders of bfloat16."""
        if rank:
            return plain + 12 * trained(layers)
        return (10 if model.dtype == "bfloat16" else 12) * sizes.weights

    def gradients(layers: int = sizes.layers) -> float:
        """Once more in one piece where processes add them up."""
        return (4 if processes == 1 else 8) * trained(layers)

    def kept(number: float, length: int, layers: int = sizes.layers) -> float:
        return number * length * layers * kept_bytes(sizes, model.dtype, rank, in_c)

    if model.source == "scratch":
        settings = config.pretrain
        tokens = rows(settings.micro_batch_size, settings.batch_size) * settings.sequence_tokens
        whole = tokens * sizes.layers * kept_bytes(sizes, model.dtype, 0, in_c)
        yield "pretrain", states() + gradients() + max(4 * sizes.weights, whole + logits(tokens))
    number = rows(sft.micro_batch_size, sft.batch_size)
    length = prompt + sft.max_response_tokens
    yield "sft", states() + gradients() + max(saved, kept(number, length) + logits(number * sft.max_response_tokens))
    if config.data.comparisons in ASSETS:
        texts = TEXTS_PER_GROUP * rows(max(1, config.rm.micro_batch_size // TEXTS_PER_GROUP), config.rm.batch_size)
        yield "rm", states() + gradients() + max(saved, kept(texts, TOKENS_PER_TEXT))
    adapted, width = ppo.lora_layers or sizes.layers, prompt + ppo.max_response_tokens
    own = rows(ppo.batch_size, ppo.batch_size)
    number = rows(ppo.micro_batch_size, ppo.batch_size // ppo.num_minibatches)
    bodies = 2 if ppo.value_model == "separate" else 1
    reference = 0 if rank else plain  # adapters switched off
    frozen = reference + plain
    trunk = ppo.batch_size * width * sizes.hidden * size if adapted < sizes.layers else 0
    # Weights side by side for sampling: in bfloat16 all are copied, in float32 those that multiply one input.
    packed = size * (sizes.layers * sizes.block + sizes.vocabulary * sizes.hidden)
    if model.dtype != "bfloat16":
        packed = size * sizes.layers * (sizes.block - sizes.hidden * (sizes.queries + sizes.intermediate))
    answered = number * ppo.max_response_tokens
    update = gradients(adapted) + kept(number, width, adapted) + logits(answered)  # of one model after the other
    if ppo.entropy_coef > 0:  # its gradient needs all logits at once
        update += 3 * 4 * answered * sizes.vocabulary
    cache = size * sizes.layers * 2 * sizes.keys * own * width
    scoring = size * 3 * sizes.intermediate * rows(ppo.micro_batch_size, ppo.batch_size) * width
    before = frozen + cache + packed + scoring
    # Freed arrays stay, and the update finds little room among what sampling and scoring have left; unless so many
    # weights are trained that it pays to clear up between them.
    most = max(before, HOLES * update) if bodies * trained(adapted) > MANY_WEIGHTS else before + update
    yield "ppo", bodies * states(adapted) + trunk + most


SHARES = {
    "bfloat16": {"rollout": 0.45, "score": 0.7, "update": 0.6},
    "float32": {"rollout": 0.55, "score": 0.8, "update": 0.7},
}
"""Of the machine's rate in this number format, in the products of each phase. What is no product takes as long in
either."""
ITERATION_SECONDS = 0.2
"""Of an iteration beside its passes: judges, batches, metrics, a checkpoint."""
CALL_SECONDS = 0.4e-3
"""What a call of a block costs beside its products."""
WEIGHT_SECONDS = 2e-9
"""Of each trained weight and backward pass: its gradient is added to what is there, and now and then a step taken."""


def _step_seconds(config: RecipeConfig, sizes: Sizes, gflops: float, share: float) -> float:
    """One iteration of stage 4: sample, score, update."""
    ppo, rank = config.ppo, config.model.lora_rank
    adapted, bodies = ppo.lora_layers or sizes.layers, 2 if ppo.value_model == "separate" else 1
    phases = Phases(sizes, sizes, sizes.layers - adapted, 1 if rank else 2, bodies == 2)
    prompt = round(sum(config.data.prompt_tokens) / 2)
    prompts = [prompt] * ppo.batch_size
    answered = [round(share * ppo.max_response_tokens)] * ppo.batch_size
    needed = phases.operations(prompts, answered, prompts[:: ppo.group_size], ppo.epochs)
    passes = ppo.batch_size / min(ppo.micro_batch_size, ppo.batch_size // ppo.num_minibatches)
    calls = ppo.max_response_tokens * sizes.layers
    calls += passes * (3 * sizes.layers + 3 * ppo.epochs * bodies * adapted)
    trained = bodies * (adapted * sizes.adapters(rank) if rank else sizes.weights)
    return (
        ITERATION_SECONDS
        + calls * CALL_SECONDS
        + passes * ppo.epochs * trained * WEIGHT_SECONDS
        + sum(needed[phase] / used for phase, used in SHARES[config.model.dtype].items()) / gflops / 1e9
    )


def memory_gb(proc: Path = Path("/proc"), group: Path = Path("/sys/fs/cgroup")) -> float:
    """What this process may have in all: what it has, what the machine has available, or what its control group still
    allows if that is less. Files that the system only keeps at hand count as available."""
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError, KeyError):  # no Linux
        own = _numbers(proc / "self" / "status")["VmRSS"] * 1024
        free = own + _numbers(proc / "meminfo")["MemAvailable"] * 1024
        with suppress(OSError, ValueError, KeyError):  # no limit, which is the word "max"
            most, used = (int((group / f"memory.{name}").read_text(encoding="ascii")) for name in ("max", "current"))
            free = min(free, own + most - used + _numbers(group / "memory.stat")["inactive_file"])
    return free / 1e9


def imported_gb(proc: Path = Path("/proc")) -> float:
    """What this process has, which is to have imported what a run does and to hold no model yet."""
    with suppress(OSError, ValueError, KeyError):
        return _numbers(proc / "self" / "status")["VmRSS"] * 1024 / 1e9
    return IMPORTED_GB


def _numbers(path: Path) -> dict[str, int]:
    """Word ↦ the number after it, of each line that has one."""
    rows = (line.replace(":", " ").split() for line in path.read_text(encoding="utf-8").splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}


def refuse_what_does_not_fit(
    config: RecipeConfig,
    stages: Collection[str],
    free_gb: float,
    processes: int = 1,
    imported_gb: float = IMPORTED_GB,
) -> None:
    """
    Args:
        stages: those that are to be run.
        free_gb: for each process.
        imported_gb: what a process has before it holds a model.
    Raises:
        ConfigError: the plan needs more than `free_gb` by more than it is off; it names the smallest change that fits.
    """

    def worst(changes: Mapping[str, Any]) -> tuple[float, str]:
        """How much the stage needs that needs most, and which it is."""
        known = plan(changed_config(config, changes), processes=processes, imported_gb=imported_gb)
        return max(
            ((gb, stage) for stage, gb in (known.gb if known else {}).items() if stage in stages), default=(0, "")
        )

    gb, stage = worst({})
    if gb <= (1 + OFF) * free_gb:
        return
    says = f"This run needs about {gb:.1f} GB in stage {stage}, and {free_gb:.1f} GB are free."
    for changes in _smaller(config, worst):
        smaller = worst(changes)[0]
        if smaller <= free_gb:
            words = " ".join(f"--set {key}={value}" for key, value in changes.items())
            raise ConfigError(f"{says} Type {words}, which needs about {smaller:.1f} GB.")
    raise ConfigError(f"{says} No smaller micro-batch, shared value or adapter fits. Choose a smaller model.")


def _smaller(
    config: RecipeConfig, worst: Callable[[Mapping[str, Any]], tuple[float, str]]
) -> Iterator[Mapping[str, Any]]:
    """Changes that save memory, the smallest first: what changes no result, then what changes the method. It is always
    the micro-batch of the stage that needs most that is halved, while that helps, so a stage that fits is left as it
    is."""
    method: dict[str, Any] = {}
    methods = [method]
    if config.ppo.value_model == "separate":
        methods.append(method := method | {"ppo.value_model": "shared"})
    if config.model.lora_rank == 0:
        methods.append(method | {"model.lora_rank": 16})
    for changes in methods:
        if changes:
            yield changes
        gb, stage = worst(changes)
        while stage:
            section = getattr(changed_config(config, changes), stage)
            rows = min(section.micro_batch_size, section.batch_size) if stage != "rm" else section.micro_batch_size
            changes = changes | {f"{stage}.micro_batch_size": max(1, rows // 2)}
            before, (gb, stage) = gb, worst(changes)
            if gb >= before:
                break
            yield changes
