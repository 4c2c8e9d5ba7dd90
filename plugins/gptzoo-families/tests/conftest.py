"""One thread per process, as for the other packages, and the packages that this one needs."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported
if "GPTZOO_PLUGINS" in os.environ:  # the tests of one package by itself
    os.environ["GPTZOO_PLUGINS"] = ",".join(
        f"gptzoo-{name}" for name in ("families", "activations", "alibi", "memory", "moe", "norms", "recurrent")
    )
