"""Run pytest on the pretended CUDA device. The options are those of pytest, such as `-m cuda tests`."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])  # the folder of this file until now
    from pretended_cuda.device import install

    install()
    import pytest

    sys.exit(pytest.main(sys.argv[1:]))
