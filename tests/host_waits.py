"""A count of the operations for which the host waits for the GPU."""

from __future__ import annotations

import contextlib
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def recorded_host_waits() -> Iterator[Counter[str]]:
    """Count the host's waits in the block by the line of gptzoo that is the origin of each.

    A host that waits cannot launch the next kernels, so the GPU idles. torch reports such operations, such as `.item()`
    and copies from memory that is not pinned.
    """
    waits: Counter[str] = Counter()

    def show(message: Warning | str, *details: Any, **options: Any) -> None:
        if "synchronizing CUDA operation" in str(message):
            lines = [frame for frame in traceback.extract_stack() if "/gptzoo" in frame.filename]
            lines = [frame for frame in lines if "/tests/" not in frame.filename]
            waits["/".join(lines[-1].filename.split("/")[-3:]) + f":{lines[-1].lineno}" if lines else "elsewhere"] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield waits
        finally:
            torch.cuda.set_sync_debug_mode("default")
