"""Shared by all tests: one micro run of every stage, trained for real on real data, in some tens of seconds."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores; before torch is imported, or it starts a thread each
    os.environ["OMP_NUM_THREADS"] = "1"

import pytest
from support import micro_run

WHOLE_RUNS = {"train", "verify", "lab", "compare", "cli"}
"""Directories of tests that train: first, so that no long file is what one process is left with at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not WHOLE_RUNS.intersection(item.path.parts))


@pytest.fixture(scope="session")
def micro(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a finished micro run, the same one for every worker: who comes first makes it, the others wait."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    out = shared / "micro"
    with (shared / "micro.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (out / "summary.json").is_file():
            done = micro_run(out)
            assert done.returncode == 0, done.stderr
    return out


@pytest.fixture
def compile_anew() -> Iterator[None]:
    """What other tests have compiled is not used in this one, nor what it compiles in others."""
    from regard.models.native import compiled, kernels

    def forget() -> None:
        compiled.cache_clear()
        kernels.cache_clear()

    forget()
    yield
    forget()


@pytest.fixture
def no_compiler(compile_anew: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine where nothing compiles C, from where a test asks for it."""
    monkeypatch.setenv("CC", "no-such-compiler")
