"""`regard lab run`, `regard lab list`: planted faults in real training."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(help="Cheap real runs with a known fault, to measure the review on.", no_args_is_help=True)


@app.command("run")
def run(
    workload: Annotated[str, typer.Argument(help="facts or sorting.")],
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
