"""One thread: for models as tiny as those of the tests, more of them are slower."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported
