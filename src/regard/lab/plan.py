"""Which runs a benchmark makes. The list is a function of its arguments and of the registries of faults and controls.

A control has a seed, and so a reward model, of its own: what one reward model happens to overpay, every run under it
finds, and thirty runs would count one accident thirty times.

Runs of the first seed come first, with a round of the controls among them, so a benchmark that was broken off has a bit
of everything.
"""

from dataclasses import dataclass
from itertools import combinations
from random import Random

from regard.errors import ConfigError
from regard.lab.controls import CONTROLS
from regard.lab.faults import Fault, faults_named
from regard.lab.setup import Severity, Start

LEAST = 5
"""Runs that every fault gets, however few severities and starts it has."""
PAIR_SEVERITY: Severity = "medium"
CONTROL_SEEDS = 100
"""Controls have the seeds above; faults those below."""


@dataclass(frozen=True)
class Job:
    """One run. `name` is its directory and never changes, so a finished job is recognised."""

    workload: str
    seed: int
    faults: tuple[str, ...] = ()
    severity: Severity = "medium"
    start: Start = "start"
    control: str | None = None

    @property
    def name(self) -> str:
        what = f"control-{self.control}" if self.control else "-".join((*self.faults, self.severity, self.start))
        return f"{self.workload}-{what}-s{self.seed}".replace(" ", "_")


def plan(
    workload: str,
    *,
    seeds: int = 2,
    controls: int = 200,
    pairs: int = 40,
    quick: bool = False,
    only: tuple[str, ...] = (),
) -> list[Job]:
    """The jobs of a benchmark.

    Args:
        seeds: runs of every fault at every severity and start, at most CONTROL_SEEDS; a fault with few of those gets
            more, LEAST in all.
        controls: at least that many runs without a fault, the same number of each control, each with its own seed; and
            beside them, if any, the healthy run of each fault's seed, which says what a fault cost.
        pairs: runs with two faults of different stages.
        quick: each fault once, each control once, and two pairs: to see that it works, not how well.
        only: ids of faults, to leave the others and the pairs out.
    Raises:
        ConfigError: an id in `only` is not a fault, or there are too many seeds.
    """
    if seeds > CONTROL_SEEDS:
        raise ConfigError(
            f"Seeds above {CONTROL_SEEDS} are those of the controls. Give --seeds {CONTROL_SEEDS} or less."
        )
    faults = faults_named(only)
    if quick:
        seeds, controls, pairs = 1, min(controls, 1), min(pairs, 2)
    jobs = [job for fault in faults for job in _of_fault(workload, fault, seeds, quick)]
    if controls:
        jobs += [Job(workload, seed, control="healthy") for seed in sorted({job.seed for job in jobs})]
        each = -(-controls // len(CONTROLS))
        names = sorted(CONTROLS) * each
        jobs += [Job(workload, seed, control=name) for seed, name in enumerate(names, start=CONTROL_SEEDS + 1)]
    if not only:
        jobs += _pairs(workload, faults, pairs)
    return sorted(jobs, key=_round)


def _round(job: Job) -> int:
    return job.seed if job.seed <= CONTROL_SEEDS else -(-(job.seed - CONTROL_SEEDS) // len(CONTROLS))


def _of_fault(workload: str, fault: Fault, seeds: int, quick: bool) -> list[Job]:
    cells: list[tuple[Severity, Start]] = [(how, since) for since in fault.starts for how in fault.severities]
    if quick:
        middle = fault.severities[len(fault.severities) // 2]
        return [Job(workload, 1, (fault.id,), middle, fault.starts[0])]
    return [
        Job(workload, seed, (fault.id,), severity, start)
        for seed in range(1, max(seeds, -(-LEAST // len(cells))) + 1)
        for severity, start in cells
    ]


def _pairs(workload: str, faults: list[Fault], number: int) -> list[Job]:
    """Different stages, since two faults of one place can undo each other and are then not two."""
    eligible = [
        (one.id, other.id)
        for one, other in combinations(faults, 2)
        if one.stage != other.stage
        and all(PAIR_SEVERITY in fault.severities and "start" in fault.starts for fault in (one, other))
    ]
    Random(0).shuffle(eligible)
    return [Job(workload, 1, pair, PAIR_SEVERITY, "start") for pair in eligible[:number]]
