"""What a logits processor owes: each row by itself, nothing kept, something left to choose."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gptzoo.component import Config
from gptzoo.testing.subject import Subject
from gptzoo.testing.verdict import Failed

N_TOKENS = 13
TOKENS = [[3], [1, 2, 3, 3, 3], [12, 0, 12, 5, 5, 5, 5]]  # of each row so far


def processing(subject: Subject) -> None:
    """Logits stay (B, V), float32 and no NaN; what was impossible stays so, and something possible is left."""
    process = subject.config.build()
    for what, logits in _cases().items():
        processed = process(logits, TOKENS)
        if processed.shape != logits.shape or processed.dtype != logits.dtype:
            raise Failed(f"{what} come back as {tuple(processed.shape)} {processed.dtype}")
        if processed.isnan().any() or (processed == torch.inf).any():
            raise Failed(f"{what} come back with {'NaN' if processed.isnan().any() else 'infinity'}")
        if not (processed > -torch.inf).any(-1).all():
            row = int((processed == -torch.inf).all(-1).nonzero()[0])
            raise Failed(f"{what} come back with no token possible in row {row}")
        if (processed[logits == -torch.inf] > -torch.inf).any():
            raise Failed(f"{what} come back with a token possible again that another processor had excluded")


def rows(subject: Subject) -> None:
    """A row depends on its own logits and tokens alone."""
    process, logits = subject.config.build(), _cases()["random logits"]
    together = process(logits.clone(), TOKENS)
    for row in range(len(TOKENS)):
        alone = process(logits[[row]].clone(), [TOKENS[row]])
        if not torch.equal(alone, together[[row]]):
            raise Failed(f"row {row} alone differs from itself in a batch of {len(TOKENS)}")


def inputs(subject: Subject) -> None:
    """It does not write into the logits or the tokens that it is given."""
    process, logits = subject.config.build(), _cases()["random logits"]
    kept, tokens = logits.clone(), [list(row) for row in TOKENS]
    process(logits, tokens)
    if not torch.equal(logits, kept):
        raise Failed("it writes into the logits that it is given")
    if tokens != TOKENS:
        raise Failed("it writes into the tokens that it is given")


def determinism(subject: Subject) -> None:
    """It keeps nothing between calls: the same logits and tokens give the same again."""
    process, cases = subject.config.build(), _cases()
    first = process(cases["random logits"].clone(), TOKENS)
    for logits in cases.values():
        process(logits.clone(), TOKENS)
    if not torch.equal(process(cases["random logits"].clone(), TOKENS), first):
        raise Failed("after other calls the same logits and tokens give something else")


def behaviour(config: Config) -> dict[str, Any]:
    """What options could change."""
    return {what: config.build()(logits, TOKENS) for what, logits in _cases().items()}


def _cases() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (len(TOKENS), N_TOKENS)
    some = torch.randn(shape, generator=generator)
    one_left = torch.full(shape, -torch.inf).scatter(1, torch.tensor([[4], [3], [12]]), 1.0)
    return {
        "random logits": 3 * some,
        "equal logits": torch.zeros(shape),
        "huge logits": 1e4 * some,
        "logits half excluded": some.masked_fill(torch.arange(N_TOKENS) % 2 == 0, -torch.inf),
        "logits with one token left": one_left,
    }
