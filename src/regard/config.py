"""What a recipe may say: frozen pydantic models, one per stage.

A recipe is a YAML file that shows only what differs from these defaults; `--set ppo.kl_coef=0.05` overrides one value.
Unknown keys are refused with the nearest known one. The resolved whole is written to `RUN/config.yaml`.
"""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from regard.errors import ConfigError
from regard.runlog.environment import multiplies_bfloat16


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ScratchConfig(_Section):
    """A small Llama trained from nothing, with its own byte-level BPE."""

    vocab_size: int = Field(default=4096, ge=300, description="entries of the byte-level BPE, special tokens included")
    hidden_size: int = Field(default=192, ge=16, description="width of the residual stream")
    num_layers: int = Field(default=4, ge=1, description="Transformer blocks")
    num_heads: int = Field(default=4, ge=1, description="attention heads; must divide hidden_size")

    @model_validator(mode="after")
    def _heads_divide(self) -> "ScratchConfig":
        if self.hidden_size % (2 * self.num_heads):
            raise ValueError("hidden_size must be an even multiple of num_heads, or rotary positions have no pairs")
        return self


class ModelConfig(_Section):
    """Where the initial policy comes from."""

    source: str = Field(default="scratch", description="'scratch', a fetched model (smollm2-135m), a path, or a hub id")
    scratch: ScratchConfig = Field(default_factory=ScratchConfig, description="used when source is 'scratch'")
    dtype: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="of weights and activations in a forward pass; what is trained is stepped in float32 and rounded. "
        "'auto' becomes bfloat16 on a processor that multiplies it, else float32",
    )
    lora_rank: int = Field(
        default=0, ge=0, description="rank of the LoRA adapters on all linear layers; 0 trains every weight"
    )

    @model_validator(mode="before")
    @classmethod
    def _resolve_auto(cls, values: Any) -> Any:
        """At once, so that the record says what the run did and a resume on another machine is compared with it."""
        if isinstance(values, dict) and values.get("dtype") == "auto":
            return values | {"dtype": "bfloat16" if multiplies_bfloat16() else "float32"}
        return values


class DataConfig(_Section):
    """Texts, prompts and comparisons. The defaults are the fetched sets; a path takes your own file."""

    reviews: str = Field(default="imdb-reviews", description="fetched set for SFT texts, prompts and the gold judge")
    max_reviews: int = Field(
        default=0, ge=0, description="reviews used of each part (SFT texts, prompts, the judge's); 0 is all"
    )
    comparisons: str = Field(
        default="movie-ratings", description="fetched ratings, or a file `regard data check` accepts"
    )
    prompt_tokens: tuple[int, int] = Field(
        default=(4, 8), description="least and most tokens of a review that make a prompt"
    )
    max_rm_groups: int = Field(
        default=0, ge=0, description="comparison groups used to train the reward model; 0 is all"
    )


class _Optimisation(_Section):
    steps: int = Field(default=100, ge=1, description="optimiser steps")
    batch_size: int = Field(
        default=32, ge=1, description="sequences (rm: comparison groups) per step over all processes"
    )
    micro_batch_size: int = Field(
        default=32, ge=1, description="sequences per forward pass; changes memory, never the result"
    )
    learning_rate: float = Field(default=1e-3, gt=0, description="peak of the schedule")
    warmup_steps: int = Field(default=10, ge=0, description="steps of linear rise from 0; then linear fall to a tenth")
    max_grad_norm: float = Field(default=1.0, gt=0, description="gradients of a model are scaled down to this L2 norm")
    checkpoint_every: int = Field(
        default=1, ge=1, description="steps between checkpoints; more than 1 loses that many at a kill"
    )
    keep_every: int = Field(
        default=0, ge=0, description="every so many steps a checkpoint is kept for good; 0 keeps none"
    )


class PretrainConfig(_Optimisation):
    """Next-token prediction on whole reviews, when the model starts from nothing."""

    steps: int = Field(default=150, ge=1, description="optimiser steps")
    sequence_tokens: int = Field(default=128, ge=8, description="length of a training window")
    learning_rate: float = Field(default=3e-3, gt=0, description="peak of the schedule")


class SFTConfig(_Optimisation):
    """Supervised fine-tuning on responses; the prompt's tokens carry no loss."""

    max_response_tokens: int = Field(
        default=32, ge=2, description="responses longer than this, EOS included, are left out"
    )


