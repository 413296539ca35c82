"""Checkpoints: safetensors for tensors, JSON for the rest; written to a temporary name and renamed.

A checkpoint holds what the next step needs and nothing else: trained weights, optimiser moments, torch's RNG state and
the step. The data position is the step: every order and every draw is a function of (seed, stage, step).
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from regard.errors import RunLogError


def replace_directory(temporary: Path, target: Path) -> None:
    """Put `temporary` in the place of `target`; a kill leaves the old, or the new, or a name that is cleaned up."""
    if target.exists():
        shutil.rmtree(target)
    temporary.replace(target)


@contextmanager
def whole_or_nothing(temporary: Path, target: Path) -> Iterator[None]:
    """Around writing `temporary`: a full disk leaves nothing of it, and tells what to do.

    Raises:
        RunLogError: the file system refused; safetensors has an error of its own for that.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise RunLogError(
            f"{target}: cannot be written ({error}). Free some space and run again with --resume."
        ) from error


def trained_parameters(modules: dict[str, nn.Module]) -> dict[str, nn.Parameter]:
    """Every parameter that requires a gradient, by `module/name`; a shared parameter is listed once."""
    seen: set[int] = set()
    named: dict[str, nn.Parameter] = {}
    for prefix, module in modules.items():
        for name, parameter in module.named_parameters():
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                named[f"{prefix}/{name}"] = parameter
    return named


def save_checkpoint(
    directory: Path,
    step: int,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    extra: dict[str, Any],
) -> Path:
    """Write `directory/step-%08d`, where `step` is the number of finished steps."""
    target = directory / f"step-{step:08d}"
    temporary = directory / f".partial-{step:08d}"
    shutil.rmtree(temporary, ignore_errors=True)
    with whole_or_nothing(temporary, target):
        temporary.mkdir(parents=True)
        tensors: dict[str, Tensor] = {f"weights/{k}": v.detach().contiguous() for k, v in parameters.items()}
        for name, parameter in parameters.items():
            for slot, value in optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer/{slot}/{name}"] = torch.as_tensor(value).contiguous()
        tensors["rng"] = torch.get_rng_state()
        save_file(tensors, temporary / "state.safetensors")
        (temporary / "state.json").write_text(json.dumps({"step": step, **extra}), encoding="utf-8")
        replace_directory(temporary, target)
    return target


def checkpoints(directory: Path) -> list[Path]:
    """Whole checkpoints, oldest first; what a kill left half-written is removed."""
    if not directory.is_dir():
        return []
    for leftover in directory.glob(".partial-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    return sorted(p for p in directory.glob("step-*") if (p / "state.json").is_file())


def prune_checkpoints(directory: Path, keep_every: int) -> None:
    """Keep the newest two (a kill can fall into a rename) and, for good, every `keep_every`-th."""
    for path in checkpoints(directory)[:-2]:
        step = int(path.name.removeprefix("step-"))
        if not keep_every or step % keep_every:
            shutil.rmtree(path)


def load_checkpoint(
    path: Path, parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Restore weights, moments and RNG in place; returns what `save_checkpoint` was given as `extra`, and `step`.

    Raises:
        RunLogError: the checkpoint belongs to another model or configuration.
    """
    tensors = load_file(path / "state.safetensors")
    state = json.loads((path / "state.json").read_text(encoding="utf-8"))
    names = {k.removeprefix("weights/") for k in tensors if k.startswith("weights/")}
    if names != set(parameters):
        odd = sorted(names ^ set(parameters))[0]
        raise RunLogError(
            f"{path}: does not fit this configuration (parameter {odd}). Resume with the run's own config."
        )
    for name, parameter in parameters.items():
        kept = tensors[f"weights/{name}"].dtype
        if kept is not parameter.dtype:
            raise RunLogError(
                f"{path}: has weights in {kept}, where {parameter.dtype} is trained. Resume with the run's own config "
                f"and version, or begin a new run."
            )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[f"weights/{name}"])
    for name, parameter in parameters.items():
        slots = {
            key.split("/", 2)[1]: value
            for key, value in tensors.items()
            if key.startswith("optimizer/") and key.split("/", 2)[2] == name
        }
        if slots:
            optimizer.state[parameter] = slots
    torch.set_rng_state(tensors["rng"])
    return state


def weights_sha256(*modules: nn.Module) -> str:
    """SHA-256 over names, shapes and bytes of all parameters and buffers, in name order."""
    digest = hashlib.sha256()
    for module in modules:
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            digest.update(tensor.detach().contiguous().cpu().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
