"""What the keys of a framework mean, in the terms of our registry.

A vocabulary maps each key to one declared metric, which fixes estimator, policies, reduction, mask and unit. Where the
meaning hangs on a setting, the entry is a function of the configuration, and without the setting it answers with a
declared "unknown" metric. Nothing is guessed from the size of a number.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, cast

Settings = Mapping[str, Any]
"""Configuration, nested; ask it with `setting`."""

Meaning = str | None | Callable[[Settings], str | None]
"""A metric key, None for a number that a review has no use for, or a function of the configuration."""


@dataclass(frozen=True)
class Vocabulary:
    """The keys of one trainer of one framework.

    Attributes:
        name: what `--from` takes.
        stage: stage of the run record its metrics belong to: sft, rm, ppo, grpo, rloo or dpo.
        keys: foreign key or pattern (`*` as in a shell) to meaning; an exact key goes before a pattern.
        fingerprint: keys that a log must have to be taken for this trainer's; empty: only by `--from`.
        prefixes: what the loggers put in front of a key.
        eval_prefixes: what they put in front of a key measured on held-out data.
        eval_keys: meanings of keys with such a prefix.
        settings: configuration keys that must be there too, where two trainers write the same keys.
        config_keys: settings of ours to the trainer's own, where they mean the same.
        source: where the meanings were read.
    """

    name: str
    stage: str
    keys: dict[str, Meaning]
    fingerprint: tuple[str, ...]
    source: str
    prefixes: tuple[str, ...] = ("train/",)
    eval_prefixes: tuple[str, ...] = ("eval_", "eval/")
    eval_keys: dict[str, Meaning] = field(default_factory=dict[str, Meaning])
    settings: tuple[str, ...] = ()
    config_keys: dict[str, str] = field(default_factory=dict[str, str])

    def fits(self, keys: set[str], config: Settings) -> bool:
        """Whether a log with these keys and this configuration is this trainer's."""
        bare = {self.strip(key) for key in keys}
        known = bool(self.fingerprint) and all(key in bare for key in self.fingerprint)
        return known and all(setting(config, key) is not None for key in self.settings)

    def strip(self, key: str) -> str:
        return next((key[len(p) :] for p in self.prefixes if key.startswith(p)), key)

    def meaning(self, key: str, config: Settings) -> tuple[bool, str | None]:
        """(whether the key is known, the metric it stands for or None where it is of no use)."""
        if key in self.keys:
            return True, _resolve(self.keys[key], config)
        for prefix in self.eval_prefixes:
            if key.startswith(prefix) and key[len(prefix) :] in self.eval_keys:
                return True, _resolve(self.eval_keys[key[len(prefix) :]], config)
        bare = self.strip(key)
        if bare in self.keys:
            return True, _resolve(self.keys[bare], config)
        for pattern in self.keys:
            if "*" in pattern and fnmatchcase(bare, pattern):
                return True, _resolve(self.keys[pattern], config)
        return False, None


def _resolve(meaning: Meaning, config: Settings) -> str | None:
    return meaning(config) if callable(meaning) else meaning


def setting(config: Settings, name: str) -> Any:
    """The value of a setting by its full dotted name, or by its last part where only one place has it; else None."""
    found: list[Any] = []
    stack: list[tuple[str, Any]] = [("", config)]
    while stack:
        path, node = stack.pop()
        if isinstance(node, Mapping):
            for key, value in cast(Mapping[Any, Any], node).items():
                stack.append((f"{path}.{key}".lstrip("."), value))
        elif path == name:
            return node
        elif path.rpartition(".")[2] == name:
            found.append(node)
    return found[0] if len(found) == 1 else None


ESTIMATORS = {"k1": "k1", "kl": "k1", "k2": "k2", "mse": "k2", "k3": "k3", "low_var_kl": "k3"}
"""Names of KL estimators in the frameworks' configurations, to ours. verl: `kl`, `mse`, `low_var_kl`."""


def kl_by(name: str, reduction: str) -> Callable[[Settings], str]:
    """KL to the reference whose estimator is the setting `name`."""

    def resolve(config: Settings) -> str:
        estimator = ESTIMATORS.get(str(setting(config, name)), "unknown")
        return f"kl/policy_ref_{estimator}/{reduction}"

    return resolve


HF_CONFIG_KEYS: dict[str, str] = {
    "ppo.learning_rate": "learning_rate",
    "ppo.warmup_steps": "warmup_steps",
    "ppo.max_grad_norm": "max_grad_norm",
    "ppo.batch_size": "per_device_train_batch_size",
}
"""For what samples; `batch_size` in responses of one process."""

HF_TRAINER: dict[str, Meaning] = {
    "grad_norm": "optim/grad_norm/last",
    "learning_rate": "optim/learning_rate/last",
    "num_tokens": "data/tokens/count",
    **dict.fromkeys(
        ("epoch", "total_flos", "train_loss", "train_runtime", "train_samples_per_second", "train_steps_per_second"),
        None,
    ),
    **dict.fromkeys(("step_time", "*runtime", "*samples_per_second", "*steps_per_second", "train_tokens_per_second")),
}
"""What the Hugging Face Trainer logs whatever is trained."""