class RewardModelConfig(_Optimisation):
    """Pairwise ranking; `batch_size` counts groups and `steps` is derived from `epochs`."""

    steps: int = Field(default=0, ge=0, description="0 derives the steps from epochs; a number stops earlier")
    epochs: int = Field(default=1, ge=1, description="passes over the comparisons; a large body over-fits after one")
    batch_size: int = Field(default=2, ge=1, description="comparison groups per step")
    micro_batch_size: int = Field(default=64, ge=1, description="texts per forward pass when only scoring")
    max_text_tokens: int = Field(default=96, ge=4, description="longer texts lose their beginning")
    body: Literal["initial", "random"] = Field(
        default="initial",
        description="start from the initial model, or (scratch only) from random weights of its shape: a short "
        "pre-training teaches that what stands before EOS does not matter, which ranking must first unlearn",
    )
    center_penalty: float = Field(default=0.001, ge=0, description="weight of E[(r_chosen + r_rejected)^2]")


class PPOConfig(_Optimisation):
    """Online PPO with a KL leash to the frozen reference."""

    algorithm: Literal["ppo", "a2c", "grpo", "rloo"] = Field(
        default="ppo",
        description="a2c: one epoch without ratio or clip. grpo, rloo: no value; a response is compared with the "
        "others to its prompt (group_size), so gae_lambda and value_* do nothing",
    )
    group_size: int = Field(
        default=1, ge=1, description="responses to each prompt; batch_size is a multiple of it. grpo and rloo need 2"
    )
    steps: int = Field(default=30, ge=1, description="iterations of sample, score, update")
    batch_size: int = Field(default=64, ge=1, description="rollouts per iteration over all processes")
    learning_rate: float = Field(default=1e-4, gt=0, description="of the policy; the value head takes ten times it")
    warmup_steps: int = Field(
        default=2, ge=0, description="iterations of linear rise from 0; then linear fall to a tenth"
    )
    epochs: int = Field(default=2, ge=1, description="passes over the rollouts of one iteration")
    num_minibatches: int = Field(default=2, ge=1, description="optimiser steps per pass")
    max_response_tokens: int = Field(
        default=24, ge=1, description="the cap; a response without EOS by then is truncated"
    )
    temperature: float = Field(
        default=1.0, gt=0, description="of sampling; scoring divides by it too, so ratios stay right"
    )
    clip_range: float | None = Field(
        default=0.2, description="epsilon of the clipped surrogate; null turns clipping off"
    )
    clip_form: Literal["standard", "course"] = Field(
        default="standard", description="course: min(ratio, 1+eps) times A"
    )
    value_clip_range: float | None = Field(
        default=0.2, description="epsilon of the clipped value loss; null turns it off"
    )
    value_coef: float = Field(default=0.1, ge=0, description="weight of the value loss")
    value_model: Literal["shared", "separate"] = Field(
        default="shared", description="head on the policy's body, or own body"
    )
    entropy_coef: float = Field(default=0.0, ge=0, description="weight of the entropy bonus; 0 is off")
    gamma: float = Field(default=1.0, gt=0, le=1, description="discount per token")
    gae_lambda: float = Field(
        default=0.95, ge=0, le=1, description="0 is the one-step TD advantage, 1 reward-to-go minus V"
    )
    whiten_advantages: bool = Field(default=True, description="zero mean, unit deviation over the whole batch's tokens")
    kl_coef: float = Field(default=0.05, ge=0, description="beta: score units per nat; the start value when adaptive")
    kl_target: float | None = Field(default=None, description="null keeps kl_coef fixed; a number adapts it to this KL")
    kl_target_unit: Literal["nats/sequence", "nats/token"] = Field(
        default="nats/sequence", description="unit of kl_target"
    )
    kl_horizon: int = Field(
        default=1000, ge=1, description="rollouts over which the adaptive coefficient corrects itself"
    )
    early_stop_kl: float | None = Field(
        default=0.1, description="old-to-new 0.5*mean(dlogp^2) that ends an iteration's epochs"
    )
    missing_eos_penalty: float = Field(
        default=1.0, ge=0, description="subtracted from the score of a truncated response"
    )
    scale_scores: bool = Field(default=True, description="divide scores by their deviation on SFT samples (recorded)")
    keep_every: int = Field(default=10, ge=0, description="every so many iterations a checkpoint is kept for good")
    lora_layers: int = Field(
        default=0,
        ge=0,
        description="adapters on so many of the last Transformer blocks; 0 is all. What the blocks below make of a "
        "rollout is then computed once per iteration; needs model.lora_rank",
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        description="draws of stage 4 alone, to repeat it on the same SFT and reward model; by default the run's seed",
    )

    @model_validator(mode="before")
    @classmethod
    def _full_support_sampling(cls, values: Any) -> Any:
        for key in ("top_p", "top_k", "min_p", "repetition_penalty", "min_length"):
            if isinstance(values, dict) and key in values:
                raise ValueError(
                    f"{key} samples from another distribution than the one that is scored, so ratio and KL would be "
                    f"wrong; remove it (temperature is corrected for and may be set)"
                )
        return values

    @model_validator(mode="before")
    @classmethod
    def _groups_are_not_whitened(cls, values: Any) -> Any:
        """Said in the record, which a reviewer reads."""
        if isinstance(values, dict) and values.get("algorithm") in ("grpo", "rloo"):
            if values.get("whiten_advantages"):
                raise ValueError(
                    f"algorithm {values['algorithm']} compares within groups: set whiten_advantages to false"
                )
            return values | {"whiten_advantages": False}
        return values

    @model_validator(mode="after")
    def _consistent(self) -> "PPOConfig":
        if self.batch_size % self.num_minibatches:
            raise ValueError(f"batch_size={self.batch_size} is no multiple of num_minibatches={self.num_minibatches}")
        if self.algorithm == "a2c" and self.epochs != 1:
            raise ValueError("algorithm a2c has no ratio to correct for stale rollouts: set epochs to 1")
        if self.batch_size % self.group_size:
            raise ValueError(f"batch_size={self.batch_size} is no multiple of group_size={self.group_size}")
        if not self.has_critic and self.group_size < 2:
            raise ValueError(f"algorithm {self.algorithm} compares responses to one prompt: set group_size, to 8 say")
        if not self.has_critic and self.gamma < 1:
            raise ValueError(f"algorithm {self.algorithm} compares whole responses: leave gamma at 1")
        if not self.has_critic and self.value_model == "separate":
            raise ValueError(f"algorithm {self.algorithm} has no value: leave value_model at shared")
        return self

    @property
    def has_critic(self) -> bool:
        """Whether a value is learned, or the other responses to a prompt stand in for it."""
        return self.algorithm in ("ppo", "a2c")


