"""The benchmark of the reviewer: lab runs whose truth is known, reviewed as any other run, counted.

`bench` makes the runs of `plan` (two processes, finished ones are kept), reviews each, and again without the datum that
decided, asks the peers, and writes a table, `bench.json` and `reliability.svg`.

What is counted, and as what:

- **positive**: the verdict is suspect or failed. `inconclusive` is not positive, and is counted apart for controls.
- **false positives**: positive controls, of four kinds: healthy; benign change (another setting that is fine too); odd
  but healthy; measurement oddity (the run is fine, its log is odd). Beside it the controls that get a diagnosed cause.
  Nothing is planted in a control, but a reward model of its own may be exploited all the same: those whose gold ends
  more than 0.1 below its best (means over a fifth of stage 4) count as false positives too, and have their own line.
- **recall**: positive runs with one planted fault, over all severities and starts, also where a mild fault did no harm.
- **top-1, top-3**: the planted cause is the first, or among the first three, that the review lists. Over all runs with
  one fault, so a run that is called healthy is a miss; below it the same of the positive runs alone (`faults_flagged`).
- **what the fault cost**: gold fell where the healthy run of the same seed ends more than 0.05 higher. A fault that the
  policy never met, or that its leash held, leaves nothing to find.
- **stage**: the first cause sits in the stage (data, SFT, reward model, …) of the planted one.
- **onset**: the interval that the review states for the *root* of the true cause holds the true step, to the step,
  where that cause is among the first three. A fault that is there from the start is first logged at step 1, so both 0
  and 1 are right for it: that is easy for causes in configuration, hence the split; the figure of `mid` is the hard
  one. There is no truth for when a symptom becomes visible; `symptom_not_before_root` counts the runs whose earliest
  finding does not end before the fault had begun.
- **diagnosed right, wrong**: a cause with the status diagnosed is, or is not, planted. A run can count in both.
- **pairs**: two faults at once; only their own lines, never in the figures above.
- **Brier score**: mean over all runs of the squared errors of the probabilities of all causes; `of_silence` is what a
  review that never names anything would get. It depends on how many controls there are.
- **reliability**: of the causes listed with a probability in a bin, the share that was planted; its mean distance from
  the stated one is the calibration error. The mix of faults and controls is the lab's, not the world's.
- **abstention**: see `withhold`; the share of runs that then do not name a wrong cause as diagnosed. Runs in which
  nothing that sets the cause apart was seen have nothing to take away, and are counted apart.

Shares have Wilson's 95 % intervals. A run that could not be trained is no case; it is listed under `failed`.
"""

import json
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from regard.errors import ConfigError, RegardError
from regard.lab import fit
from regard.lab.examine import case_of, examine, stored
from regard.lab.peers import PEERS, compare, run_peer
from regard.lab.plan import Job
from regard.lab.run import run_lab, truth_path
from regard.lab.score import Case, Share, plain, score
from regard.lab.workers import Done, work
from regard.runlog.environment import code_revision, hardware
from regard.runlog.files import to_json, write_atomic

Say = Callable[[str], None]


def train_job(task: tuple[Job, Path]) -> None:
    """One run, in a process of the pool; what an earlier attempt left is removed first."""
    job, out = task
    shutil.rmtree(out, ignore_errors=True)
    run_lab(
        job.workload, job.seed, job.faults, job.severity, job.start, control=job.control, out=out, keep_models=False
    )


def make_runs(jobs: Sequence[Job], records: Path, *, workers: int, limit: float, say: Say) -> dict[str, str]:
    """Train what is not there yet; returns the name of each job that failed and why."""
    failures = records / "failed.json"
    missing = [job for job in jobs if not truth_path(records / job.name).is_file()]
    if len(missing) < len(jobs):
        say(f"{len(jobs) - len(missing)} of {len(jobs)} runs are there already.")
    failed: dict[str, str] = {}
    tasks = [(job, records / job.name) for job in missing]
    for done in progress("run", work(train_job, tasks, workers=workers, limit=limit), len(tasks), say):
        job: Job = done.task[0]
        if done.error is not None:
            failed[job.name] = done.error
            shutil.rmtree(records / job.name, ignore_errors=True)
    write_atomic(failures, (json.dumps(failed, indent=1) + "\n").encode(), sync=False)
    return failed


