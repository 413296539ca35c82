"""What a configuration will need before it is run: peak memory of each stage, and the time of a step of stage 4.

Memory is counted, not measured: weights with their gradients and moments, what a forward pass keeps for its backward
pass, logits, copies that are made for sampling and for saving. Time is the operations of an iteration
(`models/sizes.py`) over the machine's measured rate. The constants below were measured; how far off a plan is stands in
docs/experiments.md and is measured again by `benchmarks/planner.py`.
"""

import json
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regard.config import ModelConfig, RecipeConfig, changed_config, value_at
from regard.data.assets import ASSETS, default_cache
from regard.errors import ConfigError
from regard.models.sizes import Phases, Sizes, logits_chunk

PROCESS_GB, JUDGES_GB = 0.75, 0.07
"""Of a process with its libraries and texts before it holds a model, and of the judges of stage 4."""
SPARE = 1.08
"""Bytes that the allocator holds per byte that is asked for."""
LOGITS_COPIES = 4
"""Arrays of the size of the logits that are alive at once: they, their exponentials, gradients."""
SHORT = 128
"""Tokens, as in `models.attention`."""
OFF = 0.15
"""By how much a plan of memory may be off, of what was measured."""
TEXTS_PER_GROUP, TOKENS_PER_TEXT = 30, 33
"""Of the fetched ratings: a group of comparisons is a block of so many texts."""


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


def plan(config: RecipeConfig, gflops: float | None = None) -> Plan | None:
    """The cost of `config`; None where the sizes of its model are not known here.

    Args:
        gflops: what this machine makes of a product of large matrices in the configuration's dtype.
    """
    sizes = sizes_for(config.model)
    if sizes is None:
        return None
    gb = {stage: PROCESS_GB + SPARE * count / 1e9 for stage, count in _bytes(config, sizes)}
    return Plan(gb, None if gflops is None else _step_seconds(config, sizes, gflops))


