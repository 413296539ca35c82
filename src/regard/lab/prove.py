"""How often the experiment of `regard verify` proves the right fix of a planted fault, and how seldom a wrong one.

A patient is a run with one planted fault, or with none. Its experiment has the controls of `verify` (unchanged,
placebo, generic) on paired seeds of stage 4, and one arm more for each remedy that is tried:

- **removed**: the fault is taken out again where it was planted, in configuration, data or code. That is the right fix
  by construction. The arm is the plain run of the same seeds, so all faults share it.
- **proposed**: what the entry of the true cause says to change, where that is a key of the patient's configuration.
- **wrong**: what the entry of another cause says to change, look-alikes first. Not taken are changes of a key that the
  fault has set or that its own cause names: such a fix may be right. A fix in code that is not at fault changes
  nothing, so it is not tried: nothing can be proven with it.

The judge is `regard.verify.judge`, which knows nothing of what was planted. What has to go away are the findings of the
patient's own review that the cause explains; all of them where it explains none, as with a fix that names no cause. A
healthy run without a finding has nothing to go away, so nothing can be proven on it, and its share is 0 unless the
review was wrong.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Literal

from regard.config import RecipeConfig, value_at
from regard.errors import ConfigError
from regard.lab.bench import Say, aligned, origin, progress
from regard.lab.faults import SEVERITIES, apply_fault, faults_named
from regard.lab.run import run_lab, truth_path
from regard.lab.score import plain, share
from regard.lab.setup import Setup, Severity
from regard.lab.workers import work
from regard.lab.workloads import workload_named
from regard.review import Review, review
from regard.review.causes import all_causes
from regard.review.diagnosis import accounts_for
from regard.review.facts import Facts
from regard.runlog.files import to_json, write_atomic
from regard.runlog.reader import read_run
from regard.train.seeds import derive
from regard.verify.arms import CONTROLS, FIX, UNCHANGED, control_arms, executable
from regard.verify.experiment import stage_4_seconds
from regard.verify.judge import ArmRun, Target, judge, read_arm

Kind = Literal["removed", "proposed", "wrong"]


@dataclass(frozen=True)
class Patient:
    """One run whose fix is looked for; `fault` is None where nothing was planted."""

    workload: str
    seed: int
    fault: str | None
    severity: Severity

    @property
    def name(self) -> str:
        what = f"{self.fault}-{self.severity}" if self.fault else "healthy"
        return f"{self.workload}-{what}-s{self.seed}"

    def config(self) -> RecipeConfig:
        setup = Setup(workload_named(self.workload), self.seed, self.severity)
        if self.fault:
            apply_fault(self.fault, setup)
        return setup.recipe()

    @property
    def healthy(self) -> "Patient":
        return Patient(self.workload, self.seed, None, "medium")


@dataclass(frozen=True)
class Remedy:
    """A fix that is tried on a patient; the changes of `removed` are empty, its arm is the healthy run."""

    kind: Kind
    cause: str
    changes: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Run:
    """One run of one arm. `name` is its directory and never changes, so a finished run is recognised."""

    patient: Patient
    changes: tuple[tuple[str, Any], ...]
    number: int
    """Of the paired seed, from 0."""

    @property
    def name(self) -> str:
        words = "+".join(f"{key}={value}" for key, value in sorted(self.changes))
        return "-".join(filter(None, (self.patient.name, words, f"n{self.number}")))


def patients(workload: str, severity: str, runs: int, controls: int, only: Sequence[str] = ()) -> list[Patient]:
    """Every fault that can be there from the start `runs` times, at `severity` or the strongest that it has, and
    `controls` healthy runs.

    Raises:
        ConfigError: no such severity, or an id in `only` is not a fault.
    """
    how = next((one for one in SEVERITIES if one == severity), None)
    if how is None:
        raise ConfigError(f"No severity {severity!r}. Type one of: {', '.join(SEVERITIES)}.")
    found = [
        Patient(workload, seed, one.id, how if how in one.severities else one.severities[-1])
        for seed in range(1, runs + 1)
        for one in faults_named(only)
        if "start" in one.starts
    ]
    return found + [Patient(workload, seed, None, "medium") for seed in range(1, controls + 1)]


def arms_of(patient: Patient, remedies: Mapping[str, Remedy], number: int) -> dict[str, Run]:
    """The runs that one more paired seed needs, by arm: the controls, and one for each remedy by its name."""
    controls = {
        arm.name: Run(patient, tuple((key, new) for key, (_, new) in arm.changes.items()), number)
        for arm in control_arms(patient.config())
    }
    fixes = {
        name: Run(patient.healthy if one.kind == "removed" else patient, one.changes, number)
        for name, one in remedies.items()
    }
    return controls | fixes


def remedies_for(patient: Patient, run: Path) -> list[Remedy]:
    """What is tried on a patient whose unchanged run is `run`."""
    config, facts = patient.config(), Facts(read_run(run))
    before, after = (one.config().model_dump(mode="json") for one in (patient, patient.healthy))
    proposals = {
        one.id: [
            (change["key"], change["to"])
            for change in (each.resolve(facts) for each in one.changes)
            if executable(config, change)
        ]
        for one in all_causes().values()
    }
    found: list[Remedy] = []
    if patient.fault:
        found.append(Remedy("removed", patient.fault))
        found += [Remedy("proposed", patient.fault, (change,)) for change in proposals[patient.fault][:1]]
    like = list(all_causes()[patient.fault].look_alikes) if patient.fault else []
    others = [one for one in proposals if one not in like]
    Random(derive(patient.seed, "wrong", patient.fault)).shuffle(others)
    own = {key for key, _ in proposals[patient.fault]} if patient.fault else set[str]()
    wrong = [
        Remedy("wrong", one, (change,))
        for one in (*like, *others)
        if one != patient.fault
        for change in proposals.get(one, [])[:1]
        if change[0] not in own and value_at(before, change[0]) == value_at(after, change[0])
    ]
    return found + wrong[:1]


@cache
def reviewed(run: Path) -> Review:
    return review(read_run(run))


def target_of(cause: str, patient_run: Path) -> Target:
    """What the review found and the cause explains; all that it found where the cause explains nothing."""
    found = {one.detector.code for one in reviewed(patient_run).findings if one.severity != "info"}
    entry = all_causes()[cause]
    explained = {code for code in found if accounts_for(entry, code)}
    return Target(frozenset(explained or found), cause)


def train_arm(task: tuple[Run, Path]) -> None:
    """One run, in a process of the pool."""
    run, out = task
    shutil.rmtree(out, ignore_errors=True)
    patient = run.patient
    run_lab(
        patient.workload,
        patient.seed,
        patient.fault,
        patient.severity,
        changes={**dict(run.changes), "ppo.seed": patient.seed + run.number},
        out=out,
        keep_models=False,
    )


@dataclass(frozen=True)
class Question:
    """A patient, the remedies that are still open by their arms' names, and how many paired seeds there are by now."""

    patient: Patient
    remedies: Mapping[str, Remedy]
    seeds: int
    records: Path

    @property
    def name(self) -> str:
        return self.patient.name


