"""Where is kept what takes long to make and can be made again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """$GPTZOO_CACHE, or ~/.cache/gptzoo. It need not exist."""
    return Path(os.environ.get("GPTZOO_CACHE") or Path.home() / ".cache" / "gptzoo").expanduser()