def review_runs(
    runs: Sequence[Path], *, workers: int, limit: float, say: Say, any_tables: bool = False
) -> tuple[list[Case], dict[str, str]]:
    """The cases of these runs, and the name of each that could not be reviewed and why; see `examine.stored`."""
    kept = {run.name: one for run in runs if (one := stored(run, any_tables=any_tables)) is not None}
    missing = [run for run in runs if run.name not in kept]
    failed: dict[str, str] = {}
    for done in progress("review", work(examine, missing, workers=workers, limit=limit), len(missing), say):
        if done.error is None:
            kept[done.task.name] = done.value
        else:
            failed[done.task.name] = done.error
    return [case_of(run.name, kept[run.name]) for run in runs if run.name in kept], failed


def progress(what: str, results: Iterator[Done], number: int, say: Say) -> Iterator[Done]:
    """Pass the results on, with a line for each and the time that is left."""
    begun = time.monotonic()
    for at, done in enumerate(results, start=1):
        left = (time.monotonic() - begun) / at * (number - at)
        name = done.task[0].name if isinstance(done.task, tuple) else done.task.name
        end = f"{done.seconds:.1f} s" if done.error is None else f"FAILED: {done.error}"
        say(f"[{what} {at}/{number}] {name}: {end}; {_clock(left)} left")
        yield done


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02d}:{int(seconds) % 60:02d}"


def bench(
    jobs: Sequence[Job],
    out: Path,
    *,
    workers: int = 2,
    limit: float = 600.0,
    peers: bool = True,
    say: Say = print,
) -> dict[str, Any]:
    """Make, review and score; writes `bench.json`, `bench.txt` and `reliability.svg` into `out` and returns the former.

    Args:
        limit: seconds that one run, or one review, may take.
        peers: whether to ask the other diagnosers too.
    Raises:
        ConfigError: no run could be scored.
    """
    records = out / "runs"
    records.mkdir(parents=True, exist_ok=True)
    try:
        failed = make_runs(jobs, records, workers=workers, limit=limit, say=say)
        runs = [records / job.name for job in jobs if truth_path(records / job.name).is_file()]
        cases, unread = review_runs(runs, workers=workers, limit=limit, say=say)
    except KeyboardInterrupt:
        done = sum(truth_path(records / job.name).is_file() for job in jobs)
        raise ConfigError(
            f"Interrupted with {done} of {len(jobs)} runs on disk. Type the same command to go on."
        ) from None
    if not cases:
        why = next(iter((failed | unread).values()), "nothing was planned")
        raise ConfigError(f"No run could be scored ({why}). See {records}.")
    found: dict[str, dict[str, list[str]]] = {}
    absent: dict[str, str] = {}
    for peer in PEERS if peers else ():
        say(f"{peer.name} {peer.version} …")
        try:
            reviewed = [records / case.name for case in cases]
            found[f"{peer.name} {peer.version}"] = run_peer(peer, reviewed, out / "peers")
        except RegardError as error:  # the benchmark of our own review stands without them
            absent[peer.name] = str(error)
            say(str(error))
    result = {
        **provenance(sorted({job.workload for job in jobs}), len(jobs), cases, runs),
        "failed": failed | unread,
        "scores": score(cases),
        "compared": compare(cases, found),
        "peers_absent": absent,
        "peer_findings": found,
    }
    write_atomic(out / "bench.json", (to_json(plain(result), indent=1) + "\n").encode(), sync=False)
    write_atomic(out / "bench.txt", table(result).encode(), sync=False)
    draw_reliability(result["scores"]["reliability"], out / "reliability.svg", say)
    return result


def provenance(workloads: list[str], planned: int, cases: Sequence[Case], runs: Sequence[Path]) -> dict[str, Any]:
    """Where the numbers come from."""
    return {
        **origin(runs),
        "workloads": workloads,
        "seeds": sorted({case.seed for case in cases}),
        "faults": len({case.roots for case in cases if len(case.roots) == 1}),
        "runs": {"planned": planned, "scored": len(cases)},
    }


