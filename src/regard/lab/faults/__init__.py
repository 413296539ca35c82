"""The planted faults, one short function a cause, by the ids of the causes that the review names.

    @fault("K1", stage="kl", starts=("start", "mid"))
    def kl_coefficient_too_low(setup: Setup) -> None:
        "What is changed, and how severity scales it."
        setup.scale("ppo.kl_coef", setup.choose(0.3, 0.1, 0.0))

A fault changes a `Setup` (see `regard.lab.setup`) and nothing else. It scales with
`setup.choose(mild, medium, severe)`; one that can begin in the middle of stage 4 asks `setup.active` inside its
wrapper. Several modules of this package hold the functions; importing the package registers all of them.
"""

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import get_args

from regard.errors import ConfigError
from regard.lab.setup import Setup, Severity, Start

SEVERITIES: tuple[Severity, ...] = get_args(Severity)


@dataclass(frozen=True)
class Fault:
    id: str
    stage: str
    """Where the root is: data, sft, reward model, critic, policy optimisation, kl, rollout, infrastructure."""
    apply: Callable[[Setup], None]
    severities: tuple[Severity, ...]
    starts: tuple[Start, ...]

    @property
    def summary(self) -> str:
        return " ".join((self.apply.__doc__ or "").strip().split("\n\n")[0].split())


FAULTS: dict[str, Fault] = {}


def fault(
    id: str,
    *,
    stage: str,
    severities: tuple[Severity, ...] = SEVERITIES,
    starts: tuple[Start, ...] = ("start",),
) -> Callable[[Callable[[Setup], None]], Callable[[Setup], None]]:
    """Register the decorated function as the fault of cause `id`."""

    def register(apply: Callable[[Setup], None]) -> Callable[[Setup], None]:
        assert id not in FAULTS, f"two faults for {id}"
        FAULTS[id] = Fault(id, stage, apply, severities, starts)
        return apply

    return register


def faults_named(only: Sequence[str] = ()) -> list[Fault]:
    """The faults with these ids, all of them where none is given, by id.

    Raises:
        ConfigError: an id in `only` is not a fault.
    """
    unknown = sorted(set(only) - FAULTS.keys())
    if unknown:
        raise ConfigError(f"No fault {unknown[0]!r} in the lab. Type regard lab list.")
    return [FAULTS[one] for one in sorted(FAULTS) if not only or one in only]


def apply_fault(id: str, setup: Setup) -> None:
    """Raises ConfigError for an unknown fault, or a severity or start that it has not."""
    if id not in FAULTS:
        raise ConfigError(f"No fault {id!r} in the lab. Type regard lab list.")
    one = FAULTS[id]
    for what, given, known in (("severity", setup.severity, one.severities), ("start", setup.start, one.starts)):
        if given not in known:
            raise ConfigError(f"{id} has no {what} {given!r}. Type one of: {', '.join(known)}.")
    one.apply(setup)


for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
