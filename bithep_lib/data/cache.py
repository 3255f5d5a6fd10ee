"""Where downloads and simulated shards live: never in the clone."""

import os
from pathlib import Path

__all__ = ["cache_dir"]


def cache_dir(*parts: str) -> Path:
    """The folder ``$BITHEP_CACHE`` (default ``~/.cache/bithep``), or a folder below it. It is not created here."""
    root = os.environ.get("BITHEP_CACHE") or Path.home() / ".cache" / "bithep"
    return Path(root).expanduser().joinpath(*parts)
