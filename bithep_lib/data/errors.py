"""The error of every loader."""

__all__ = ["DataError"]


class DataError(ValueError):
    """A data file that cannot be used as it is; the message names the file and what is wrong with it."""
