"""Stopping criteria: stop tokens, stop strings, processors that allow no further token, and both length limits."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.data.utf8 import encode_utf8
from gptzoo.errors import InputError
from gptzoo.sampling.events import FinishReason
from gptzoo.sampling.processors.processor import LogitsProcessor, build_processors, is_finished
from gptzoo.sampling.processors.vocabulary import token_bytes
from gptzoo.sampling.sequence import TokenSequence
from gptzoo.sampling.spec import SamplingSpec


class StoppingCriteria:
    """The stopping criteria and the logits processors of one spec.

    n_token_ids: the number of token ids of the model, spare ones included. Default: unknown.
    processors: the logits processors of other criteria with the same configs, which may share them. Default: new ones.

    Raises InputError if the spec needs a tokenizer and there is none, if its processors are in a wrong order, or if a
    processor names a token id that the model does not have.
    """

    def __init__(
        self,
        spec: SamplingSpec,
        tokenizer: Tokenizer | None = None,
        n_token_ids: int | None = None,
        processors: Sequence[LogitsProcessor] | None = None,
    ):
        self.spec = spec
        self.processors = build_processors(spec.processors, tokenizer) if processors is None else processors
        if n_token_ids is not None:
            for processor in self.processors:
                processor.check_vocab_size(n_token_ids)
        self.vocab_size = None if tokenizer is None else tokenizer.vocab_size
        self.stop_tokens = frozenset(spec.stop_tokens)
        self.end_tokens = sorted(self.stop_tokens.union(() if tokenizer is None else tokenizer.end_tokens))
        """The tokens that may not come before `min_new_tokens` tokens."""
        self.stop_texts = [encode_utf8(text) for text in spec.stop_texts]
        self.token_bytes: tuple[bytes, ...] = ()
        if self.stop_texts:
            if tokenizer is None:
                raise InputError(
                    "stop_texts need the model's tokenizer. Use a model folder that has a tokenizer.json, or pass "
                    "`tokenizer` to generate()."
                )
            self.token_bytes = token_bytes(tokenizer)
        self.longest = max(map(len, self.stop_texts), default=0)

    @property
    def processing_key(self) -> Hashable:
        """Key of the changes to logits. Rows with the same key can be processed together."""
        return id(self.processors), self.vocab_size, self.spec.min_new_tokens, tuple(self.end_tokens)

    def finish_reason(self, sequence: TokenSequence) -> FinishReason | None:
        """Return why the sequence ends after its last token, or None if it continues.

        Call it before the first new token and after each one. A stop token is not part of the text. The token that
        completes a stop string is kept, although the string is not part of the text. Raises InputError if a processor
        fails, or if it allows no further token before `min_new_tokens`.
        """
        if sequence.n_new > self.spec.min_new_tokens:
            if sequence.tokens[-1] in self.stop_tokens:
                return "stop_token"
            if self.stop_texts and self._completes_stop_text(sequence):
                return "stop_text"
        if (processor := next((p for p in self.processors if is_finished(p, sequence)), None)) is not None:
            if sequence.n_new < self.spec.min_new_tokens:
                raise InputError(
                    f"logits_processor {processor.name!r} allows no token after new token {sequence.n_new}, but the "
                    f"text needs {self.spec.min_new_tokens} tokens. Lower the minimum, or allow a longer text."
                )
            return "finished"
        return "length" if sequence.n_new >= self.spec.max_new_tokens else None

    def _completes_stop_text(self, sequence: TokenSequence) -> bool:
        tail = last = self._bytes_of(sequence.tokens[-1])
        needed = len(last) + self.longest - 1
        for index in range(len(sequence.tokens) - 2, sequence.prompt_length - 1, -1):
            if len(tail) >= needed:
                break
            tail = self._bytes_of(sequence.tokens[index]) + tail
        # Only a string that ends in the last token counts: an earlier one was before `min_new_tokens`.
        return any(text in tail[-(len(last) + len(text) - 1) :] for text in self.stop_texts if last)

    def _bytes_of(self, token: int) -> bytes:
        return self.token_bytes[token] if token < len(self.token_bytes) else b""  # a model may have spare ids
