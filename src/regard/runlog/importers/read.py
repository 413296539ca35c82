"""Read any run: our record, or a log of another trainer."""

import difflib
from pathlib import Path
from typing import Any, cast

import yaml

from regard.errors import RunLogError
from regard.runlog.importers.containers import CONTAINERS
from regard.runlog.importers.table import Table
from regard.runlog.importers.vocabularies import VOCABULARIES
from regard.runlog.importers.vocabulary import Vocabulary
from regard.runlog.jsonl import parse_object
from regard.runlog.metrics import METRICS
from regard.runlog.reader import RunLog, StageLog, read_run
from regard.runlog.series import Points

SOURCES = ("regard", *VOCABULARIES)
"""What `--from` takes."""

CONFIG_NAMES = ("config.yaml", "config.yml", "config.json", "training_args.json", "args.json", "hparams.yaml",
                ".hydra/config.yaml")  # fmt: skip

_EXAMPLE = "Write for example `keys: {my/kl: kl/policy_ref_k1/seq_sum}`."

UNKNOWN = Vocabulary(
    name="unknown",
    stage="ppo",
    fingerprint=(),
    source="",
    keys={key: "kl/policy_ref_unknown/unknown" for key in ("kl", "objective/kl", "kl_ref", "ref_kl")},
)
"""A log whose trainer is not known. Only KL is kept, as unknown, since everybody asks about it."""


def read_any(path: Path | str, source: str | None = None, mapping: Path | None = None) -> RunLog:
    """Read a run.

    Args:
        path: a run record, a log file, or a directory that holds one.
        source: name of the trainer (one of `SOURCES`); None: find out.
        mapping: YAML file that says what keys mean: `keys: {foreign key: our metric key}`, and optionally
            `stage: ppo`. It goes before everything else.
    Returns:
        The run as one stage of metrics. `run["source"]` says what wrote it; the notes say what was left out.
    Raises:
        RunLogError: there is nothing to read, or `source` or `mapping` cannot be used.
    """
    path = Path(path)
    check_source(source)
    if not path.exists():
        raise RunLogError(f"{path} does not exist. Give a run directory or a log file.")
    ours = path.parent if path.name == "run.json" else path
    if source == "regard" or (source is None and (ours / "run.json").is_file()):
        return read_run(ours)
    try:
        container, file = _find(path)
        table = CONTAINERS[container].read(file)
    except OSError as error:
        raise RunLogError(f"{path} cannot be read ({error.strerror}). Give a file that you may read.") from error
    table.config = {**_config_beside(file, table.notes), **table.config}
    extra, stage = read_mapping(mapping) if mapping else ({}, None)
    vocabulary = VOCABULARIES[source] if source else _recognise(table)
    return _translate(path, file, container, table, vocabulary, extra, stage)


def check_source(source: str | None) -> None:
    """Raise RunLogError if `--from` names no trainer that is known."""
    if source is not None and source not in SOURCES:
        near = difflib.get_close_matches(source, SOURCES, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"Use one of: {', '.join(SOURCES)}."
        raise RunLogError(f"No log is known by the name {source!r}. {hint}")


def _find(path: Path) -> tuple[str, Path]:
    for name, container in CONTAINERS.items():
        file = container.sniff(path)
        if file is not None:
            return name, file
    what = "no log in a format that is known" if path.is_dir() else "not a log in a format that is known"
    raise RunLogError(f"{path} is {what}. Give one of: a Regard run, {', '.join(CONTAINERS)}.")


def _config_beside(file: Path, notes: list[str]) -> dict[str, Any]:
    directory = file if file.is_dir() else file.parent
    for name in CONFIG_NAMES:
        candidate = directory / name
        if not candidate.is_file():
            continue
        try:
            content = candidate.read_bytes()
            value: object = parse_object(content) if candidate.suffix == ".json" else yaml.safe_load(content)
        except (OSError, ValueError, yaml.YAMLError, RecursionError):
            value = None
        if isinstance(value, dict):
            return cast(dict[str, Any], value)
        notes.append(f"{name} beside the log is unreadable and was left out.")
    return {}


def _recognise(table: Table) -> Vocabulary:
    keys = set(table.points.by_key)
    for vocabulary in VOCABULARIES.values():
        if vocabulary.fits(keys, table.config):
            return vocabulary
    return UNKNOWN


def read_mapping(path: Path) -> tuple[dict[str, str], str | None]:
    """What a file of `--map` says: (foreign key to our metric, name of the stage); RunLogError where it is unusable."""
    try:
        value: object = yaml.safe_load(path.read_bytes())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise RunLogError(
            f"{path} is not readable YAML. Write lines such as `keys: {{my/kl: kl/coef/value}}`."
        ) from error
    body = cast(dict[str, Any], value) if isinstance(value, dict) else {}
    keys = body.get("keys")
    if not isinstance(keys, dict):
        raise RunLogError(f"{path} has no mapping `keys`. {_EXAMPLE}")
    result: dict[str, str] = {}
    for foreign, ours in cast(dict[Any, Any], keys).items():
        if ours not in METRICS:
            near = difflib.get_close_matches(str(ours), METRICS, n=1)
            hint = f"Did you mean {near[0]}?" if near else "See docs/reference/metrics.md for the keys."
            raise RunLogError(f"{path}: {foreign} is mapped to {ours!r}, which is no metric. {hint}")
        result[str(foreign)] = ours
    stage = body.get("stage")
    return result, str(stage) if stage is not None else None


def _translate(
    path: Path,
    file: Path,
    container: str,
    table: Table,
    vocabulary: Vocabulary,
    extra: dict[str, str],
    stage: str | None,
) -> RunLog:
    points = Points()
    unknown: list[str] = []
    for key, series in table.points.by_key.items():
        known, metric = (True, extra[key]) if key in extra else vocabulary.meaning(key, table.config)
        if not known and key in METRICS:
            known, metric = True, key  # written by our API from another loop
        if not known:
            unknown.append(key)
        if metric is not None:
            for step, (value, time) in series.items():
                if step not in points.by_key.get(metric, {}) or key in extra:
                    points.add(metric, step, value, time)
    notes = list(table.notes)
    if unknown:
        shown = ", ".join(sorted(unknown)[:8]) + (", …" if len(unknown) > 8 else "")
        notes.append(f"{len(unknown)} key(s) are not understood: {shown}. Say what they mean with --map.")
    name = stage or vocabulary.stage
    root = path if path.is_dir() else path.parent
    log = StageLog(name, root, points.series(), [], notes)
    run = {"id": path.name, "source": vocabulary.name, "file": str(file), "format": container}
    return RunLog(path, run, table.config, {}, {}, {name: log}, [])
