"""`regard lab`: planted faults in real training, and how well the review finds them."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(help="Cheap real runs with a known fault, to measure the review on.", no_args_is_help=True)


@app.command("run")
def run(
    workload: Annotated[str, typer.Argument(help="A task; regard lab list names them.")],
    out: Annotated[Path, typer.Option("--out", help="Run directory; the truth goes to OUT.truth.json beside it.")],
    fault: Annotated[list[str] | None, typer.Option("--fault", help="Id of a cause. Repeatable.")] = None,
    severity: Annotated[str, typer.Option("--severity", help="mild, medium or severe.")] = "medium",
    start: Annotated[str, typer.Option("--start", help="start, or mid: from the middle of PPO on.")] = "start",
    control: Annotated[
        str | None, typer.Option("--control", help="A run without a fault; see regard lab list.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of data, weights and sampling.")] = 1,
    cache: Annotated[Path | None, typer.Option("--cache", help="Where finished early stages are kept.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Train one run with a planted fault, or without.

    Example: regard lab run facts --fault K1 --severity severe --out runs/k1
    """
    from regard.lab.run import run_lab, truth_path

    truth = run_lab(
        workload,
        seed,
        tuple(fault or ()),
        severity,  # type: ignore[arg-type]  # checked where the fault is applied
        start,  # type: ignore[arg-type]
        control=control,
        out=out,
        cache=cache,
    )
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    if as_json:
        print(json.dumps({"run": str(out), "truth": truth, "gold": summary["gold"]}))
        return
    gold = summary["gold"]
    print(f"gold {gold['sft']:.3f} → {gold['policy']:.3f}, KL {summary['kl']['per_sequence']:.2f} nats per sequence")
    print(f"Run: {out}. Truth: {truth_path(out)}. Next: regard review {out}")


