"""Every pair of parts that fit together: on CUDA they compute what they compute on the CPU."""

from __future__ import annotations

from typing import Any

import pytest
from cuda.model_check import check_on_cuda

pytestmark = [pytest.mark.cuda, pytest.mark.slow]


def test_parts_together_compute_on_cuda_what_they_compute_on_the_cpu(any_spec: dict[str, Any]) -> None:
    check_on_cuda(any_spec)
