"""What must hold whatever is trained on whatever data."""
