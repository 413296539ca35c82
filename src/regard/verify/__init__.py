"""Proof: fork a run, change one thing, run again, and compare with controls on an independent judge."""
