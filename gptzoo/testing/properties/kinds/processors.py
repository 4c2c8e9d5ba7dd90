"""Properties of logits processors: rows are independent, calls are independent, and some token stays possible."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from gptzoo.component import Config
from gptzoo.data.tokenizers.char import CharTokenizer
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import InputError
from gptzoo.sampling.processors.processor import LogitsProcessor
from gptzoo.sampling.sequence import TokenSequence
from gptzoo.testing.component_under_test import ComponentUnderTest
from gptzoo.testing.verdict import Failed

_CHARACTERS = '012[ab ]{},:"'  # of the tokenizer; each has an id
_N_TOKENS = len(_CHARACTERS)
_SEQUENCES = (TokenSequence([3], 1), TokenSequence([1, 2, 3, 3, 3], 2), TokenSequence([12, 0, 12, 5, 5, 5, 5], 7))


def check_processing(subject: ComponentUnderTest) -> None:
    """Check that logits keep shape, dtype and excluded tokens, have no NaN, and leave a possible token in each row."""
    processor = _build(subject.config)
    for name, logits in _example_logits().items():
        processed = _process(processor, logits)
        if processed is None:
            continue
        if processed.shape != logits.shape or processed.dtype != logits.dtype:
            raise Failed(
                f"it returns {processed.dtype} of shape {tuple(processed.shape)} for {name}; expected {logits.dtype} "
                f"of shape {tuple(logits.shape)}"
            )
        if processed.isnan().any() or (processed == torch.inf).any():
            raise Failed(f"it returns {'NaN' if processed.isnan().any() else 'infinity'} for {name}")
        if not (processed > -torch.inf).any(-1).all():
            row = int((processed == -torch.inf).all(-1).nonzero()[0])
            raise Failed(f"it leaves no token possible in row {row} of {name}")
        if (processed[logits == -torch.inf] > -torch.inf).any():
            raise Failed(f"it makes a token possible again that was excluded from {name}")


def check_rows(subject: ComponentUnderTest) -> None:
    """Check that a row depends only on its own logits and tokens."""
    processor, logits = _build(subject.config), _example_logits()["random logits"]
    batch = processor(logits.clone(), _SEQUENCES)
    for row, sequence in enumerate(_SEQUENCES):
        alone = processor(logits[[row]].clone(), [sequence])
        if not torch.equal(alone, batch[[row]]):
            raise Failed(f"row {row} alone and in a batch of {len(_SEQUENCES)} rows gives different logits")


def check_inputs_not_modified(subject: ComponentUnderTest) -> None:
    """Check that it does not write to the logits or the sequences that it receives."""
    processor, logits = _build(subject.config), _example_logits()["random logits"]
    logits_before, sequences = logits.clone(), copy.deepcopy(_SEQUENCES)
    processor(logits, sequences)
    if not torch.equal(logits, logits_before):
        raise Failed("it writes to the logits that it receives")
    if sequences != _SEQUENCES:
        raise Failed("it writes to the sequences that it receives")


def check_determinism(subject: ComponentUnderTest) -> None:
    """Check that its result does not depend on earlier calls."""
    processor, examples = _build(subject.config), _example_logits()
    first = processor(examples["random logits"].clone(), _SEQUENCES)
    for index, logits in enumerate(examples.values()):
        longer = [TokenSequence([*sequence.tokens, index], sequence.prompt_length) for sequence in _SEQUENCES]
        _process(processor, logits.clone(), longer)
        processor.finished(_SEQUENCES[index % len(_SEQUENCES)])
    if not torch.equal(processor(examples["random logits"].clone(), _SEQUENCES), first):
        raise Failed("the same logits and sequences give another result after other calls")


def behaviour(config: Config) -> dict[str, Tensor | None]:
    """Return the results for all example logits."""
    return {name: _process(_build(config), logits) for name, logits in _example_logits().items()}


def _build(config: Config) -> LogitsProcessor:
    """Build the processor with a tokenizer of one id per character."""
    tokenizer: Tokenizer = CharTokenizer(CharTokenizer.Config(), _CHARACTERS)
    return config.build(tokenizer)


def _process(
    processor: LogitsProcessor, logits: Tensor, sequences: Sequence[TokenSequence] = _SEQUENCES
) -> Tensor | None:
    """Return the processed logits, or None if a processor that constrains refuses logits with excluded tokens."""
    try:
        return processor(logits, sequences)
    except InputError:
        if not processor.constrains or (logits > -torch.inf).all():
            raise
        return None


def _example_logits() -> dict[str, Tensor]:
    """Return examples of logits (3, V), each with a name for error messages."""
    generator = torch.Generator().manual_seed(0)
    shape = (len(_SEQUENCES), _N_TOKENS)
    random_logits = torch.randn(shape, generator=generator)
    one_left = torch.full(shape, -torch.inf).scatter(1, torch.tensor([[4], [3], [12]]), 1.0)
    return {
        "random logits": 3 * random_logits,
        "equal logits": torch.zeros(shape),
        "huge logits": 1e4 * random_logits,
        "logits with half of the tokens excluded": random_logits.masked_fill(
            torch.arange(_N_TOKENS) % 2 == 0, -torch.inf
        ),
        "logits with one possible token": one_left,
    }
