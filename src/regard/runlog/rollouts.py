# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# (pyarrow has no type stubs)
"""The table of rollouts: one row per response, the same columns in every file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_SCALARS: dict[str, Any] = {
    "rollout_id": pa.string(),
    "step": pa.int64(),
    "policy_version": pa.int64(),
    "prompt_id": pa.string(),
    "prompt": pa.string(),
    "response": pa.string(),
}
_TOKENS: dict[str, Any] = {"prompt_tokens": pa.list_(pa.int64()), "tokens": pa.list_(pa.int64())}
_OUTCOMES: dict[str, Any] = {
    "finished": pa.bool_(),
    "truncated": pa.bool_(),
    "score": pa.float64(),
    "main_score": pa.float64(),
    "gold": pa.float64(),
    "vader": pa.float64(),
    "raters": pa.float64(),
    "kl_sum": pa.float64(),
    "length": pa.int64(),
}
_PER_TOKEN: dict[str, Any] = {
    name: pa.list_(pa.float32())
    for name in ("logprobs", "ref_logprobs", "generator_logprobs", "values", "advantages", "returns", "rewards")
}

COLUMNS: dict[str, Any] = _SCALARS | _TOKENS | _OUTCOMES | _PER_TOKEN | {"extra": pa.string()}
"""Column name to Arrow type. Per-token columns have one entry per token of `tokens`. `score` is before the KL term
and `main_score` its part that measures the task, where the score is a sum;
log-probabilities are natural, `logprobs` by the trainer and `generator_logprobs` by the sampler; `kl_sum` is the sum of
k1 over the response, in nats; `finished` means that EOS was sampled, `truncated` that the cap cut the response;
`extra` is a JSON object of what another trainer knew besides. A missing value is null, which is not NaN."""

SCHEMA: Any = pa.schema(list(COLUMNS.items()))
_TEXT_IDS = ("rollout_id", "prompt_id")


def rollouts_name(step: int) -> str:
    """File name of one step's rollouts; zero-padded, so that names sort by step."""
    return f"step-{step:08d}.parquet"


def rollouts_step(path: Path) -> int | None:
    """The step in a file name, or None where the file is not one of ours."""
    digits = path.stem.removeprefix("step-")
    return int(digits) if path.suffix == ".parquet" and path.stem != digits and digits.isdecimal() else None


def rollouts_table(step: int, rows: Sequence[Mapping[str, Any]]) -> Any:
    """Arrow table of `rows` under `SCHEMA`; columns that a row lacks are null, ids become text."""
    for row in rows:
        unknown = sorted(row.keys() - COLUMNS.keys())
        assert not unknown, f"rollout columns that are not declared: {unknown}"
        assert row.get("step", step) == step, f"row of step {row['step']} among the rollouts of step {step}"
    present = {name for row in rows for name in row}
    columns: dict[str, Any] = {name: [row.get(name) for row in rows] for name in present}
    columns["step"] = [step] * len(rows)
    for name in present.intersection(_TEXT_IDS):
        columns[name] = [None if value is None else str(value) for value in columns[name]]
    arrays = [
        pa.array(columns[name], type=kind) if name in columns else pa.nulls(len(rows), kind)
        for name, kind in COLUMNS.items()
    ]
    return pa.table(arrays, schema=SCHEMA)


def encode_rollouts(step: int, rows: Sequence[Mapping[str, Any]]) -> bytes:
    """The rows as the bytes of a zstd-compressed Parquet file."""
    return encode_table(rollouts_table(step, rows))


def encode_table(table: Any) -> bytes:
    """A table of `rollouts_table` as the bytes of a zstd-compressed Parquet file."""
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue().to_pybytes()
