"""Tests of the code for CUDA: on a GPU with `-m cuda`, or on a pretended device with `python tests/pretended_cuda`."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def needs_cuda() -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device here")