def origin(runs: Sequence[Path]) -> dict[str, Any]:
    """Of this call and of these runs. `record_revisions`: of the code that made the runs, which are kept between
    calls."""
    revision, diff = code_revision()
    made: dict[str, int] = {}
    for run in runs:
        by = json.loads((run / "run.json").read_text(encoding="utf-8")).get("git_revision") or "unknown"
        made[by] = made.get(by, 0) + 1
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "revision": revision,
        "uncommitted_changes": bool(diff),
        "record_revisions": made,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": hardware()["cpu"],
    }


def fit_runs(directories: Sequence[Path], out: Path | None, *, workers: int, say: Say) -> dict[str, Any]:
    """Count benchmarks' runs into the likelihoods of the review; see `fit`.

    Args:
        directories: the `out` of benchmarks of tuning workloads.
        out: file to write; default the one that the inference reads.
    Raises:
        ConfigError: a directory holds no runs, or runs of another workload.
    """
    runs: list[Path] = []
    for directory in directories:
        truths = sorted((directory / "runs").glob("*.truth.json"))
        if not truths:
            raise ConfigError(f"{directory} holds no lab runs. Type regard lab bench --out {directory}.")
        for other in {json.loads(path.read_text(encoding="utf-8"))["workload"] for path in truths} - set(fit.TUNING):
            raise ConfigError(
                f"{directory} holds runs of {other}, which no rule may be tuned on. "
                f"Give benchmarks of {' or '.join(fit.TUNING)}."
            )
        runs += [path.with_name(path.name.removesuffix(".truth.json")) for path in truths]
    cases, failed = review_runs(runs, workers=workers, limit=600, say=say, any_tables=True)
    settings = fit.search(cases)
    now = fit.present()
    path = out or fit.LIKELIHOODS
    workloads = sorted({case.workload for case in cases})
    text = fit.likelihoods(cases, provenance(workloads, len(runs), cases, runs))
    write_atomic(path, text.encode(), sync=False)
    constants = (now["strength"], now["temperature"], now["absent"])
    return {
        "path": str(path),
        "runs": len(cases),
        "failed": failed,
        "settings": settings,
        "present": fit.judge(cases, fit.leave_out(cases, *constants)),
        "stated": fit.judge(cases, fit.without_counts(cases, *constants)),
    }


# What is printed


