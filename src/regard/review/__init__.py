"""From the record of a run to what is wrong with it. Reads files, knows no trainer, needs no torch."""

from regard.review.engine import Review, review
from regard.review.registry import catalogue
from regard.review.schema import schema

__all__ = ["Review", "catalogue", "review", "schema"]
