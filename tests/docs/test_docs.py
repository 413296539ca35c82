"""Pages that can be generated are current; what pages name exists."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from regard.runlog.metrics import METRICS

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
assert SPEC and SPEC.loader
generate = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(generate)

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("name", generate.PAGES)
def test_generated_page_is_current(name: str) -> None:
    page = ROOT / "docs/reference" / name
    assert page.read_text(encoding="utf-8") == generate.PAGES[name](), "run: python docs/generate.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_and_paths_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
    for path in re.findall(r"`((?:src|tests|benchmarks|docs|recipes|examples)/[\w./-]+\.\w+)`", text):
        if "/x." not in path:
            assert (ROOT / path).exists(), f"{page.name} names {path}"


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    assert "WARNING -" not in built.stderr
    assert (tmp_path / "site/concepts/index.html").is_file()


def test_every_page_is_in_the_navigation() -> None:
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")]
    assert [page for page in pages if f": {page}" not in nav] == []


def test_tests_that_pages_name_exist() -> None:
    code = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "tests").rglob("test_*.py"))
    for page in PAGES:
        for name in re.findall(r"`(test_\w+)`", page.read_text(encoding="utf-8")):
            assert f"def {name}(" in code, f"{page.name} names {name}"


def test_every_configuration_key_has_a_description() -> None:
    assert [key for key, facts in generate.config_fields().items() if not facts["description"]] == []


def test_metric_keys_that_the_concepts_name_are_declared() -> None:
    text = (ROOT / "docs/concepts.md").read_text(encoding="utf-8")
    named = re.findall(
        r"`((?:loss|rm|score|gold|kl|finish|value|advantage|ratio|clip|policy|time|memory)/[\w/]+)`", text
    )
    assert len(named) > 15
    assert [key for key in named if key not in METRICS] == []
