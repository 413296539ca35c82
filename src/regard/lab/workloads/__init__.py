"""The tasks of the lab. Likelihoods of the review are counted on `facts`, `sorting` and `orders`; the latter two were
held out until they were measured. No rule had seen `menus` when it was measured."""

from regard.errors import ConfigError
from regard.lab.workloads.base import Phrases, Workload
from regard.lab.workloads.facts import Facts
from regard.lab.workloads.menus import Menus
from regard.lab.workloads.orders import Orders
from regard.lab.workloads.sorting import Sorting

WORKLOADS: dict[str, Workload] = {workload.name: workload for workload in (Facts(), Sorting(), Orders(), Menus())}


def workload_named(name: str) -> Workload:
    """Raises ConfigError where there is none."""
    if name not in WORKLOADS:
        raise ConfigError(f"No workload named {name!r}. Type one of: {', '.join(WORKLOADS)}.")
    return WORKLOADS[name]


__all__ = ["WORKLOADS", "Facts", "Menus", "Orders", "Phrases", "Sorting", "Workload", "workload_named"]
