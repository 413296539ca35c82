"""What this machine can do: matrix products in float32 and bfloat16, and bytes moved.

    python benchmarks/roofline.py

The shapes are those of SmolLM2-135M: a pass over many tokens, and one decoding step of a batch. For each the median of
eleven timings of at least a tenth of a second; `limit` is the fastest shape, which other benchmarks give shares of.
Prints one JSON object and adds a row to the log in docs/experiments.md.
"""

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from results import log

SHAPES = {"1024 tokens": (1024, 576, 1536), "1024 tokens, vocabulary": (1024, 576, 49152), "square": (2048, 2048, 2048)}
DECODING = {f"decoding, batch {rows}": (rows, 576, 1536) for rows in (16, 32, 64)}
TIMINGS, LEAST_SECONDS = 11, 0.1


def seconds_of(work: Callable[[], Any]) -> float:
    """Median time of one call."""
    work()
    begun = time.perf_counter()
    work()
    repeats = max(1, round(LEAST_SECONDS / (time.perf_counter() - begun)))
    times: list[float] = []
    for _ in range(TIMINGS):
        begun = time.perf_counter()
        for _ in range(repeats):
            work()
        times.append((time.perf_counter() - begun) / repeats)
    return statistics.median(times)


def gflops(shape: tuple[int, int, int], dtype: torch.dtype) -> float:
    rows, inner, columns = shape
    a, w = torch.randn(rows, inner, dtype=dtype), torch.randn(columns, inner, dtype=dtype)
    return 2 * rows * inner * columns / seconds_of(lambda: torch.nn.functional.linear(a, w)) / 1e9


def limit(dtype: torch.dtype) -> float:
    """GFLOP/s of the shape that is fastest."""
    return max(gflops(shape, dtype) for shape in SHAPES.values())


def main() -> None:
    result: dict[str, Any] = {"threads": torch.get_num_threads()}
    for dtype in (torch.float32, torch.bfloat16):
        each = {name: round(gflops(shape, dtype), 1) for name, shape in (SHAPES | DECODING).items()}
        result[str(dtype).removeprefix("torch.")] = each | {"limit": max(each[name] for name in SHAPES)}
    source = torch.randn(64 * 1024 * 1024)  # 256 MB, beyond every cache
    target = torch.empty_like(source)
    result["copy_gb_per_s"] = round(2 * source.nbytes / seconds_of(lambda: target.copy_(source)) / 1e9, 1)
    limits = ", ".join(f"{name} {result[name]['limit']:.0f} GFLOP/s" for name in ("float32", "bfloat16"))
    log(f"{limits}, {result['copy_gb_per_s']:.0f} GB/s copied")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
