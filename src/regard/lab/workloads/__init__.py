"""The tasks of the lab. Likelihoods of the review are counted on those in `regard.lab.fit.TUNING`; all but `facts` were
held out until they were measured, and no rule is tuned on `packing`."""

from regard.errors import ConfigError
from regard.lab.workloads.base import Phrases, Workload
from regard.lab.workloads.facts import Facts
from regard.lab.workloads.menus import Menus
from regard.lab.workloads.orders import Orders
from regard.lab.workloads.packing import Packing
from regard.lab.workloads.sorting import Sorting

WORKLOADS: dict[str, Workload] = {
    workload.name: workload for workload in (Facts(), Sorting(), Orders(), Menus(), Packing())
}


def workload_named(name: str) -> Workload:
    """Raises ConfigError where there is none."""
    if name not in WORKLOADS:
        raise ConfigError(f"No workload named {name!r}. Type one of: {', '.join(WORKLOADS)}.")
    return WORKLOADS[name]


__all__ = ["WORKLOADS", "Facts", "Menus", "Orders", "Packing", "Phrases", "Sorting", "Workload", "workload_named"]
