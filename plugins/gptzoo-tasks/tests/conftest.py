"""One thread per process: with models as small as those in the tests, more threads are slower."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported
