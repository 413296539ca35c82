"""Prompts and their format."""
