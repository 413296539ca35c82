"""How the time and memory of an update grow with tokens, and memory with the vocabulary.

    python benchmarks/scaling.py

A forward and backward pass of stage 4's loss inputs (log-probabilities and values) for sequences of 48 tokens, 32 of
them answered, by a model of 4 blocks of width 384. Tokens: 16, 64 and 256 sequences at once (1×, 4×, 16×); vocabulary:
16,384, 65,536 and 262,144 entries with 64 sequences, frozen under adapters, so that no trained row of the embedding
grows with it. Each point is a process of its own; points take turns, five times, and medians are given. Memory is the
peak of the process over what it held with the model loaded. Prints a table and one JSON object, draws the turns into
runs/scaling.svg and adds a row to the log in docs/experiments.md.
"""

import json
import statistics
import subprocess
import sys
import time
from typing import Any

from results import ROOT, publish

TOKENS = {f"{rows // 16}× tokens": (rows, 16384) for rows in (16, 64, 256)}
VOCABULARY = {f"{size:,} entries": (64, size) for size in (16384, 65536, 262144)}
ROUNDS, PROMPT, ANSWER = 5, 16, 32


def measure(rows: int, vocabulary: int) -> dict[str, float]:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from regard.models import attention
    from regard.models.between import use_kernels
    from regard.models.loading import add_lora
    from regard.models.policy import PolicyAndValue
    from regard.models.sequences import make_batch
    from regard.train.stage import Meter

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=384, intermediate_size=1024, num_hidden_layers=4, num_attention_heads=6,
        tie_word_embeddings=True, attn_implementation=attention.NAME,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    use_kernels(model)
    policy = PolicyAndValue(add_lora(model, 16, 0), None, None, 1.0)
    batch = make_batch([[5] * PROMPT] * rows, [[7] * ANSWER] * rows, 0)
    meter = Meter()
    before = meter.peak_gb()
    seconds: list[float] = []
    for _ in range(3):
        start = time.perf_counter()
        out = policy(batch, with_entropy=False)
        (out.logprobs.sum() + out.values.sum()).backward()
        seconds.append(time.perf_counter() - start)
    return {"seconds": min(seconds[1:]), "gb": meter.peak_gb() - before}


def main() -> None:
    if len(sys.argv) == 3:
        print(json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]))))
        return
    points: dict[str, tuple[int, int]] = TOKENS | VOCABULARY
    found: dict[str, list[dict[str, float]]] = {name: [] for name in points}
    for _ in range(ROUNDS):
        for name, (rows, vocabulary) in points.items():
            command = [sys.executable, __file__, str(rows), str(vocabulary)]
            found[name].append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    table: dict[str, Any] = {
        name: {key: statistics.median(row[key] for row in rows) for key in ("seconds", "gb")}
        for name, rows in found.items()
    }
    print("| | seconds | GB |\n|---|---|---|")
    for name, row in table.items():
        print(f"| {name} | {row['seconds']:.3f} | {row['gb']:.3f} |")
    said = ", ".join(f"{name} {row['seconds']:.3g} s, {row['gb']:.2f} GB" for name, row in table.items())
    curves = {name: [row["seconds"] for row in rows] for name, rows in found.items()}
    publish(table, said, curves, ROOT / "runs" / "scaling.svg")


if __name__ == "__main__":
    main()