def decide(question: Question) -> dict[str, dict[str, Any]]:
    """The judgement of each remedy, by its arm's name, in a process of the pool. Where the training of an arm failed,
    the remedy is not proven."""
    patient, records = question.patient, question.records
    rows: dict[str, dict[str, Any]] = {}
    for fix, remedy in question.remedies.items():
        plans = [arms_of(patient, {fix: remedy}, number) for number in range(question.seeds)]
        target = target_of(remedy.cause, records / plans[0][UNCHANGED].name)
        row = {
            "patient": patient.name, "fault": patient.fault, "severity": patient.severity, "seed": patient.seed,
            "kind": remedy.kind, "cause": remedy.cause, "changes": dict(remedy.changes),
            "failure": sorted(target.codes) or target.cause, "seeds": question.seeds,
        }  # fmt: skip
        lost = sorted(
            run.name for plan in plans for run in plan.values() if not truth_path(records / run.name).is_file()
        )
        if lost:
            rows[fix] = row | {"outcome": "not proven", "cured": False, "open": False,
                               "reasons": [f"{lost[0]} could not be trained."],
                               "against": {}, "seconds": 0.0}  # fmt: skip
            continue
        arms: dict[str, list[ArmRun]] = {}
        for number, plan in enumerate(plans):
            for name in (*CONTROLS, fix):
                place, arm = records / plan[name].name, name.partition(" ")[0]
                one = read_arm(place, arm, patient.seed + number, target, reviewed(place))
                arms.setdefault(arm, []).append(one)
        said = judge(arms, changed_keys(patient, remedy))
        rows[fix] = row | {
            "outcome": said.outcome, "cured": said.cured, "open": said.open, "reasons": list(said.reasons),
            "against": {name: [gap.mean, gap.low, gap.high] for name, gap in said.against.items()},
            "seconds": sum(stage_4_seconds(read_run(one.path)) for runs in arms.values() for one in runs),
        }  # fmt: skip
    return rows


