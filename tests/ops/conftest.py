"""Hypothesis draws few examples when REGARD_HYPOTHESIS=quick (the sabotage benchmark needs many runs)."""

import os

import torch
from hypothesis import settings

settings.register_profile("default", max_examples=40, deadline=None, derandomize=True)
settings.register_profile("quick", max_examples=6, deadline=None, derandomize=True)
settings.load_profile("quick" if os.environ.get("REGARD_HYPOTHESIS") == "quick" else "default")
torch.set_num_threads(1)
