"""`regard doctor`: what this machine can run, what is missing, how long the recipes take."""

import importlib.metadata
import json
import os
import platform
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from regard.config import RecipeConfig, load_recipe
from regard.data.assets import ASSETS
from regard.errors import ConfigError
from regard.models.native import compiler
from regard.runlog.environment import multiplies_bfloat16
from regard.train.planner import IMPORTED_GB, imported_gb, memory_gb, plan, refuse_what_does_not_fit

TRAIN_PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "peft", "scikit-learn", "vaderSentiment")

RECIPES: dict[str, dict[str, dict[str, float]]] = {
    "tiny": {
        "float32": {"gb": 1.5, "disk_gb": 0.3, "seconds": 105, "gflops": 179},
        "bfloat16": {"gb": 1.5, "disk_gb": 0.3, "seconds": 60, "gflops": 430},
    },
    "movie-sentiment": {
        "float32": {"gb": 5.1, "disk_gb": 4.0, "seconds": 704, "gflops": 179},
        "bfloat16": {"gb": 2.8, "disk_gb": 4.0, "seconds": 447, "gflops": 437},
    },
}
"""By the number format that `model.dtype: auto` means here. Memory: the measured peak (docs/experiments.md), rounded
up; in bfloat16 with CUDA's libraries. A run took so many seconds on two cores where products of matrices reached so
many GFLOP/s; that of `movie-sentiment` in float32 is 6.7 times that of `tiny`, as measured elsewhere."""


def doctor(
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="Plan a run of this recipe: memory of each stage, time of a step.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="With --recipe: override, for example ppo.micro_batch_size=8.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what this machine can run, which parts are missing, and how long the recipes take.

    Example: regard doctor --recipe movie-sentiment --set ppo.batch_size=128
    """
    if recipe is not None:
        _plan(load_recipe(recipe, overrides), as_json)
        return
    if overrides:
        raise ConfigError("--set changes a recipe. Type --recipe NAME too.")
    facts = examine()
    if as_json:
        print(json.dumps(facts))
        return
    print(f"{facts['cores']} cores, {facts['memory_gb']:.1f} GB memory, {facts['disk_gb']:.0f} GB free disk")
    for name, version in facts["packages"].items():
        print(f"  {'ok ' if version else 'no '} {name} {version or '(pip install regard[train])'}")
    if not facts["c_compiler"]:
        print("  no  C compiler (training in bfloat16 is slower without; install one, or set CC)")
    if facts["gflops_float32"]:
        print(f"matrix product: {facts['gflops_float32']:.0f} GFLOP/s in float32")
    for recipe, fit in facts["recipes"].items():
        minutes = f"roughly {fit['minutes']:.0f} min" if fit["minutes"] else "time unknown without torch"
        print(f"  {'ok ' if fit['fits'] else 'no '} {recipe}: {minutes}, needs {fit['gb']} GB{fit['why']}")


def _plan(config: RecipeConfig, as_json: bool) -> None:
    """Print what a run will need.

    Raises:
        ConfigError: it will not fit, or the sizes of its model are not known.
    """
    imported = _imported_gb()
    found = plan(config, _gflops(config.model.dtype), imported_gb=imported)
    if found is None:
        hint = f"Type: regard data fetch {config.model.source}" if config.model.source in ASSETS else NOT_PLANNED
        raise ConfigError(f"The sizes of model {config.model.source!r} are not known here. {hint}")
    free = memory_gb()
    if as_json:
        seconds = found.step_seconds
        print(json.dumps({"gb": found.gb, "peak_gb": found.peak_gb, "free_gb": free, "step_seconds": seconds}))
    else:
        print(f"{config.recipe}: about {found.peak_gb:.1f} GB at most, and {free:.1f} GB are free")
        for stage, gb in found.gb.items():
            print(f"  {stage:9}{gb:5.1f} GB")
        steps = config.ppo.steps
        if found.step_seconds is None:
            print("time unknown without torch")
        else:
            seconds = found.step_seconds
            print(
                f"an iteration of stage 4 takes about {seconds:.0f} s, all {steps} about {steps * seconds / 60:.0f} min"
            )
    refuse_what_does_not_fit(config, config.stages, free, imported_gb=imported)


NOT_PLANNED = "Point model.source at a directory whose config.json is that of a Llama, Mistral or Qwen."


def examine() -> dict[str, Any]:
    cache = Path(os.environ.get("REGARD_CACHE", Path.home() / ".cache" / "regard"))
    existing = next(p for p in (cache, *cache.parents) if p.exists())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    packages: dict[str, str | None] = {}
    for name in TRAIN_PACKAGES:
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            packages[name] = None
    gflops, dtype = _gflops(), "bfloat16" if multiplies_bfloat16() else "float32"
    rate = gflops if dtype == "float32" else _gflops(dtype)
    disk = shutil.disk_usage(existing).free / 1e9
    recipes = {}
    for name, of in RECIPES.items():
        needs = of[dtype]
        missing = [p for p, version in packages.items() if version is None]
        why = f"; missing: {', '.join(missing)}" if missing else ""
        why += "; too little memory" if memory < needs["gb"] else ""
        why += "; too little disk" if disk < needs["disk_gb"] else ""
        seconds = needs["seconds"] * needs["gflops"] / rate if rate else None
        recipes[name] = {"fits": not why, "why": why, "gb": needs["gb"], "minutes": seconds / 60 if seconds else None}
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": memory,
        "disk_gb": disk,
        "python": platform.python_version(),
        "packages": packages,
        "c_compiler": shutil.which(compiler()[0]),
        "gflops_float32": gflops,
        "recipes": recipes,
    }


def _imported_gb() -> float:
    """Of this process, once it has imported what a run imports."""
    try:
        import regard.train.pipeline  # noqa: F401
    except ModuleNotFoundError:
        return IMPORTED_GB
    return imported_gb()


def _gflops(dtype: str = "float32") -> float | None:
    """Of products of large matrices; None without torch."""
    try:
        import torch

        from regard.models.work import operations_per_second
    except ModuleNotFoundError:
        return None
    return operations_per_second(getattr(torch, dtype)) / 1e9
