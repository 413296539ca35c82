"""Score against quality."""
