"""Distance to the reference."""
