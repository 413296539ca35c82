"""The order of the work: what each stage is, and what must be there before it starts."""

from regard.errors import ConfigError

STAGES = (
    "initial policy (pre-train + SFT)",
    "collect ranked outputs",
    "train reward model",
    "RL fine-tune policy with RM as signal",
)
"""The four stages of RLHF, in order (Ouyang et al. 2022, arXiv 2203.02155, figure 2, whose second step is two here)."""

STAGE_KEYS = ("pretrain", "sft", "rm", "ppo", "eval")
"""The programs that do them, in the order they run. `pretrain` and `sft` are stage 1, `rm` stage 3, `ppo` stage 4.
Stage 2, collecting comparisons, is the data that `rm` reads. `eval` measures the outcome and is no stage of RLHF."""

NEEDS: dict[str, frozenset[str]] = {
    "pretrain": frozenset(),
    "sft": frozenset(),  # pretrain only if the model starts from nothing, which the recipe says, not the order
    "rm": frozenset({"sft"}),
    "ppo": frozenset({"sft", "rm"}),
    "eval": frozenset({"sft", "rm", "ppo"}),
}
"""What each stage reads the result of. `rm` needs `sft` because the outputs that people compare are those of the
initial policy."""


_BEGINNING = ("seed", "model", "data.reviews", "data.max_reviews", "eval.num_prompts")
STAGE_READS: dict[str, tuple[str, ...]] = {
    "pretrain": (*_BEGINNING, "pretrain"),
    "sft": (*_BEGINNING, "pretrain", "data.prompt_tokens", "sft"),
    # score calibration samples from the SFT model, so the cap and the temperature count too
    "rm": (*_BEGINNING, "pretrain", "data", "sft", "rm", "ppo.max_response_tokens", "ppo.temperature"),
}
"""Configuration keys that decide the outcome of each stage before stage 4."""


def check_order(done: set[str], stage: str) -> None:
    """Refuse to start a stage before what it needs.

    Args:
        done: keys of the stages that are complete.
        stage: key of the stage about to start.
    Raises:
        ConfigError: the stage is unknown, or something it needs is not done.
    """
    if stage not in NEEDS:
        raise ConfigError(f"there is no stage '{stage}'. Use one of: {', '.join(STAGE_KEYS)}.")
    missing = [key for key in STAGE_KEYS if key in NEEDS[stage] - done]
    if missing:
        raise ConfigError(f"stage '{stage}' needs {' and '.join(missing)} first. Run `regard train {missing[0]}`.")