class EvalConfig(_Section):
    """Before and after on held-out prompts."""

    num_prompts: int = Field(default=256, ge=8, description="held-out prompts, the same for SFT and policy")
    judge_reviews: int = Field(default=6000, ge=200, description="reviews the gold judge is fitted on")
    bootstrap: int = Field(default=10000, ge=100, description="resamples of the paired difference")


class RecipeConfig(_Section):
    """A whole run."""

    recipe: str = Field(default="unnamed", description="name, as shown in the report")
    seed: int = Field(default=1, ge=0, description="every random draw is a function of it, the stage and the step")
    threads: int = Field(
        default=0,
        ge=0,
        description="CPU threads per process; 0 is OMP_NUM_THREADS where that is set, else every core, shared among "
        "the processes",
    )
    model: ModelConfig = Field(default_factory=ModelConfig)
    data: DataConfig = Field(default_factory=DataConfig)
    pretrain: PretrainConfig = Field(default_factory=PretrainConfig)
    sft: SFTConfig = Field(default_factory=SFTConfig)
    rm: RewardModelConfig = Field(default_factory=RewardModelConfig)
    ppo: PPOConfig = Field(default_factory=PPOConfig)
    eval: EvalConfig = Field(default_factory=EvalConfig)

    @model_validator(mode="after")
    def _random_body_has_a_shape(self) -> "RecipeConfig":
        if self.rm.body == "random" and self.model.source != "scratch":
            raise ValueError("rm.body random needs model.source scratch: only there is the shape of the body known")
        return self

    @model_validator(mode="after")
    def _prompts_are_left(self) -> "RecipeConfig":
        if 0 < self.data.max_reviews <= self.eval.num_prompts:
            raise ValueError(
                f"data.max_reviews={self.data.max_reviews} leaves stage 4 no prompt: "
                f"eval.num_prompts={self.eval.num_prompts} of them are held out"
            )
        return self

    @model_validator(mode="after")
    def _lora_layers_need_adapters(self) -> "RecipeConfig":
        if self.ppo.lora_layers and not self.model.lora_rank:
            raise ValueError("ppo.lora_layers needs model.lora_rank > 0: without adapters every block is trained")
        return self

    @property
    def ppo_seed(self) -> int:
        """Seed of every draw of stage 4."""
        return self.seed if self.ppo.seed is None else self.ppo.seed

    @property
    def stages(self) -> tuple[str, ...]:
        start = ("pretrain",) if self.model.source == "scratch" else ()
        return (*start, "sft", "rm", "ppo", "eval")


