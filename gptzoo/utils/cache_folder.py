"""The cache folder, for results that are slow to compute and can be computed again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return $GPTZOO_CACHE, or ~/.cache/gptzoo by default. The folder may not exist."""
    return Path(os.environ.get("GPTZOO_CACHE") or Path.home() / ".cache" / "gptzoo").expanduser()
