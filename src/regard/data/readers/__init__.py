"""The user's own comparisons: JSON Lines files in the formats of public data sets and trainers.

A format is one module with `sniff(row) -> bool` and `convert(row, where) -> Converted`. The first row decides the
format, and every other row must follow it. What cannot be read as a row is a `DataError` that starts with file:line.
A row that is sound but whose label cannot be read is left out and counted.
"""

import json
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from regard.data.comparisons import Comparison
from regard.data.readers import helpsteer3, hh_rlhf, openai_preference, trl, ultrafeedback
from regard.data.readers.rows import UnreadableLabel
from regard.errors import DataError

FORMATS: dict[str, ModuleType] = {
    "helpsteer3": helpsteer3,
    "ultrafeedback": ultrafeedback,
    "openai-preference": openai_preference,
    "hh-rlhf": hh_rlhf,
    "trl": trl,  # last: its columns are the most common ones
}


@dataclass
class Loaded:
    """A file, read."""

    format: str
    rows: int = 0
    comparisons: list[Comparison] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    """"file:line: reason" of each row left out because its label says nothing."""
    unreadable_votes: int = 0
    """Single judgements left out of rows that have readable ones as well."""


def read_comparisons(path: Path, format: str | None = None) -> list[Comparison]:
    """The comparisons of a JSON Lines file, format sniffed if not given. Warns with a count when labels were
    unreadable.

    Raises:
        DataError: no such file, broken row, equal responses, or no comparison in the file.
    """
    loaded = load(path, format)
    if not loaded.comparisons:
        found = f"{len(loaded.prompts)} prompts and {len(loaded.texts)} texts, and no readable comparison"
        raise DataError(f"{path}:1: {found}. Give a file with a chosen and a rejected response in each line.")
    if loaded.unreadable or loaded.unreadable_votes:
        warnings.warn(
            f"{path}: {len(loaded.unreadable)} of {loaded.rows} rows and {loaded.unreadable_votes} single votes "
            f"have no readable label and are left out. Type: regard data check {path}",
            stacklevel=2,
        )
    return loaded.comparisons


def load(path: Path, format: str | None = None) -> Loaded:
    """Everything in a JSON Lines file.

    Raises:
        DataError: no such file or format, broken row, or a comparison of a text with itself.
    """
    if format is not None and format not in FORMATS:
        raise DataError(f"There is no format {format!r}. Give one of: {', '.join(FORMATS)}.")
    loaded: Loaded | None = None
    for where, row in _rows(path):
        if loaded is None:
            loaded = Loaded(format or _sniff(row, where))
        loaded.rows += 1
        try:
            found = FORMATS[loaded.format].convert(row, where)
        except UnreadableLabel as label:
            loaded.unreadable.append(f"{where}: {label}")
            continue
        loaded.unreadable_votes += found.unreadable_votes
        if found.comparison is not None:
            if found.comparison.chosen == found.comparison.rejected:
                raise DataError(
                    f"{where}: chosen and rejected are the same text, so nothing is compared. Remove the line."
                )
            loaded.comparisons.append(found.comparison)
        elif found.prompt is not None:
            loaded.prompts.append(found.prompt)
        elif found.text is not None:
            loaded.texts.append(found.text)
    if loaded is None:
        raise DataError(f"{path}:1: the file is empty. Give one JSON object per line.")
    loaded.comparisons = _grouped_by_text(loaded.comparisons)
    return loaded


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """("file:line", row) of each line that is not blank."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                content = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                if content.strip():
                    yield f"{path}:{number}", _row(content, f"{path}:{number}")
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{path}: cannot be read ({reason}). Give the path of a JSON Lines file.") from error


def _row(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise DataError(f"{where}: not UTF-8. Save the file as UTF-8 JSON Lines.") from None
    except json.JSONDecodeError as error:
        raise DataError(
            f"{where}: broken JSON ({error.msg}, column {error.colno}). Give one JSON object per line."
        ) from None
    except (ValueError, RecursionError):  # a number of thousands of digits, brackets thousands deep
        raise DataError(f"{where}: JSON that cannot be read. Give one JSON object per line.") from None
    if not isinstance(row, dict):
        raise DataError(f"{where}: {type(row).__name__}, not an object. Give one JSON object per line.")
    return row


def _sniff(row: dict[str, Any], where: str) -> str:
    for name, reader in FORMATS.items():
        if reader.sniff(row):
            return name
    columns = ", ".join(list(row)[:8])[:100] or "none"
    raise DataError(f"{where}: no known format has the columns {columns}. Give --format, one of: {', '.join(FORMATS)}.")


def _grouped_by_text(comparisons: list[Comparison]) -> list[Comparison]:
    """Where there is no prompt, comparisons that share a text get the group of the first of them, directly or by a
    chain."""
    parent: dict[str, str] = {}

    def root(text: str) -> str:
        while parent.setdefault(text, text) != text:
            parent[text] = text = parent[parent[text]]
        return text

    for pair in comparisons:
        if not pair.prompt:
            parent[root(pair.rejected)] = root(pair.chosen)
    first: dict[str, str] = {}
    return [
        pair if pair.prompt else replace(pair, group=first.setdefault(root(pair.chosen), pair.group))
        for pair in comparisons
    ]


@dataclass(frozen=True)
class Summary:
    """Counts of a file that was read without error."""

    file: str
    format: str
    rows: int
    comparisons: int
    prompts: int
    texts: int
    groups: int
    judgements: int
    """Single votes behind the comparisons."""
    ties: int
    """Comparisons whose raters are evenly split."""
    tie_votes: int
    """Single votes that saw no difference."""
    duplicates: int
    """Comparisons that repeat an earlier one, the same response chosen."""
    contradictions: int
    """Comparisons of an earlier pair, the other response chosen."""
    unreadable: int
    unreadable_votes: int
    first_unreadable: list[str]
    """Of at most five rows."""


def summarise(path: Path, format: str | None = None) -> Summary:
    """What `regard data check` reports."""
    loaded = load(path, format)
    pairs = loaded.comparisons
    seen: Counter[tuple[str, str, str]] = Counter()
    duplicates = contradictions = 0
    for pair in pairs:
        if seen[pair.prompt, pair.chosen, pair.rejected]:
            duplicates += 1
        elif seen[pair.prompt, pair.rejected, pair.chosen]:
            contradictions += 1
        seen[pair.prompt, pair.chosen, pair.rejected] += 1
    return Summary(
        file=str(path),
        format=loaded.format,
        rows=loaded.rows,
        comparisons=len(pairs),
        prompts=len(loaded.prompts),
        texts=len(loaded.texts),
        groups=len({pair.group for pair in pairs}),
        judgements=sum(pair.num_raters for pair in pairs),
        ties=sum(pair.p_chosen == 0.5 for pair in pairs),
        tie_votes=sum(pair.num_ties for pair in pairs),
        duplicates=duplicates,
        contradictions=contradictions,
        unreadable=len(loaded.unreadable),
        unreadable_votes=loaded.unreadable_votes,
        first_unreadable=loaded.unreadable[:5],
    )
