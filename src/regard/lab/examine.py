"""Review a finished lab run and keep what scoring needs, so that scores can be made again without reviewing again."""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from regard.lab.run import truth_path
from regard.lab.score import Case, Named
from regard.lab.withhold import withhold
from regard.review import review
from regard.review.causes import all_causes
from regard.review.statistics import GOLD, first_of
from regard.runlog.files import write_atomic
from regard.runlog.reader import RunLog, read_run

_ROOT = Path(__file__).parents[1]


@cache
def rules_sha256() -> str:
    """Of the code that decides what is kept of a review: detectors, signs, causes, reading; not the counted tables."""
    files = [f for package in ("review", "runlog") for f in sorted((_ROOT / package).rglob("*.py"))]
    files += [Path(__file__), Path(__file__).with_name("withhold.py")]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


@cache
def tables_sha256() -> str:
    """Of the likelihoods that the lab has counted; "" where there are none."""
    file = _ROOT / "review" / "likelihoods.json"
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""


def review_path(run: Path) -> Path:
    """Beside the record, since the record itself is as a trainer left it."""
    return run.with_name(run.name + ".review.json")


def stored(run: Path, *, any_tables: bool = False) -> dict[str, Any] | None:
    """The kept review of a run; None where there is none by the present rules.

    Args:
        any_tables: also one that was made with other likelihoods; what was seen is the same.
    """
    path = review_path(run)
    if not path.is_file():
        return None
    kept = json.loads(path.read_text(encoding="utf-8"))
    same = kept["rules"] == rules_sha256() and (any_tables or kept["tables"] == tables_sha256())
    return kept if same else None


def examine(run: Path) -> dict[str, Any]:
    """Review a run, and again without the datum that decided where one fault was planted; keeps and returns the result.

    Raises:
        RunLogError: the record cannot be read.
    """
    truth = json.loads(truth_path(run).read_text(encoding="utf-8"))
    log = read_run(run)
    result = review(log)
    posterior = result.posterior
    assert posterior is not None
    faults = [one["id"] for one in truth["faults"]]
    cause = all_causes().get(faults[0]) if len(faults) == 1 else None
    causes = result.to_json()["causes"]
    gold, gold_best = _golds(log)
    kept = {
        "rules": rules_sha256(),
        "tables": tables_sha256(),
        "truth": truth,
        "verdict": result.verdict,
        "findings": [
            [one.detector.code, one.severity, list(one.fired.onset.interval)]
            for one in result.findings
            if one.severity != "info"
        ],
        "causes": [
            {key: one[key] for key in ("id", "probability", "status", "root_onset", "symptom_onset")} for one in causes
        ],
        "marginals": {one: round(p, 6) for one, p in posterior.causes.items()},
        "healthy": posterior.healthy,
        "seen": dict(posterior.seen),
        "withheld": withhold(cause, log) if cause else None,
        "gold": gold,
        "gold_best": gold_best,
    }
    write_atomic(review_path(run), (json.dumps(kept) + "\n").encode(), sync=False)
    return kept


def _golds(log: RunLog) -> tuple[float | None, float | None]:
    """Mean quality over the last fifth of stage 4, and over its best fifth."""
    gold = first_of(log.stages["ppo"], GOLD, 5) if "ppo" in log.stages else None
    if gold is None:
        return None, None
    width = -(-len(gold.values) // 5)
    means = np.convolve(gold.values, np.full(width, 1 / width), "valid")
    return float(means[-1]), float(means.max())


def case_of(name: str, kept: dict[str, Any]) -> Case:
    """A kept review as scoring reads it."""
    truth = kept["truth"]
    faults = truth["faults"]
    return Case(
        name=name,
        seed=truth["seed"],
        roots=tuple(one["id"] for one in faults),
        severity=faults[0]["severity"] if faults else "",
        start=faults[0]["start"] if faults else "",
        kind=truth["control"]["kind"] if truth["control"] else "",
        root_step=min((one["root_onset"]["step"] for one in faults), default=0),
        verdict=kept["verdict"],
        named=tuple(Named.of(one) for one in kept["causes"]),
        marginals=kept["marginals"],
        seen=kept["seen"],
        findings=tuple((code, severity, (low, high)) for code, severity, (low, high) in kept["findings"]),
        withheld=kept["withheld"],
        workload=truth["workload"],
        control=truth["control"]["name"] if truth["control"] else "",
        gold=kept["gold"],
        gold_best=kept["gold_best"],
    )
