"""Our run record out of any training loop. Imports neither torch nor transformers; `trl` beside it does."""

from regard.integrations.recorder import Recorder

__all__ = ["Recorder"]
