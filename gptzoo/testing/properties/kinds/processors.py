"""Properties of logits processors: rows are independent, calls are independent, and some token stays possible."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from hypothesis import strategies as st
from torch import Tensor

from gptzoo.component import Config
from gptzoo.data.tokenizers.char import CharTokenizer
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import InputError
from gptzoo.sampling.processors.processor import LogitsProcessor
from gptzoo.sampling.sequence import TokenSequence
from gptzoo.testing.at_size.draws import for_all, simpler_sequences, sizes, smaller_numbers
from gptzoo.testing.at_size.option_draws import describe_options, other_configs
from gptzoo.testing.component_under_test import ComponentUnderTest
from gptzoo.testing.verdict import Failed

_CHARACTERS = '012[ab ]{},:"'  # of the tokenizer; each has an id
_SEQUENCES = (TokenSequence([3], 1), TokenSequence([1, 2, 3, 3, 3], 2), TokenSequence([12, 0, 12, 5, 5, 5, 5], 7))
_VOCAB_SIZES = (len(_CHARACTERS), 129, 300, 700)
_MAX_ROWS = 17
_MAX_NEW_TOKENS = 160
_N_DRAWS = 25


@dataclass(frozen=True)
class Batch:
    """A batch of logits and the sequences that they continue."""

    vocab_size: int
    n_new: tuple[int, ...]  # new tokens of each row
    kind: str = "random logits"  # a key of _KINDS_OF_LOGITS
    seed: int = 0

    def __str__(self) -> str:
        lengths = ", ".join(map(str, self.n_new[:3])) + (", …" if len(self.n_new) > 3 else "")
        rows = "1 row" if len(self.n_new) == 1 else f"{len(self.n_new)} rows"
        return f"{self.kind} of {rows} with {lengths} new tokens, over {self.vocab_size} token ids"

    def simpler(self) -> Iterator[Batch]:
        """Yield batches with fewer rows, fewer new tokens or fewer token ids."""
        yield from (replace(self, n_new=tuple(n_new)) for n_new in simpler_sequences(self.n_new) if n_new)
        yield from (replace(self, vocab_size=size) for size in _VOCAB_SIZES if size < self.vocab_size)
        for row, n in enumerate(self.n_new):
            for smaller in smaller_numbers(n):
                yield replace(self, n_new=(*self.n_new[:row], smaller, *self.n_new[row + 1 :]))

    def logits(self) -> Tensor:
        """Return the logits (B, V)."""
        return _logits(self.kind, len(self.n_new), self.vocab_size, self.seed)

    def sequences(self, processor: LogitsProcessor) -> list[TokenSequence]:
        """Return a sequence for each row, of tokens that the processor allows.

        A constraint refuses tokens that it excludes, so the tokens are those which it allows one after the other.
        """
        sequences = [TokenSequence([*range(1 + row % 5)], 1 + row % 5) for row in range(len(self.n_new))]
        generator = torch.Generator().manual_seed(self.seed + 1)
        for step in range(max(self.n_new, default=0)):
            growing = [s for s, n in zip(sequences, self.n_new, strict=True) if step < n and not processor.finished(s)]
            if not growing:
                break
            logits = torch.randn(len(growing), self.vocab_size, generator=generator)
            allowed = processor(logits, growing) if processor.constrains else logits
            for sequence, token in zip(growing, allowed.argmax(-1).tolist(), strict=True):
                sequence.tokens.append(token)
        return sequences


_KINDS_OF_LOGITS = (
    "random logits",
    "equal logits",
    "nearly equal logits",
    "huge logits",
    "tiny logits",
    "logits with half of the tokens excluded",
    "logits with one possible token",
)
_EXAMPLES = (
    *(Batch(len(_CHARACTERS), (0, 3, 0), kind) for kind in _KINDS_OF_LOGITS),
    *(Batch(300, (0, 65, 129), kind) for kind in _KINDS_OF_LOGITS),
    Batch(len(_CHARACTERS), tuple(range(0, 9 * _MAX_ROWS, 9))),
    Batch(len(_CHARACTERS), (130,) * 9, "logits with half of the tokens excluded"),
    Batch(129, tuple(range(_MAX_ROWS))),
    Batch(700, (2,), "nearly equal logits"),
)
_FEW_EXAMPLES = (
    Batch(len(_CHARACTERS), (0, 70, 5), "random logits"),
    Batch(300, (3,) * 10, "nearly equal logits"),
    Batch(300, (0, 9), "logits with half of the tokens excluded"),
)


def check_processing(subject: ComponentUnderTest) -> None:
    """Check that logits keep shape, dtype and excluded tokens, have no NaN, and leave a possible token in each row."""

    def require_valid(config: Config, batch: Batch) -> None:
        processor, logits = _build(config, batch.vocab_size), batch.logits()
        processed = _process(processor, logits, batch.sequences(processor))
        if processed is None:
            return
        if processed.shape != logits.shape or processed.dtype != logits.dtype:
            raise Failed(
                f"it returns {processed.dtype} of shape {tuple(processed.shape)} for {batch}; expected {logits.dtype} "
                f"of shape {tuple(logits.shape)}"
            )
        if processed.isnan().any() or (processed == torch.inf).any():
            raise Failed(f"it returns {'NaN' if processed.isnan().any() else 'infinity'} for {batch}")
        if not (processed > -torch.inf).any(-1).all():
            row = int((processed == -torch.inf).all(-1).nonzero()[0])
            raise Failed(f"it leaves no token possible in row {row} of {batch}")
        if (processed[logits == -torch.inf] > -torch.inf).any():
            raise Failed(f"it makes a token possible again that was excluded from {batch}")

    _for_all_batches(subject, require_valid)


def check_rows(subject: ComponentUnderTest) -> None:
    """Check that a row depends only on its own logits and tokens, wherever it stands in a batch."""

    def require_independent_rows(config: Config, batch: Batch) -> None:
        processor, logits = _build(config, batch.vocab_size), batch.logits()
        sequences = batch.sequences(processor)
        if (processed := _process(processor, logits, sequences)) is None:
            return
        for row, sequence in enumerate(sequences):
            alone = processor(logits[[row]].clone(), [sequence])
            if not torch.equal(alone, processed[[row]]):
                raise Failed(f"row {row} alone and in a batch gives different logits, for {batch}")
        reverse = [*range(len(sequences))][::-1]
        reversed_rows = processor(logits[reverse].clone(), [sequences[row] for row in reverse])
        if not torch.equal(reversed_rows[reverse], processed):
            raise Failed(f"the rows in reverse order get different logits, for {batch}")

    _for_all_batches(subject, require_independent_rows)


def check_inputs_not_modified(subject: ComponentUnderTest) -> None:
    """Check that it does not write to the logits or the sequences that it receives."""

    def require_unchanged(config: Config, batch: Batch) -> None:
        processor, logits = _build(config, batch.vocab_size), batch.logits()
        sequences = batch.sequences(processor)
        logits_before, sequences_before = logits.clone(), copy.deepcopy(sequences)
        _process(processor, logits, sequences)
        if not torch.equal(logits, logits_before):
            raise Failed(f"it writes to the logits that it receives, {batch}")
        if sequences != sequences_before:
            raise Failed(f"it writes to the sequences that it receives with {batch}")

    _for_all_batches(subject, require_unchanged)


def check_determinism(subject: ComponentUnderTest) -> None:
    """Check that its result does not depend on earlier calls."""

    def require_no_memory(config: Config, batch: Batch) -> None:
        processor, logits = _build(config, batch.vocab_size), batch.logits()
        sequences = batch.sequences(processor)
        if (first := _process(processor, logits.clone(), sequences)) is None:
            return
        other = Batch(batch.vocab_size, tuple(n + 3 for n in batch.n_new), "random logits", batch.seed + 7)
        for others in (other.sequences(processor), sequences[::-1]):
            _process(processor, other.logits(), others)
            processor.finished(others[0])
        if not torch.equal(processor(logits.clone(), sequences), first):
            raise Failed(f"the same logits and sequences give another result after other calls, for {batch}")
        fresh = _build(config, batch.vocab_size)
        if not torch.equal(fresh(logits.clone(), sequences), first):
            raise Failed(f"a processor that did not see the earlier tokens gives another result, for {batch}")

    _for_all_batches(subject, require_no_memory)


def behaviour(config: Config) -> dict[str, Tensor | None]:
    """Return the results for all example logits."""
    return {
        kind: _process(_build(config), _logits(kind, len(_SEQUENCES), len(_CHARACTERS), 0), _SEQUENCES)
        for kind in _KINDS_OF_LOGITS
    }


def _for_all_batches(subject: ComponentUnderTest, check: Callable[[Config, Batch], None]) -> None:
    """Check batches with the config under test, then a few batches with other values of its options."""
    n_new = st.lists(sizes(0, _MAX_NEW_TOKENS), min_size=1, max_size=_MAX_ROWS).map(tuple)
    batches = st.builds(
        Batch, st.sampled_from(_VOCAB_SIZES), n_new, st.sampled_from(_KINDS_OF_LOGITS), st.integers(0, 99)
    )
    for_all(
        batches,
        lambda batch: check(subject.config, batch),
        effort=subject.effort,
        n_draws=_N_DRAWS,
        examples=_EXAMPLES,
        simpler=Batch.simpler,
    )
    for config in itertools.islice(other_configs(subject), 1, None):
        for batch in _FEW_EXAMPLES:
            try:
                check(config, batch)
            except InputError:
                continue  # it refuses its options in such a vocabulary
            except Failed as failure:
                raise Failed(f"{failure}{describe_options(config)}") from None


def _build(config: Config, vocab_size: int = len(_CHARACTERS)) -> LogitsProcessor:
    """Build the processor with a tokenizer of one id per character."""
    return config.build(_tokenizer(vocab_size))


def _tokenizer(vocab_size: int) -> Tokenizer:
    others = (chr(0x4E00 + index) for index in range(vocab_size - len(_CHARACTERS)))
    return CharTokenizer(CharTokenizer.Config(), _CHARACTERS + "".join(others))


def _process(processor: LogitsProcessor, logits: Tensor, sequences: Sequence[TokenSequence]) -> Tensor | None:
    """Return the processed logits, or None if a processor that constrains refuses logits with excluded tokens."""
    try:
        return processor(logits, sequences)
    except InputError:
        if not processor.constrains or (logits > -torch.inf).all():
            raise
        return None


def _logits(kind: str, n_rows: int, vocab_size: int, seed: int) -> Tensor:
    """Return logits (B, V) of a kind."""
    generator = torch.Generator().manual_seed(seed)
    random_logits = torch.randn(n_rows, vocab_size, generator=generator)
    if kind == "random logits":
        return 3 * random_logits
    if kind == "equal logits":
        return torch.zeros(n_rows, vocab_size)
    if kind == "nearly equal logits":
        return 1e-3 * random_logits
    if kind == "huge logits":
        return 1e5 * random_logits
    if kind == "tiny logits":
        return random_logits - 1e5
    if kind == "logits with half of the tokens excluded":
        return random_logits.masked_fill(torch.arange(vocab_size) % 2 == 0, -torch.inf)
    possible = torch.randint(vocab_size, (n_rows, 1), generator=generator)
    return torch.full((n_rows, vocab_size), -torch.inf).scatter(1, possible, 1.0)
