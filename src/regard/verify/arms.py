"""What an experiment tries: configurations that differ from the run's own in one thing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from regard.config import RecipeConfig, parse_config
from regard.errors import ConfigError

UNCHANGED, PLACEBO, GENERIC, FIX = "unchanged", "placebo", "generic", "fix"
CONTROLS = (UNCHANGED, PLACEBO, GENERIC)


@dataclass(frozen=True)
class Arm:
    """One configuration to be run.

    Attributes:
        name: unchanged, placebo, generic or fix.
        config: what it runs with, of the run's own seed.
        changes: key to (before, after).
        why: what it is there to rule out.
    """

    name: str
    config: RecipeConfig
    changes: Mapping[str, tuple[Any, Any]]
    why: str


def plan_arms(config: RecipeConfig, fix: Mapping[str, Any]) -> tuple[Arm, ...]:
    """The three controls and the fix.

    Raises:
        ConfigError: the fix changes nothing, or is no valid configuration.
    """
    present = {key: value_at(config, key) for key in fix}
    if all(present[key] == value for key, value in fix.items()):
        raise ConfigError(f"The run already has {', '.join(f'{k}={v}' for k, v in fix.items())}. Give another --fix.")
    ppo = config.ppo
    half = {"ppo.micro_batch_size": max(1, ppo.micro_batch_size // 2)}
    generic = {"ppo.learning_rate": ppo.learning_rate / 2, "ppo.kl_coef": ppo.kl_coef * 2}
    return (
        Arm(UNCHANGED, config, {}, "whether the failure comes again"),
        _arm(PLACEBO, config, half, "how much a change that should not matter changes: other rounding"),
        _arm(GENERIC, config, generic, "whether anybody's first guess, a shorter step and a shorter leash, does it"),
        _arm(FIX, config, fix, "whether this change does it"),
    )


def _arm(name: str, config: RecipeConfig, changes: Mapping[str, Any], why: str) -> Arm:
    changed = changed_config(config, changes)
    return Arm(name, changed, {key: (value_at(config, key), value_at(changed, key)) for key in changes}, why)


def changed_config(config: RecipeConfig, changes: Mapping[str, Any]) -> RecipeConfig:
    """`config` with other values under dotted keys; as strict as a recipe.

    Raises:
        ConfigError: an unknown key or an impossible value.
    """
    plain = config.model_dump(mode="json")
    for key, value in changes.items():
        section = plain
        *path, last = key.split(".")
        for part in path:
            section = section[part]
        # A rule speaks in real numbers; where the configuration counts, so does the change.
        whole = isinstance(section.get(last), int) and isinstance(value, float) and value.is_integer()
        section[last] = int(value) if whole and not isinstance(section.get(last), bool) else value
    return parse_config(plain, "the changed configuration")


def value_at(config: RecipeConfig, key: str) -> Any:
    """The value under a dotted key.

    Raises:
        ConfigError: no such key.
    """
    value: Any = config
    for part in key.split("."):
        if not hasattr(value, part):
            raise ConfigError(f"No configuration key {key!r}. Type regard explain {key.split('.')[0]}.")
        value = getattr(value, part)
    return value


def executable(config: RecipeConfig, change: Mapping[str, Any]) -> bool:
    """Whether a change of a review is one that a re-run can make: a known key, a value rather than words."""
    to = change.get("to")
    try:
        present = value_at(config, str(change["key"]))
    except ConfigError:
        return False
    if isinstance(to, str) and not isinstance(present, str):
        return False
    return to is not None and to != present
