"""Numbers that are not numbers, and gradients that jump."""
