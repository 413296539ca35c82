"""Sampling responses and scoring them; each part behind a Protocol."""
