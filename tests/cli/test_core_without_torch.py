"""The core alone: no torch, no transformers, and imports that point one way."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import regard

BLOCKER = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('torch', 'transformers', 'tokenizers', 'safetensors', 'peft', 'sklearn'):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
from regard.cli.main import main
sys.argv = ['regard', *sys.argv[1:]]
main()
"""

ROOT = Path(regard.__file__).parent

ALLOWED = {
    "ops": set(),
    "data": set(),
    "models": {"data", "ops"},
    "rollout": {"models", "data", "ops"},
    "train": {"rollout", "models", "data", "ops", "runlog"},
    "runlog": set(),
    "review": {"runlog"},
    "report": {"review", "runlog"},
    "lab": {"verify", "train", "rollout", "models", "data", "ops", "runlog", "review"},
    "verify": {"train", "rollout", "models", "data", "ops", "runlog", "review"},
    "compare": {"runlog"},
    "integrations": {"runlog"},
}
"""Package → packages of ours it may import; single modules (errors, config, stages, text) are open to all but ops."""


def without_torch(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BLOCKER, *arguments], capture_output=True, text=True, env={**os.environ}, timeout=60
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("--version",),
        ("explain", "kl/policy_ref_k1/seq_sum"),
        ("explain", "ppo.kl_coef", "--json"),
        ("explain", "KL001"),
        ("data", "check", str(Path(__file__).parents[2] / "examples/data/trl.jsonl")),
        ("doctor",),
        ("doctor", "--recipe", "tiny"),
    ],
)
def test_core_commands_run_without_torch(arguments: tuple[str, ...]) -> None:
    done = without_torch(*arguments)
    assert done.returncode == 0, done.stderr


def test_training_without_torch_names_the_extra(tmp_path: Path) -> None:
    done = without_torch("run", "tiny", "--out", str(tmp_path / "run"))
    assert done.returncode == 2 and "regard[train]" in done.stderr and "Traceback" not in done.stderr


def test_imports_point_one_way() -> None:
    for package, allowed in ALLOWED.items():
        for path in (ROOT / package).rglob("*.py"):
            for name in _imports(path):
                parts = name.split(".")
                if parts[0] != "regard" or len(parts) < 2:
                    continue
                target = parts[1]
                if package == "ops":
                    assert target == "ops", f"{path.name} imports {name}: ops is pure"
                if target in ALLOWED:
                    assert target == package or target in allowed, f"{package}/{path.name} imports {name}"


def test_runlog_report_and_core_modules_never_name_torch() -> None:
    for package in ("runlog", "review", "report"):
        for path in (ROOT / package).rglob("*.py"):
            assert not {"torch", "transformers"} & {n.split(".")[0] for n in _imports(path)}, path


def _imports(path: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
    return names
