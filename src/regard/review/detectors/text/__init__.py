"""Length and ending of responses."""
