"""What a logits processor owes: each row by itself, nothing that depends on calls before, something left to choose."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gptzoo.component import Config
from gptzoo.data.tokenizers.tokenizer import CharTokenizer, Tokenizer
from gptzoo.errors import InputError
from gptzoo.sampling.processors.processor import LogitsProcessor
from gptzoo.sampling.sequence import TokenSequence
from gptzoo.testing.subject import Subject
from gptzoo.testing.verdict import Failed

CHARACTERS = '012[ab ]{},:"'
N_TOKENS = len(CHARACTERS)
ROWS = (TokenSequence([3], 1), TokenSequence([1, 2, 3, 3, 3], 2), TokenSequence([12, 0, 12, 5, 5, 5, 5], 7))


def processing(subject: Subject) -> None:
    """Logits stay (B, V), float32 and no NaN; what was impossible stays so, and something possible is left."""
    process = build(subject.config)
    for what, logits in _cases().items():
        processed = _processed(process, logits)
        if processed is None:
            continue
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
    process, logits = build(subject.config), _cases()["random logits"]
    together = process(logits.clone(), ROWS)
    for index, row in enumerate(ROWS):
        alone = process(logits[[index]].clone(), [row])
        if not torch.equal(alone, together[[index]]):
            raise Failed(f"row {index} alone differs from itself in a batch of {len(ROWS)}")


def inputs(subject: Subject) -> None:
    """It does not write into the logits or the rows that it is given."""
    process, logits = build(subject.config), _cases()["random logits"]
    kept, given = logits.clone(), copy.deepcopy(ROWS)
    process(logits, given)
    if not torch.equal(logits, kept):
        raise Failed("it writes into the logits that it is given")
    if given != ROWS:
        raise Failed("it writes into the rows that it is given")


def determinism(subject: Subject) -> None:
    """What it returns does not depend on calls before: the same logits and rows give the same again."""
    process, cases = build(subject.config), _cases()
    first = process(cases["random logits"].clone(), ROWS)
    for index, logits in enumerate(cases.values()):
        _processed(process, logits.clone(), [TokenSequence([*row.tokens, index], row.prompt_length) for row in ROWS])
        process.finished(ROWS[index % len(ROWS)])
    if not torch.equal(process(cases["random logits"].clone(), ROWS), first):
        raise Failed("after other calls the same logits and rows give something else")


def behaviour(config: Config) -> dict[str, Any]:
    """What options could change."""
    return {what: _processed(build(config), logits) for what, logits in _cases().items()}


def build(config: Config) -> LogitsProcessor:
    """The processor, with a tokenizer of one character an id."""
    tokenizer: Tokenizer = CharTokenizer(CharTokenizer.Config(), CHARACTERS)
    return config.build(tokenizer)


def _processed(process: LogitsProcessor, logits: Tensor, given: Sequence[TokenSequence] = ROWS) -> Tensor | None:
    """The logits processed, or None where a processor that constrains may refuse and does."""
    try:
        return process(logits, given)
    except InputError:
        if not process.constrains or (logits > -torch.inf).all():
            raise
        return None


def _cases() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (len(ROWS), N_TOKENS)
    some = torch.randn(shape, generator=generator)
    one_left = torch.full(shape, -torch.inf).scatter(1, torch.tensor([[4], [3], [12]]), 1.0)
    return {
        "random logits": 3 * some,
        "equal logits": torch.zeros(shape),
        "huge logits": 1e4 * some,
        "logits half excluded": some.masked_fill(torch.arange(N_TOKENS) % 2 == 0, -torch.inf),
        "logits with one token left": one_left,
    }
