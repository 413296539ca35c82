"""What a fault or a control may change. Each is a function of a `Setup`, called before any stage runs.

Ways to change a run, from what a person could have done to what only a bug does:

    setup.set("ppo.kl_coef", 0.001)           configuration; it shows in config.yaml as a user's would
    setup.scale("ppo.learning_rate", 30)
    setup.writer = …                          who wrote the SFT answers        (prompt, random) ↦ response
    setup.pair_writer = …                     who wrote the compared answers
    setup.rater = …                           one person's vote                (prompt, first, second, random) ↦ bool
    setup.on_examples(f)                      SFT examples ↦ SFT examples
    setup.on_reward_data(f)                   RewardData ↦ RewardData, after the votes were counted
    setup.on_prompts(f)                       prompts of stage 4 ↦ prompts
    setup.wrap(scorer=lambda inner: …)        any field of `regard.train.ppo.Parts` ↦ its replacement
    setup.on_parts(f)                         Parts ↦ Parts, where one field is not enough
    setup.on_record(f)                        the finished run directory; for oddities of measurement only

A wrapper that acts from the middle of stage 4 on asks `setup.active`: it is false before iteration `setup.onset`, and
always true where the fault is there from the start. Wrappers are called while parts are assembled, so
`setup.context` (configuration, run, finished stages) and `setup.event(…)` are there by then.

Randomness: `setup.random("name")` gives a `random.Random` that depends on the run's seed and the name alone.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any, Literal

from regard.config import RecipeConfig, parse_config
from regard.lab.workloads.base import Rater, Workload, Writer
from regard.rollout.protocols import Prompt
from regard.train.corpus import Example, RewardData
from regard.train.ppo import Parts
from regard.train.seeds import derive
from regard.train.stage import Context

Severity = Literal["mild", "medium", "severe"]
Start = Literal["start", "mid"]

BASE_CONFIG: dict[str, Any] = {
    "threads": 1,
    "pretrain": {"checkpoint_every": 100_000},
    "rm": {"checkpoint_every": 100_000},
    "ppo": {"checkpoint_every": 100_000, "warmup_steps": 2},
    "eval": {"num_prompts": 64, "bootstrap": 1000},
}
"""A lab run is cheaper to repeat than to resume; but SFT keeps checkpoints, since a fault refers to an earlier one."""


@dataclass
class Clock:
    """The iteration of stage 4 that is going on; the prompt source sets it, since it is asked first."""

    step: int = 0


@dataclass
class Setup:
    workload: Workload
    seed: int
    severity: Severity = "medium"
    start: Start = "start"
    config: dict[str, Any] = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)
    writer: Writer = None  # type: ignore[assignment]
    pair_writer: Writer = None  # type: ignore[assignment]
    rater: Rater = None  # type: ignore[assignment]
    examples_hooks: list[Callable[[list[Example]], list[Example]]] = field(default_factory=list)
    reward_data_hooks: list[Callable[[RewardData], RewardData]] = field(default_factory=list)
    prompts_hooks: list[Callable[[list[Prompt]], list[Prompt]]] = field(default_factory=list)
    parts_hooks: list[Callable[[Parts], Parts]] = field(default_factory=list)
    record_hooks: list[Callable[[Path], None]] = field(default_factory=list)
    context: Context = None  # type: ignore[assignment]
    """Set when the stages begin."""

    def __post_init__(self) -> None:
        base = {"recipe": self.workload.name, "seed": self.seed}
        base["data"] = {"reviews": self.workload.name, "comparisons": self.workload.name}
        self.config = merge(merge(base, BASE_CONFIG), merge(self.workload.config, self.config))
        self.writer = self.pair_writer = self.workload.write
        self.rater = self.workload.rate

    # configuration

    def get(self, key: str) -> Any:
        """The value of a dotted key, the default where nothing was set."""
        value: Any = self.recipe()
        for part in key.split("."):
            value = getattr(value, part)
        return value

    def set(self, key: str, value: Any) -> None:
        *parents, last = key.split(".")
        node = self.config
        for part in parents:
            node = node.setdefault(part, {})
        node[last] = value

    def scale(self, key: str, factor: float) -> None:
        self.set(key, self.get(key) * factor)

    def recipe(self) -> RecipeConfig:
        """Raises ConfigError where a combination is impossible."""
        return parse_config(copy.deepcopy(self.config), self.workload.name)

    # data and parts

    def on_examples(self, change: Callable[[list[Example]], list[Example]]) -> None:
        self.examples_hooks.append(change)

    def on_reward_data(self, change: Callable[[RewardData], RewardData]) -> None:
        self.reward_data_hooks.append(change)

    def on_prompts(self, change: Callable[[list[Prompt]], list[Prompt]]) -> None:
        self.prompts_hooks.append(change)

    def on_parts(self, change: Callable[[Parts], Parts]) -> None:
        self.parts_hooks.append(change)

    def wrap(self, **wrappers: Callable[[Any], Any]) -> None:
        """Replace fields of Parts: `wrap(scorer=lambda inner: Doubled(inner))`."""
        self.on_parts(
            lambda parts: replace(parts, **{name: wrap(getattr(parts, name)) for name, wrap in wrappers.items()})
        )

    def on_record(self, change: Callable[[Path], None]) -> None:
        self.record_hooks.append(change)

    # time and chance

    @property
    def onset(self) -> int:
        """First iteration (counted from 0) of stage 4 on which a mid-run fault acts: between 25 % and 45 % of them.

        Later the policy of a lab run hardly samples any more what a fault would pay for, and most faults do nothing.
        """
        if self.start == "start":
            return 0
        steps = self.get("ppo.steps")
        return int(steps * (0.25 + 0.2 * Random(derive(self.seed, "onset")).random()))

    @property
    def active(self) -> bool:
        return self.clock.step >= self.onset

    def choose(self, mild: Any, medium: Any, severe: Any) -> Any:
        """By severity."""
        return {"mild": mild, "medium": medium, "severe": severe}[self.severity]

    def random(self, *names: object) -> Random:
        return Random(derive(self.seed, "lab", *names))

    def event(self, kind: str, **fields: Any) -> None:
        """An event of stage 4, as a trainer would have written it."""
        self.context.run.stage("ppo").event(kind, **fields)


class Wrapped:
    """A part that does what `inner` does, but for the methods that a subclass gives."""

    def __init__(self, inner: Any, setup: Setup) -> None:
        self.inner = inner
        self.setup = setup

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it, section by section; neither is changed."""
    out = copy.deepcopy(base)
    for key, value in changes.items():
        inside = out.get(key)
        out[key] = (
            merge(inside, value) if isinstance(inside, dict) and isinstance(value, dict) else copy.deepcopy(value)
        )
    return out