def changed_keys(patient: Patient, remedy: Remedy) -> list[str]:
    """The keys of configuration that a remedy changes."""
    if remedy.kind != "removed":
        return [key for key, _ in remedy.changes]
    before, after = (one.config().model_dump(mode="json") for one in (patient, patient.healthy))
    return [
        f"{section}.{key}"
        for section, values in before.items()
        if isinstance(values, dict)
        for key, value in values.items()
        if after[section].get(key) != value
    ]


def prove(
    chosen: Sequence[Patient],
    out: Path,
    *,
    seeds: int = 3,
    max_seeds: int = 6,
    workers: int = 2,
    limit: float = 600.0,
    say: Say = print,
) -> dict[str, Any]:
    """Run every experiment, judge, and write `prove.json` and `prove.txt` into `out`; returns the former.

    Args:
        seeds: paired seeds before anything is said; while an answer is open, they are added up to `max_seeds`.
        limit: seconds that one run may take.
    Raises:
        ConfigError: no experiment could be judged.
    """
    records = out / "runs"
    records.mkdir(parents=True, exist_ok=True)
    failed: dict[str, str] = {}

    def make(runs: Sequence[Run]) -> None:
        missing = [one for one in dict.fromkeys(runs) if not truth_path(records / one.name).is_file()]
        tasks = [(one, records / one.name) for one in missing if one.name not in failed]
        for done in progress("run", work(train_arm, tasks, workers=workers, limit=limit), len(tasks), say):
            if done.error is not None:
                failed[done.task[0].name] = done.error
                shutil.rmtree(records / done.task[0].name, ignore_errors=True)

    make([Run(one, (), 0) for one in chosen])
    going = {
        one: {f"{FIX} {at}": remedy for at, remedy in enumerate(remedies_for(one, place))}
        for one in chosen
        if truth_path(place := records / Run(one, (), 0).name).is_file()
    }
    rows: dict[tuple[Patient, str], dict[str, Any]] = {}
    for number in range(max_seeds):
        make([run for one, remedies in going.items() for run in arms_of(one, remedies, number).values()])
        if number + 1 < seeds:
            continue
        questions = [Question(one, remedies, number + 1, records) for one, remedies in going.items()]
        for done in progress("judge", work(decide, questions, workers=workers, limit=limit), len(questions), say):
            if done.error is not None:
                failed[done.task.name] = done.error
                going.pop(done.task.patient)
                continue
            rows |= {(done.task.patient, name): row for name, row in done.value.items()}
            still = {name: done.task.remedies[name] for name, row in done.value.items() if row["open"]}
            going[done.task.patient] = still
        going = {one: remedies for one, remedies in going.items() if remedies}
        if not going:
            break
    if not rows:
        raise ConfigError(f"No experiment could be judged ({next(iter(failed.values()), 'none was planned')}).")
    trials = list(rows.values())
    made = [path.with_name(path.name.removesuffix(".truth.json")) for path in sorted(records.glob("*.truth.json"))]
    result = {**origin(made), "seeds": seeds, "max_seeds": max_seeds, "scores": scores(trials), "trials": trials,
              "failed": failed}  # fmt: skip
    write_atomic(out / "prove.json", (to_json(plain(result), indent=1) + "\n").encode(), sync=False)
    write_atomic(out / "prove.txt", table(result).encode(), sync=False)
    return result