def table(result: dict[str, Any]) -> str:
    """The result for a person."""
    scores = result["scores"]
    faults, controls, abstained = scores["faults"], scores["controls"], scores["abstention"]
    flagged = scores["faults_flagged"]
    lines = [
        f"{', '.join(result['workloads'])}: {result['runs']['scored']} of {result['runs']['planned']} runs, "
        f"{result['faults']} faults, seeds {result['seeds'][0]} to {result['seeds'][-1]}, "
        f"revision {str(result['revision'])[:9]}{' with changes' if result['uncommitted_changes'] else ''}",
        "",
        *aligned([
            ["", "measured [95 %]", "promised"],
            ["recall", faults["recall"], "≥ 90 %"],
            ["false positives", controls["all"]["positive"], "≤ 1 %"],
            ["top-1 root", faults["top1"], "≥ 85 %"],
            ["top-3 root", faults["top3"], "≥ 95 %"],
            ["… top-1 of the runs called ill", flagged["top1"], ""],
            ["… top-3 of the runs called ill", flagged["top3"], ""],
            ["stage of the first cause", faults["stage"], ""],
            ["onset of the root inside its interval", faults["onset"], "≥ 85 %"],
            ["no wrong cause without the deciding datum", abstained["no_wrong_cause"], "≥ 95 %"],
            ["… no cause at all", abstained["no_cause"], ""],
            ["own cause diagnosed", faults["diagnosed_right"], ""],
            ["another cause diagnosed", faults["diagnosed_wrong"], ""],
            ["Brier score (naming nothing)", f"{scores['brier']:.3f} ({scores['brier_of_silence']:.3f})", ""],
            ["calibration error of listed causes", f"{scores['calibration_error']:.3f}", ""],
        ]),
        "",
        f"Nothing to take away: {abstained['no_decider_held']} runs without a deciding sign, "
        f"{abstained['not_withholdable']} whose sign holds whatever is taken away.",
        "",
        "Controls",
        *aligned([["", "positive", "with a diagnosed cause", "inconclusive"],
                 *([kind, *(line[c] for c in ("positive", "diagnosed", "inconclusive"))]
                  for kind, line in controls.items())]),
        "",
        "On the same records",
        *aligned([["", "recall", "false positives"],
                 *([name, line["recall"], line["false"]] for name, line in result["compared"].items())]),
        "",
        "Onset",
        *aligned([["fault begins", "root inside its interval", "earliest symptom not before the root"],
                 *([start, line["root_inside"], line["symptom_not_before_root"]]
                  for start, line in scores["onset"].items())]),
        "",
    ]  # fmt: skip
    header = ["", "runs", "recall", "top-1", "top-3", "stage", "onset", "own diagnosed", "other diagnosed"]
    columns = ("recall", "top1", "top3", "stage", "onset", "diagnosed_right", "diagnosed_wrong")
    for title, groups in (
        ("By severity", scores["by_severity"]),
        ("By start", scores["by_start"]),
        ("By what the fault cost (against the healthy run of the seed)", scores["by_harm"]),
        ("By planted cause", scores["by_cause"]),
    ):
        body = [[name, str(line["recall"].of), *(_short(line[c]) for c in columns)] for name, line in groups.items()]
        lines += [title, *aligned([header, *body]), ""]
    pairs = scores["pairs"]
    lines += [
        "Two faults at once",
        *aligned([
            ["recall", pairs["recall"]],
            ["the first cause is one of the two", pairs["first_is_one"]],
            ["one of the two in the first three", pairs["one_in_three"]],
            ["both in the first three", pairs["all_in_three"]],
        ]),
        "",
        "Mistaken for another (planted → named first; * a look-alike)",
        *_confusions(scores),
        "",
    ]  # fmt: skip
    if result["failed"]:
        lines += [
            f"Failed: {len(result['failed'])}",
            *(f"  {name}: {why}" for name, why in result["failed"].items()),
            "",
        ]
    return "\n".join(lines)


def _short(one: Share) -> str:
    return f"{one.hits}/{one.of}" if one.of else "–"


def _confusions(scores: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for true, line in scores["confusion"].items():
        wrong = {other: number for other, number in line.items() if other != true}
        if wrong:
            like = scores["look_alikes"].get(true, {})
            lines.append(f"  {true} → " + ", ".join(f"{o}{'*' if o in like else ''} {n}" for o, n in wrong.items()))
    return lines or ["  none"]


def aligned(cells: Sequence[Sequence[Any]]) -> list[str]:
    texts = [[str(cell) for cell in line] for line in cells]
    widths = [max(len(line[at]) for line in texts) for at in range(len(texts[0]))]
    return [
        "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in texts
    ]


def draw_reliability(bins: Sequence[dict[str, Any]], path: Path, say: Say) -> None:
    """Stated against true share of the listed causes, with intervals; needs matplotlib."""
    try:
        import matplotlib.figure
    except ModuleNotFoundError:
        say("The reliability plot needs matplotlib, which is not installed. Type: pip install matplotlib.")
        return
    figure = matplotlib.figure.Figure(figsize=(4.5, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--")
    for one in bins:
        low, high = one["true"].interval
        axes.plot([one["stated"]] * 2, [low, high], color="tab:blue", linewidth=1)
        axes.plot(one["stated"], one["true"].value, "o", color="tab:blue", markersize=5)
        axes.annotate(str(one["true"].of), (one["stated"], high), ha="center", va="bottom", fontsize=7)
    axes.set(
        xlim=(0, 1), ylim=(0, 1.05), xlabel="stated probability of a listed cause", ylabel="share that was planted"
    )
    figure.savefig(path)
