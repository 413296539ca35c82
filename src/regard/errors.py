"""What a user can do wrong, as exceptions. The command line prints the message alone and exits with 2.

A message is one sentence of fact and one of what to type next. Our own bugs are assertions, not these.
"""


class RegardError(Exception):
    """Base of every error that a user can cause and mend."""


class ConfigError(RegardError, ValueError):
    """A recipe, override or option that cannot be used."""


class DataError(RegardError, ValueError):
    """A data file that cannot be read as what it claims to be; the message starts with `file:line`."""


class AssetError(RegardError):
    """A pinned download that is missing, damaged or not to be had."""


class RunLogError(RegardError):
    """A run directory that cannot be read, or is in use."""
