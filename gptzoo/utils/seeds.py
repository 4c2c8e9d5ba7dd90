"""Seeds for everything that is random, each a function of what it is for: there is no generator state to lose."""

from __future__ import annotations

import hashlib


def derive(*parts: int | str) -> int:
    """A seed below 2^63 that depends on all `parts`, such as (run seed, "dropout", step).

    All its bits are mixed: torch's CPU generator looks at the lower 32 alone.
    """
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
