"""How long a review takes and what it holds in memory, for long logs and many rollouts.

    python benchmarks/review_speed.py [--steps 1000 10000 100000] [--rollouts 10000 100000 1000000]

Each size is written once as a run record, then read in turn by plain Python (`json.loads` of every line) and by
`regard review --json`, each in a process of its own, five times interleaved. Prints one JSON object with the medians,
the ratio and the peak memory of the review's process, and adds a row to the log in docs/experiments.md.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from results import log

from regard.runlog.rollouts import encode_rollouts, rollouts_name

PARSE = "import json,sys\nfor line in open(sys.argv[1]): json.loads(line)"
REVIEW = "from regard.cli.main import main; main()"
SERIES = {
    "score/reward_model/mean": (0.0, 2.0, 0.05),
    "score/reward_model/std": (1.0, 0.9, 0.02),
    "gold/judge/mean": (0.5, 0.7, 0.02),
    "kl/policy_ref_k1/seq_sum": (0.0, 6.0, 0.2),
    "kl/policy_ref_k1/token_mean": (0.0, 0.4, 0.01),
    "kl/old_new_k2/mean": (0.006, 0.005, 0.001),
    "kl/coef/value": (0.05, 0.05, 0.0),
    "ratio/old_new/mean": (1.0, 1.0, 0.002),
    "clip/policy/frac": (0.06, 0.05, 0.01),
    "entropy/policy/token_mean": (3.0, 2.2, 0.05),
    "length/response_tokens/mean": (15.0, 14.0, 0.5),
    "finish/truncated/frac": (0.05, 0.03, 0.01),
    "value/explained_variance/value": (0.3, 0.6, 0.03),
    "loss/value/mean": (0.4, 0.2, 0.02),
    "loss/policy/mean": (0.0, 0.0, 0.01),
    "optim/grad_norm/last": (1.0, 0.9, 0.1),
    "optim/learning_rate/last": (1e-4, 1e-5, 0.0),
}
"""Start, end and noise of a healthy run's series."""

WORDS = [
    "a",
    "film",
    "that",
    "plot",
    "acting",
    "story",
    "was",
    "great",
    "bad",
    "long",
    "warm",
    "dull",
    "scene",
    "actor",
    "director",
    "music",
    "the",
    "and",
    "with",
    "of",
]


def write_run(out: Path, steps: int, rollout_steps: int, rows: int) -> None:
    rng = np.random.default_rng(steps + rollout_steps)
    stage = out / "stages/ppo"
    (stage / "rollouts").mkdir(parents=True)
    (out / "run.json").write_text('{"schema": 1, "id": "speed", "stages": {}}\n')
    (out / "config.yaml").write_text("ppo: {kl_coef: 0.05}\n")
    drawn = {k: np.linspace(a, b, steps) + rng.normal(0, s, steps) for k, (a, b, s) in SERIES.items()}
    with (stage / "metrics.jsonl").open("w") as file:
        for step in range(steps):
            metrics = {key: float(values[step]) for key, values in drawn.items()}
            file.write(json.dumps({"step": step, "time": 1.7e9 + step, "metrics": metrics}) + "\n")
    for step in range(rollout_steps):
        (stage / "rollouts" / rollouts_name(step)).write_bytes(encode_rollouts(step, _rows(rng, step, rows)))


def _rows(rng: np.random.Generator, step: int, rows: int) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    lengths = rng.integers(8, 24, rows)
    for i, length in enumerate(lengths):
        old = rng.normal(-2, 1, length)
        made.append({
            "rollout_id": f"{step}-{i}", "step": step, "policy_version": step, "prompt_id": str(i // 4),
            "prompt": "I saw this", "response": " ".join(rng.choice(WORDS, length)), "finished": True,
            "truncated": False, "score": float(rng.normal()), "gold": float(rng.uniform()), "kl_sum": 1.0,
            "length": int(length), "logprobs": old, "ref_logprobs": old - 0.05, "generator_logprobs": old,
            "values": rng.normal(0, 1, length), "advantages": rng.normal(0, 1, length),
            "returns": rng.normal(0, 1, length), "rewards": rng.normal(0, 0.1, length),
        })  # fmt: skip
    return made


def timed(command: list[str]) -> tuple[float, float]:
    """(seconds, peak GB) of a process."""
    before = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = _wait(child.pid)
    if status not in (0, 256):  # 256: exit code 1, findings
        raise SystemExit(f"{command[2][:60]} ended with status {status}")
    return time.perf_counter() - before, usage.ru_maxrss * 1024 / 1e9


def _wait(pid: int) -> tuple[int, int, resource.struct_rusage]:
    return os.wait4(pid, 0)


def compare(run: Path, repeats: int) -> dict[str, float]:
    parse = [sys.executable, "-c", PARSE, str(run / "stages/ppo/metrics.jsonl")]
    review = [sys.executable, "-c", REVIEW, "review", str(run), "--json"]
    rows = [(timed(parse)[0], *timed(review)) for _ in range(repeats)]
    parsed, reviewed, memory = (statistics.median(column) for column in zip(*rows, strict=True))
    return {"parse_s": parsed, "review_s": reviewed, "ratio": reviewed / parsed, "peak_gb": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="*", default=[1_000, 10_000, 100_000])
    parser.add_argument("--rollouts", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", type=int, default=512, help="rollouts per step")
    args = parser.parse_args()
    result: dict[str, Any] = {"steps": {}, "rollouts": {}}
    with tempfile.TemporaryDirectory() as folder:
        for steps in args.steps:
            write_run(Path(folder) / f"steps-{steps}", steps, 0, 0)
            result["steps"][steps] = compare(Path(folder) / f"steps-{steps}", args.repeats)
            print(f"{steps} steps: {result['steps'][steps]}", file=sys.stderr)
        for rollouts in args.rollouts:
            run = Path(folder) / f"rollouts-{rollouts}"
            write_run(run, max(1, rollouts // args.rows), max(1, rollouts // args.rows), args.rows)
            result["rollouts"][rollouts] = compare(run, args.repeats)
            print(f"{rollouts} rollouts: {result['rollouts'][rollouts]}", file=sys.stderr)
    said = [f"{n:,} {what} {row['review_s']:.1f} s" for what, rows in result.items() for n, row in rows.items()]
    log(", ".join(said))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
