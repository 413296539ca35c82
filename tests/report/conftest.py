"""A healthy run and its page, made once."""

from pathlib import Path

import pytest
from make_run import make_run

from regard.report import ReportData, build, render_html


@pytest.fixture(scope="session")
def healthy_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("report") / "run")


@pytest.fixture(scope="session")
def healthy(healthy_run: Path) -> ReportData:
    return build(healthy_run)


@pytest.fixture(scope="session")
def page(healthy: ReportData) -> str:
    return render_html(healthy)
