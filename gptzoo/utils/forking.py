"""Forks that use autograd.

torch gives autograd a thread for each GPU when it is first used, and lets no fork of a process that has such threads
use it. Builds of torch for CUDA count a GPU where there is none, too, once a FakeTensorMode has pretended that there is
one.
"""

from __future__ import annotations

import os

import torch

NO_AUTOGRAD = (
    "torch lets no fork use autograd once its parent has with a GPU in sight; CUDA_VISIBLE_DEVICES= hides all of them"
)


def allow_autograd_in_forks() -> None:
    """Hide the GPUs from this process, so that its forks may use autograd. Call it before anything used either."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    torch.ones((), requires_grad=True).backward()


def autograd_works() -> bool:
    """Whether torch lets this process use autograd, which is the question in a fork."""
    try:
        torch.ones((), requires_grad=True).backward()
    except RuntimeError:
        return False
    return True