@app.command("list")
def list_lab(
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Print the workloads, faults and controls of the lab.

    Example: regard lab list
    """
    from regard.lab.controls import CONTROLS
    from regard.lab.faults import FAULTS
    from regard.lab.workloads import WORKLOADS

    def first_line(thing: Any) -> str:
        return (thing.__doc__ or "").strip().splitlines()[0]

    if as_json:
        faults = [
            {"id": f.id, "stage": f.stage, "severities": f.severities, "starts": f.starts, "summary": f.summary}
            for f in FAULTS.values()
        ]
        controls = [{"name": c.name, "kind": c.kind, "summary": c.summary} for c in CONTROLS.values()]
        print(json.dumps({"workloads": list(WORKLOADS), "faults": faults, "controls": controls}))
        return
    for workload in WORKLOADS.values():
        print(f"workload {workload.name:10} {first_line(workload)}")
    for one in sorted(FAULTS.values(), key=lambda f: f.id):
        print(f"fault    {one.id:10} {one.stage:20} {'/'.join(one.starts):10} {one.summary}")
    for one in CONTROLS.values():
        print(f"control  {one.name:32} {one.kind:20} {one.summary}")


@app.command("bench")
def bench(
    workload: Annotated[str, typer.Option("--workload", help="A task; regard lab list names them.")] = "facts",
    out: Annotated[Path | None, typer.Option("--out", help="Default: runs/bench-WORKLOAD. Finished runs stay.")] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Runs of each fault at each severity and start.")] = 2,
    controls: Annotated[int, typer.Option("--controls", min=0, help="At least that many runs without a fault.")] = 200,
    pairs: Annotated[int, typer.Option("--pairs", min=0, help="Runs with two faults.")] = 40,
    fault: Annotated[list[str] | None, typer.Option("--fault", help="Only this fault. Repeatable.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Each fault and each control once, two pairs.")] = False,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes, of one thread each.")] = 2,
    limit: Annotated[float, typer.Option("--limit", min=1, help="Seconds that one run may take.")] = 600.0,
    peers: Annotated[bool, typer.Option("--peers/--no-peers", help="Ask rldoctor and rlprobe about them too.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Measure the review on runs whose truth is known; the same command again goes on where it was broken off.

    Example: regard lab bench --quick
    """
    import sys

    from regard.lab.bench import bench as run_bench
    from regard.lab.bench import table
    from regard.lab.plan import plan
    from regard.lab.score import plain
    from regard.lab.workloads import workload_named

    workload_named(workload)
    jobs = plan(workload, seeds=seeds, controls=controls, pairs=pairs, quick=quick, only=tuple(fault or ()))
    target = out or Path("runs") / f"bench-{workload}"
    result = run_bench(
        jobs,
        target,
        workers=workers,
        limit=limit,
        peers=peers,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    if as_json:
        print(json.dumps(plain(result)))
        return
    print(table(result))
    print(f"All numbers: {target / 'bench.json'}. What they mean: docs/howto/lab.md.")


@app.command("fit")
def fit(
    runs: Annotated[list[Path], typer.Argument(help="The --out of finished regard lab bench, one or more.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Default: likelihoods.json of the installed regard.review.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes that review what is not reviewed.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Count the runs of the tuning workloads into the likelihoods of the review, and say which constants suit them.

    Example: regard lab fit runs/bench-facts runs/bench-sorting runs/bench-orders
    """
    import sys

    from regard.lab.bench import aligned, fit_runs
    from regard.lab.score import plain

    result = fit_runs(runs, out, workers=workers, say=lambda line: print(line, file=sys.stderr, flush=True))
    if as_json:
        print(json.dumps(plain(result)))
        return
    cells = [["strength", "temperature", "absent", "Brier", "top-1", "diagnosed from", "own diagnosed", ""]]
    for line in [*result["settings"][:8], result["present"], result["stated"]]:
        brier, top, own = ("–" if line[key] is None else f"{line[key]:.3f}" for key in ("brier", "top1", "diagnosed"))
        constants = [f"{line[key]:g}" for key in ("strength", "temperature", "absent")]
        threshold = "none clean" if line["threshold"] is None else f"{line['threshold']:g}"
        mark = {id(result["present"]): "as it is now", id(result["stated"]): "without counts"}.get(id(line), "")
        cells.append([*constants, brier, top, threshold, own, mark])
    print("\n".join(aligned(cells)))
    print(f"{result['runs']} runs counted into {result['path']}. Constants: change them in regard/review/inference.py.")


@app.command("prove")
def prove(
    workload: Annotated[str, typer.Option("--workload", help="A task; regard lab list names them.")] = "facts",
    out: Annotated[Path | None, typer.Option("--out", help="Default: runs/prove-WORKLOAD. Finished runs stay.")] = None,
    runs: Annotated[int, typer.Option("--runs", min=1, help="Runs of each fault, each with an experiment.")] = 3,
    controls: Annotated[int, typer.Option("--controls", min=0, help="Runs without a fault.")] = 10,
    severity: Annotated[str, typer.Option("--severity", help="mild, medium or severe.")] = "severe",
    fault: Annotated[list[str] | None, typer.Option("--fault", help="Only this fault. Repeatable.")] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=2, help="Paired seeds before anything is said.")] = 3,
    max_seeds: Annotated[int, typer.Option("--max-seeds", min=2, help="So many while the answer is open.")] = 6,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes, of one thread each.")] = 2,
    limit: Annotated[float, typer.Option("--limit", min=1, help="Seconds that one run may take.")] = 600.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Measure how often `regard verify` proves the right fix of a planted fault, and a wrong one.

    Example: regard lab prove --fault K1 --runs 1 --controls 1
    """
    import sys

    from regard.lab.prove import patients, table
    from regard.lab.prove import prove as run_prove
    from regard.lab.score import plain
    from regard.lab.workloads import workload_named

    workload_named(workload)
    chosen = patients(workload, severity, runs, controls, tuple(fault or ()))
    target = out or Path("runs") / f"prove-{workload}"
    result = run_prove(
        chosen,
        target,
        seeds=seeds,
        max_seeds=max(seeds, max_seeds),
        workers=workers,
        limit=limit,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    if as_json:
        print(json.dumps(plain(result)))
        return
    print(table(result))
    print(f"All numbers: {target / 'prove.json'}. What they mean: docs/howto/lab.md.")