def scores(trials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Shares of remedies that are proven, and that are proven or at least cure (`Judgement.cured`), by what was tried
    on which runs; of the faults with their ids, so that one can see which never are."""
    sick = [row for row in trials if row["fault"]]
    right, proposed, wrong = ([row for row in sick if row["kind"] == kind] for kind in ("removed", "proposed", "wrong"))
    groups = {
        "removed": right,
        "removed_where_the_failure_came_again": _again(right),
        "removed_where_it_gains_gold": [row for row in _again(right) if row["against"].get(UNCHANGED, (0, 0))[1] > 0],
        "proposed": proposed,
        "proposed_where_the_failure_came_again": _again(proposed),
        "wrong": wrong,
        "wrong_where_the_failure_came_again": _again(wrong),
        "healthy": [row for row in trials if not row["fault"]],
    }
    seconds = sorted(row["seconds"] for row in trials)
    return {
        **{name: share(rows, _proven) for name, rows in groups.items()},
        "cured": {name: share(rows, lambda row: _proven(row) or row["cured"]) for name, rows in groups.items()},
        "causes": len({row["fault"] for row in right}),
        "by_cause": {
            fault: share([row for row in right if row["fault"] == fault], _proven)
            for fault in sorted({row["fault"] for row in right})
        },
        "median_seconds": seconds[len(seconds) // 2],
    }


def _proven(row: Mapping[str, Any]) -> bool:
    return row["outcome"] == "proven"


def _again(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Experiments in which the failure came again without the change."""
    return [row for row in rows if row["outcome"] != "cannot be decided"]


ROWS = {
    "removed": ("the fault taken out", "≥ 80 %"),
    "removed_where_the_failure_came_again": ("… where the failure came again", ""),
    "removed_where_it_gains_gold": ("… and taking it out surely gains gold", ""),
    "proposed": ("the change that its cause proposes", ""),
    "proposed_where_the_failure_came_again": ("… where the failure came again", ""),
    "wrong": ("the change of another cause", "≤ 5 %"),
    "wrong_where_the_failure_came_again": ("… where the failure came again", ""),
    "healthy": ("any change to a healthy run", "≤ 5 %"),
}
"""What the table calls a group of experiments, and what is promised of it."""


def table(result: Mapping[str, Any]) -> str:
    """The result for a person."""
    found, trials = result["scores"], result["trials"]
    missed = [row for row in trials if row["kind"] == "removed" and not _proven(row)]
    wrong = [row for row in trials if row["kind"] == "wrong" and _proven(row)]
    return "\n".join([
        f"{found['causes']} causes, {len(trials)} experiments of {result['seeds']} to {result['max_seeds']} paired "
        f"seeds, median {found['median_seconds']:.0f} s of training each",
        "",
        *aligned([
            ["", "proven [95 %]", "promised", "proven or cured [95 %]"],
            *([words, found[name], promised, found["cured"][name]] for name, (words, promised) in ROWS.items()),
        ]),
        "",
        "By cause, the fault taken out",
        *aligned([["", "proven"], *([name, f"{one.hits}/{one.of}"] for name, one in found["by_cause"].items())]),
        "",
        "Not proven though right",
        *[f"  {row['patient']}: {row['outcome']}. {' '.join(row['reasons'])}" for row in missed],
        "",
        "Proven though of another cause",
        *[f"  {row['patient']}: {row['cause']} {_words(row['changes'])}" for row in wrong],
        "",
        *([f"Failed: {len(result['failed'])}"] if result["failed"] else []),
        *[f"  {name}: {why}" for name, why in result["failed"].items()],
    ])  # fmt: skip


def _words(changes: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in changes.items())
