"""Seeds for random generators, derived from their purpose, so that no generator state has to be saved."""

from __future__ import annotations

import hashlib


def derive_seed(*parts: int | str) -> int:
    """Return a seed below 2^63 that depends on all `parts`, such as (run seed, "dropout", step).

    All parts affect all bits, because torch's CPU generator uses only the lower 32.
    """
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
