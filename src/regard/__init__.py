"""Regard trains language models from human feedback and reviews the training run."""

__version__ = "0.1.0"
