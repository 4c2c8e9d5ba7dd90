"""Seeds for random generators, derived from their purpose, so that no generator state has to be saved."""

from __future__ import annotations

import hashlib
import random


def derive_seed(*parts: int | str) -> int:
    """Return a seed below 2^63 that depends on all `parts`, such as (run seed, "dropout", step).

    All parts affect all bits, because torch's CPU generator uses only the lower 32.
    """
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seed_all_generators(seed: int) -> None:
    """Seed the global generators of torch, numpy and Python."""
    import numpy as np
    import torch

    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