def recipe_dirs() -> list[Path]:
    """The checkout's recipes/ when running from one, else those inside the wheel."""
    here = Path(__file__).resolve().parent
    return [d for d in (here.parent.parent / "recipes", here / "recipes") if d.is_dir()]


def list_recipes() -> dict[str, Path]:
    return {p.stem: p for d in reversed(recipe_dirs()) for p in sorted(d.glob("*.yaml"))}


def load_recipe(name_or_path: str, overrides: list[str] | None = None) -> RecipeConfig:
    """Read a recipe by name or path and apply `a.b=c` overrides.

    Raises:
        ConfigError: unknown recipe or key, impossible value, broken YAML.
    """
    path = Path(name_or_path)
    if not path.is_file():
        known = list_recipes()
        if name_or_path not in known:
            raise ConfigError(f"No recipe or file named {name_or_path!r}. Type one of: {', '.join(sorted(known))}.")
        path = known[name_or_path]
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
        raise ConfigError(f"{path}:{where}: not valid YAML. Mend that line and run again.") from error
    if raw is None:
        raise ConfigError(f"{path}:1: the file is empty. Start from a copy of recipes/tiny.yaml.")
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}:1: a recipe is a mapping of sections. Start from a copy of recipes/tiny.yaml.")
    raw.setdefault("recipe", path.stem)
    for override in overrides or []:
        put_value(raw, *split_override(override))
    return parse_config(raw, str(path))


def parse_config(raw: dict[str, Any], where: str) -> RecipeConfig:
    try:
        return RecipeConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(_one_sentence(error, where)) from error


def split_override(override: str, option: str = "--set") -> tuple[str, Any]:
    """`a.b=c` as dotted key and value.

    Raises:
        ConfigError: no '=', or a value that is no YAML.
    """
    key, sign, text = override.partition("=")
    if not sign or not key:
        raise ConfigError(f"{option} {override!r} has no '='. Type for example {option} ppo.kl_coef=0.05.")
    try:
        return key.strip(), yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{option} {override!r}: the value is not valid YAML. Quote it.") from error


def put_value(raw: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key, known or not; `parse_config` knows which are.

    Raises:
        ConfigError: a part before the last is a value.
    """
    *parents, last = key.split(".")
    node = raw
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise ConfigError(f"{key}: {parent!r} is a value, not a section. Check the key.")
    node[last] = value


def value_at(plain: dict[str, Any], key: str) -> Any:
    """The value under a dotted key. Raises KeyError where there is none."""
    value: Any = plain
    for part in key.split("."):
        if not isinstance(value, dict):
            raise KeyError(key)
        value = value[part]
    return value


def changed_config(config: RecipeConfig, changes: Mapping[str, Any]) -> RecipeConfig:
    """`config` with other values under dotted keys; as strict as a recipe.

    Raises:
        ConfigError: an unknown key or an impossible value.
    """
    plain = config.model_dump(mode="json")
    if "ppo.algorithm" in changes:
        del plain["ppo"]["whiten_advantages"]  # its default is that of the algorithm
    for key, value in changes.items():
        put_value(plain, key, value)
    return parse_config(plain, "the changed configuration")


def _one_sentence(error: ValidationError, where: str) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        section: Any = RecipeConfig
        for part in first["loc"][:-1]:
            section = section.model_fields[part].annotation
        known = list(section.model_fields)
        near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known keys: {', '.join(known)}."
        return f"{where}: unknown key {key!r}. {hint}"
    message = first["msg"].removeprefix("Value error, ")
    given = "" if isinstance(first.get("input"), dict) else f" (given {first.get('input')!r})"
    if not key:
        return f"{where}: {message}{given}. Change it in the file or with --set."
    return f"{where}: {key}: {message}{given}. Change it in the file or with --set {key}=VALUE."
