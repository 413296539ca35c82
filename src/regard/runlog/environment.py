"""What a run ran on: code revision, packages, machine. Imports nothing heavy, and records no user or host name."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import regard

PACKAGES = (
    "numpy", "scipy", "pyarrow", "pydantic", "torch", "transformers", "tokenizers", "safetensors", "peft", "accelerate",
    "scikit-learn", "vaderSentiment", "trl", "datasets", "vllm", "deepspeed",
)  # fmt: skip
_CHECKOUT = Path(regard.__file__).resolve().parents[2]


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that can change a number, read from their metadata without importing them."""
    versions: dict[str, str] = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(_CHECKOUT), *arguments], capture_output=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", errors="replace")


def code_revision() -> tuple[str | None, str]:
    """Git revision of Regard's own checkout and its uncommitted changes as a diff; (None, "") where it is installed."""
    if not (_CHECKOUT / ".git").exists():  # installed into site-packages: a repository further up is not ours
        return None, ""
    revision = _git("rev-parse", "HEAD")
    return (revision.strip(), _git("diff", "HEAD") or "") if revision else (None, "")


def hardware() -> dict[str, Any]:
    """Machine as the operating system names it; memory in GB of 10^9 bytes."""
    return {
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu": _cpu_name(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": _memory_gb(),
        "gpus": _gpu_names(),
    }


def multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for bfloat16 products (AMX, AVX-512 BF16, or Arm's BF16).

    Without them a product is put together from float32 ones, which took eight times as long as float32 itself where it
    was measured. False where the system does not say.
    """
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False
    return not words.isdisjoint({"amx_bf16", "avx512_bf16", "bf16"})


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (ValueError, OSError):
        return None


def _gpu_names() -> list[str]:
    names: list[str] = []
    for file in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        lines = file.read_text(errors="replace").splitlines()
        names += [line.split(":", 1)[1].strip() for line in lines if line.startswith("Model:")]
    return names
