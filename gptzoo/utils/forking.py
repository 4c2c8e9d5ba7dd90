"""Autograd in forked processes.

On first use, autograd starts a thread per GPU, and torch refuses autograd in forks of a process with such threads. CUDA
builds of torch also count the fake GPU of a FakeTensorMode.
"""

from __future__ import annotations

import os

import torch

NO_AUTOGRAD = (
    "torch refuses autograd in a fork if the parent process has used autograd with a GPU. "
    "Set CUDA_VISIBLE_DEVICES= to hide all GPUs."
)


def allow_autograd_in_forks() -> None:
    """Hide the GPUs, so that forks of this process can use autograd. Call it before the first use of either."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    torch.ones((), requires_grad=True).backward()


def autograd_works() -> bool:
    """Return True if this process, which may be a fork, can use autograd."""
    try:
        torch.ones((), requires_grad=True).backward()
    except RuntimeError:
        return False
    return True
