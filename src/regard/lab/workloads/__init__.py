"""The tasks of the lab. Likelihoods of the review are counted on `facts` and `sorting`, which was held out until it was
measured; no rule had seen `orders` when that was."""

from regard.errors import ConfigError
from regard.lab.workloads.base import Phrases, Workload
from regard.lab.workloads.facts import Facts
from regard.lab.workloads.orders import Orders
from regard.lab.workloads.sorting import Sorting

WORKLOADS: dict[str, Workload] = {workload.name: workload for workload in (Facts(), Sorting(), Orders())}


def workload_named(name: str) -> Workload:
    """Raises ConfigError where there is none."""
    if name not in WORKLOADS:
        raise ConfigError(f"No workload named {name!r}. Type one of: {', '.join(WORKLOADS)}.")
    return WORKLOADS[name]


__all__ = ["WORKLOADS", "Facts", "Orders", "Phrases", "Sorting", "Workload", "workload_named"]
