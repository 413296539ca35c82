"""Runs made elsewhere, read into the form of our run record.

Two questions are apart: which file format holds the numbers (`containers/`), and what its keys mean (`vocabularies/`).
"""

from regard.runlog.importers.read import SOURCES, check_source, read_any, read_mapping

__all__ = ["SOURCES", "check_source", "read_any", "read_mapping"]
