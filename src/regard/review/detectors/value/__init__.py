"""The value that advantages are measured from."""
