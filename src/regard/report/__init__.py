"""The report of a run: one HTML file that opens from disk, the same as text for a terminal, the same as JSON.

Reads only the run directory, never the trainer, and needs no torch. `build` gathers, the renderers present.
"""

from regard.report.build import build
from regard.report.html import render_html, write_report
from regard.report.json_data import to_json
from regard.report.model import ReportData
from regard.report.text import render_text

__all__ = ["ReportData", "build", "render_html", "render_text", "to_json", "write_report"]
