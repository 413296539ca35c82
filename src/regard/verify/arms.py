"""What an experiment tries: configurations that differ from the run's own in one thing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from regard.config import RecipeConfig, changed_config, value_at
from regard.errors import ConfigError

UNCHANGED, PLACEBO, GENERIC, FIX = "unchanged", "placebo", "generic", "fix"
CONTROLS = (UNCHANGED, PLACEBO, GENERIC)
WHY = {
    UNCHANGED: "whether the failure comes again",
    PLACEBO: "how much a change that should not matter changes: other rounding",
    GENERIC: "whether anybody's first guess, a shorter step and a shorter leash, does it",
    FIX: "whether this change does it",
}
"""Arm to what it is there to rule out."""


@dataclass(frozen=True)
class Arm:
    """One configuration to be run.

    Attributes:
        name: unchanged, placebo, generic or fix.
        config: what it runs with, of the run's own seed.
        changes: key to (before, after).
    """

    name: str
    config: RecipeConfig
    changes: Mapping[str, tuple[Any, Any]]


def plan_arms(config: RecipeConfig, fix: Mapping[str, Any]) -> tuple[Arm, ...]:
    """The three controls and the fix.

    Raises:
        ConfigError: the fix changes nothing, or is no valid configuration.
    """
    tried = _arm(FIX, config, fix)
    if all(old == new for old, new in tried.changes.values()):
        raise ConfigError(f"The run already has {', '.join(f'{k}={v}' for k, v in fix.items())}. Give another --fix.")
    return (*control_arms(config), tried)


def control_arms(config: RecipeConfig) -> tuple[Arm, ...]:
    """What every fix has to beat."""
    ppo = config.ppo
    half = {"ppo.micro_batch_size": max(1, ppo.micro_batch_size // 2)}
    generic = {"ppo.learning_rate": ppo.learning_rate / 2, "ppo.kl_coef": ppo.kl_coef * 2}
    return (_arm(UNCHANGED, config, {}), _arm(PLACEBO, config, half), _arm(GENERIC, config, generic))


def _arm(name: str, config: RecipeConfig, changes: Mapping[str, Any]) -> Arm:
    changed = changed_config(config, changes)
    before, after = (one.model_dump(mode="json") for one in (config, changed))
    return Arm(name, changed, {key: (value_at(before, key), value_at(after, key)) for key in changes})


def plain_changes(changes: Mapping[str, tuple[Any, Any]]) -> list[dict[str, Any]]:
    """What an arm changes, as JSON has it."""
    return [{"key": key, "from": old, "to": new} for key, (old, new) in changes.items()]


def executable(config: RecipeConfig, change: Mapping[str, Any]) -> bool:
    """Whether a change of a review is one that a re-run can make: a known key, and a value rather than words, which
    hold a blank."""
    to = change["to"]
    try:
        present = value_at(config.model_dump(mode="json"), change["key"])
    except KeyError:
        return False
    if to == present or (isinstance(to, str) and (not isinstance(present, str) or " " in to)):
        return False
    try:
        changed_config(config, {change["key"]: to})
    except ConfigError:
        return False
    return True