def sizes_for(model: ModelConfig) -> Sizes | None:
    """Of the initial model; None for one that is not on this machine yet, or whose blocks are not a Llama's."""
    if model.source == "scratch":
        shape = model.scratch
        width, inner = shape.hidden_size, shape.hidden_size * 8 // 3 // 8 * 8  # as in `models.loading.build_scratch`
        return Sizes(width, inner, width, width, shape.num_layers, shape.vocab_size, shape.num_heads)
    directory = default_cache() / model.source if model.source in ASSETS else Path(model.source)
    try:
        return Sizes.of_config(json.loads((directory / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def kept_bytes(sizes: Sizes, dtype: str, rank: int, length: int) -> float:
    """What a block keeps of a token for the backward pass, in bytes; counted with torch's hooks on saved tensors.

    Args:
        length: tokens of a sequence; where it is short, attention in bfloat16 keeps the weights of all pairs.
    """
    if dtype == "bfloat16":
        pairs = 5 * sizes.heads * length if length <= SHORT else 0
        return 8.7 * sizes.intermediate + 19.7 * sizes.hidden + 7 * sizes.keys + 26 * rank + pairs
    if rank:
        return 16 * sizes.intermediate + 24 * sizes.hidden + 8 * sizes.keys + 28 * rank
    return 16 * sizes.intermediate + 32 * sizes.hidden + 8 * sizes.keys


def _bytes(config: RecipeConfig, sizes: Sizes) -> Iterator[tuple[str, float]]:
    """(stage, bytes that it allocates at its worst moment)."""
    model, sft, rm, ppo = config.model, config.sft, config.rm, config.ppo
    rank, size = model.lora_rank, 2 if model.dtype == "bfloat16" else 4
    prompt, plain = config.data.prompt_tokens[1], size * sizes.weights
    # A saved model is read again in float32 where adapters are merged into it, and turned into the bytes of a file.
    saved = 8 * sizes.weights if rank else 4 * sizes.weights

    def logits(tokens: float) -> float:
        return LOGITS_COPIES * 4 * min(logits_chunk(sizes.vocabulary), tokens) * sizes.vocabulary

    def trained(layers: int = sizes.layers) -> float:
        """Weights with gradients and moments."""
        return plain + 16 * layers * sizes.adapters(rank) if rank else 16 * sizes.weights

    def kept(rows: float, length: int, layers: int = sizes.layers) -> float:
        return rows * length * layers * kept_bytes(sizes, model.dtype, rank, length)

    if model.source == "scratch":
        rows = min(config.pretrain.micro_batch_size, config.pretrain.batch_size)
        tokens = rows * config.pretrain.sequence_tokens
        whole = tokens * sizes.layers * kept_bytes(sizes, "float32", 0, 0)  # no adapters yet
        yield "pretrain", 16 * sizes.weights + max(4 * sizes.weights, whole + logits(tokens))
    rows = min(sft.micro_batch_size, sft.batch_size)
    answered = rows * sft.max_response_tokens
    yield "sft", trained() + max(saved, kept(rows, prompt + sft.max_response_tokens) + logits(answered))
    ratings = config.data.comparisons in ASSETS
    group, tokens = (TEXTS_PER_GROUP, TOKENS_PER_TEXT) if ratings else (2, rm.max_text_tokens)
    texts = min(rm.batch_size * group, max(group, rm.micro_batch_size))  # a group is never split
    yield "rm", trained() + max(saved, kept(texts, tokens))
    adapted = ppo.lora_layers or sizes.layers
    rows = min(ppo.micro_batch_size, ppo.batch_size // ppo.num_minibatches)
    width = prompt + ppo.max_response_tokens
    bodies = 2 if ppo.value_model == "separate" else 1
    reference = 0 if rank else plain  # adapters switched off
    models = bodies * trained(adapted) + reference + plain
    trunk = ppo.batch_size * width * sizes.hidden * size if adapted < sizes.layers else 0
    packed = size * sizes.layers * sizes.block
    update = bodies * kept(rows, width, adapted) + logits(rows * ppo.max_response_tokens)
    # Small arrays come from the heap, and what sampling and scoring leave there is not given back before the update.
    cache = size * sizes.layers * 2 * sizes.keys * ppo.batch_size * width
    scoring = size * 3 * sizes.intermediate * min(ppo.micro_batch_size, ppo.batch_size) * width
    yield "ppo", JUDGES_GB * 1e9 + models + trunk + cache + scoring + max(packed, update)


SHARES = {"rollout": 0.4, "score": 0.6, "update": 0.6}
"""Of the machine's rate, in the products of each phase."""
CALL_SECONDS = 0.4e-3
"""What a call of a block costs beside its products."""
FULL = 0.95
"""Tokens of a response, as a share of the most."""


def _step_seconds(config: RecipeConfig, sizes: Sizes, gflops: float) -> float:
    """One iteration of stage 4: sample, score, update."""
    ppo, rank = config.ppo, config.model.lora_rank
    adapted, bodies = ppo.lora_layers or sizes.layers, 2 if ppo.value_model == "separate" else 1
    phases = Phases(sizes, sizes, sizes.layers - adapted, 1 if rank else 2, bodies == 2)
    prompt = round(sum(config.data.prompt_tokens) / 2)
    prompts = [prompt] * ppo.batch_size
    answered = [round(FULL * ppo.max_response_tokens)] * ppo.batch_size
    needed = phases.operations(prompts, answered, prompts[:: ppo.group_size], ppo.epochs)
    passes = ppo.batch_size / min(ppo.micro_batch_size, ppo.batch_size // ppo.num_minibatches)
    calls = ppo.max_response_tokens * sizes.layers
    calls += passes * (3 * sizes.layers + 3 * ppo.epochs * bodies * adapted)
    return calls * CALL_SECONDS + sum(needed[phase] / share for phase, share in SHARES.items()) / gflops / 1e9


def memory_gb() -> float:
    """What this process may have: what the machine has available, and what its control group allows if that is less."""
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
        group = Path("/sys/fs/cgroup")
        most = (group / "memory.max").read_text(encoding="ascii").strip()
        if most != "max":
            free = min(free, int(most) - int((group / "memory.current").read_text(encoding="ascii")))
    except (OSError, ValueError, StopIteration):  # no Linux, or no limit
        pass
    return free / 1e9


def refuse_what_does_not_fit(config: RecipeConfig, stages: Collection[str], free_gb: float) -> None:
    """
    Args:
        stages: those that are to be run.
    Raises:
        ConfigError: the plan needs more than `free_gb` by more than it is off; it names the smallest change that fits.
    """
    needed = _worst(config, stages)
    if needed is None or needed[1] <= (1 + OFF) * free_gb:
        return
    stage, gb = needed
    says = f"This run needs about {gb:.1f} GB in stage {stage}, and {free_gb:.1f} GB are free."
    for changes in _smaller(config, stages):
        _, smaller = _worst(changed_config(config, changes), stages) or ("", gb)
        if smaller <= free_gb:
            words = " ".join(f"--set {key}={value}" for key, value in changes.items())
            raise ConfigError(f"{says} Type {words}, which needs about {smaller:.1f} GB.")
    raise ConfigError(f"{says} No smaller micro-batch, shared value or adapter fits. Choose a smaller model.")


def _worst(config: RecipeConfig, stages: Collection[str]) -> tuple[str, float] | None:
    """The stage that needs most, and how much; None where nothing is known."""
    known = plan(config)
    return max(
        ((stage, gb) for stage, gb in (known.gb if known else {}).items() if stage in stages),
        key=lambda one: one[1],
        default=None,
    )


def _smaller(config: RecipeConfig, stages: Collection[str]) -> Iterator[Mapping[str, Any]]:
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
        worst = _worst(changed_config(config, changes), stages)
        while worst is not None:
            key = f"{worst[0]}.micro_batch_size"
            rows = value_at(changed_config(config, changes).model_dump(), key)
            changes = changes | {key: max(1, rows // 2)}
            before, worst = worst, _worst(changed_config(config, changes), stages)
            if worst is None or worst[1] >= before[1]:
                break
            yield changes
