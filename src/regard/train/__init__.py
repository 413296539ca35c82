"""One readable script per stage. A stage reads and writes the run directory and keeps no other state."""
