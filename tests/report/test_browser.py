"""The page in a real browser. Slow, and needs Chromium: `apt-get install chromium` where it is absent."""

import shutil
import subprocess
from pathlib import Path

import pytest
from make_run import make_run

from regard.report import write_report


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 420])
def test_chromium_renders_the_report(tmp_path: Path, width: int) -> None:
    """Opens report.html from disk in headless Chromium and reads the DOM that the browser made of it.

    Marked slow: it starts a browser. Chromium (`chromium` on the path) must be installed.
    """
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert browser, "Chromium is not installed. Type: apt-get install chromium"
    page = write_report(make_run(tmp_path / "run", steps=6, nan_steps=(2,)))
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--window-size={width},900",
        f"--user-data-dir={tmp_path}/profile",
    ]
    # A probe beside the page measures it, because the page itself runs no script.
    probe = tmp_path / "probe.html"
    probe.write_text(
        f"""<!doctype html><iframe id=f style="border:0;width:{width}px;height:900px" src="run/report.html"></iframe>
        <script>f.onload = () => {{ const d = f.contentDocument.documentElement;
        document.title = "overflow " + (d.scrollWidth - d.clientWidth); }}</script>"""
    )
    dom = subprocess.run([browser, *options, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120)
    assert dom.returncode == 0
    assert dom.stdout.count("<svg") == 20 and dom.stdout.count("<section") == 9
    assert "Refused to" not in dom.stderr  # the content security policy blocks nothing the page wants
    measured = subprocess.run(
        [browser, *options, "--allow-file-access-from-files", "--dump-dom", probe.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "<title>overflow 0</title>" in measured.stdout  # nothing makes the page scroll sideways
