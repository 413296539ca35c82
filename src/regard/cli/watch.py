"""`regard review --watch`: look at a run again and again while it grows, and say what is new."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regard.config import RecipeConfig
from regard.errors import RunLogError
from regard.review import Review
from regard.runlog.reader import RunLog

INTERRUPTED = 130
IGNORED = ("review", "checkpoints", "report.html")
"""What grows in a run without being part of what is reviewed."""


@dataclass(frozen=True)
class News:
    """Something that was not so at the last look.

    Attributes:
        event: begin, finding, gone, verdict, cause, unreadable, readable, finished.
        step: the last step that the record has.
        text: one line for a person.
        facts: the same for a machine.
    """

    event: str
    step: int
    text: str
    facts: dict[str, Any]


def watch(
    path: Path,
    look: Callable[[], Review],
    store: Callable[[Review], object],
    *,
    every: float,
    severities: tuple[str, ...],
    command: str | None,
    as_json: bool,
) -> int:
    """Print news of a run until it is finished or something of these severities is found.

    Args:
        path: the run, for messages, and to see whether anything changed.
        look: reads and reviews it.
        store: keeps the last review.
        every: seconds between the end of one look and the next.
        severities: those of a finding at which to stop, or to run `command`.
        command: shell command that is run once for each such finding, with REGARD_RUN, REGARD_CODE, REGARD_STEP,
            REGARD_SEVERITY and REGARD_SUMMARY in its environment; the watch then goes on.
    Returns:
        1 if something of these severities is found, else 0.
    Raises:
        RunLogError: there is nothing at `path`. A run that has not begun to log, or is torn, is waited for.
    """
    if not path.exists():
        raise RunLogError(f"{path} does not exist. Give a run directory or a log file.")
    alarmed: set[tuple[str, str]] = set()
    last: Review | None = None
    try:
        for review in _looks(path, look, every, as_json):
            for news in changes(last, review):
                _say(news, as_json)
            last = review
            grave = {(f.stage, f.detector.code): f for f in review.findings if f.severity in severities}
            for key in [key for key in grave if key not in alarmed and command is not None]:
                _run_command(command or "", path, key[1], grave[key].severity, grave[key].fired.onset.step,
                             grave[key].fired.summary)  # fmt: skip
            alarmed |= grave.keys()
            if grave and command is None:
                break
            if finished(review.run):
                _say(News("finished", last_step(review.run), f"The run is finished: {review.verdict}.",
                          {"verdict": review.verdict}), as_json)  # fmt: skip
                break
    except KeyboardInterrupt:
        if last is not None:
            store(last)
        raise SystemExit(INTERRUPTED) from None
    assert last is not None
    store(last)
    return int(any(finding.severity in severities for finding in last.findings))


def _looks(path: Path, look: Callable[[], Review], every: float, as_json: bool) -> Iterator[Review]:
    """A review whenever the files have changed. What cannot be read now is tried again, with one line that says so."""
    stamp: object = None
    trouble = ""
    while True:
        now = fingerprint(path)
        if now != stamp or trouble:
            try:
                review = look()
            except (RunLogError, OSError) as error:  # half a file at this moment, or none yet
                if str(error) != trouble:
                    trouble = str(error)
                    _say(News("unreadable", 0, f"Waiting: {trouble}", {"reason": trouble}), as_json)
            else:
                stamp, trouble = now, ""
                yield review
        time.sleep(every)


def changes(before: Review | None, after: Review) -> list[News]:
    """What the later of two reviews says and the earlier does not."""
    step = last_step(after.run)
    news: list[News] = []
    if before is None:
        news.append(News("begin", step, f"Watching {after.run.path}.", {"verdict": after.verdict}))
    old = {(f.stage, f.detector.code): f for f in before.findings} if before else {}
    new = {(f.stage, f.detector.code): f for f in after.findings}
    for key, finding in new.items():
        if key not in old or old[key].severity != finding.severity:
            code, name, onset = finding.detector.code, finding.detector.name, finding.fired.onset.step
            text = (
                f"{finding.severity.upper()} {code} {name}, {finding.stage}, from step {onset}: {finding.fired.summary}"
            )
            facts = {"code": code, "name": name, "stage": finding.stage, "severity": finding.severity, "onset": onset,
                     "summary": finding.fired.summary}  # fmt: skip
            news.append(News("finding", step, text, facts))
    for stage, code in old.keys() - new.keys():
        news.append(News("gone", step, f"{code}, {stage}, is no longer found.", {"code": code, "stage": stage}))
    known = {(one.cause.id, one.status) for one in before.causes} if before else set()
    for one in after.causes:
        if (one.cause.id, one.status) not in known:
            text = f"Cause {one.status}: {one.cause.id} {one.cause.name}, probability {one.probability:.2f}."
            facts = {"id": one.cause.id, "name": one.cause.name, "status": one.status}
            news.append(News("cause", step, text, facts | {"probability": round(one.probability, 3)}))
    if before is None or before.verdict != after.verdict:
        was = f" (was {before.verdict})" if before else ""
        news.append(News("verdict", step, f"Verdict: {after.verdict}{was}.", {"verdict": after.verdict}))
    return news


def last_step(run: RunLog) -> int:
    """Of the stage that is furthest on, since stages run one after the other."""
    for stage in reversed(run.stages.values()):
        ends = [int(series.steps[-1]) for series in stage.metrics.values() if len(series.steps)]
        if ends:
            return max(ends)
    return 0


def finished(run: RunLog) -> bool:
    """Whether our own record says that all its stages are done, or one has failed. A foreign log never says so."""
    recorded = run.run.get("stages")
    if not isinstance(recorded, dict) or not recorded:
        return False
    statuses = {name: entry.get("status") for name, entry in recorded.items() if isinstance(entry, dict)}
    if "failed" in statuses.values():
        return True
    try:
        expected = RecipeConfig.model_validate(run.config).stages
    except ValueError:  # a record made by another loop, which has a configuration of its own
        expected = tuple(statuses)
    return all(statuses.get(name) == "done" for name in (*expected, *statuses))


def fingerprint(path: Path) -> object:
    """Sizes and times of the files of a run; equal while nothing was written."""
    found: list[tuple[str, int, int]] = []
    stack = [path]
    while stack:
        one = stack.pop()
        with suppress(OSError):  # it was renamed or removed meanwhile
            if one.is_dir():
                stack += [entry for entry in one.iterdir() if entry.name not in IGNORED]
            else:
                facts = one.stat()
                found.append((str(one), facts.st_size, facts.st_mtime_ns))
    return sorted(found)


def _say(news: News, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"event": news.event, "step": news.step, **news.facts}), flush=True)
    else:
        print(f"step {news.step}: {news.text}", flush=True)


def _run_command(command: str, path: Path, code: str, severity: str, step: int, summary: str) -> None:
    facts = {"RUN": str(path), "CODE": code, "SEVERITY": severity, "STEP": str(step), "SUMMARY": summary}
    environment = {f"REGARD_{name}": value.replace("\0", "") for name, value in facts.items()}
    done = subprocess.run(command, shell=True, env={**os.environ, **environment}, check=False)
    if done.returncode:
        print(f"regard: the command of --on-error ended with {done.returncode}.", file=sys.stderr, flush=True)
