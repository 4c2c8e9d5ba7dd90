"""Where a row ends: at a stop token, at a stop text, where a processor lets nothing follow, or at the length."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from gptzoo.data.tokenizers.tokenizer import StreamDecoder, Tokenizer
from gptzoo.data.utf8 import utf8
from gptzoo.errors import InputError
from gptzoo.sampling.processors.processor import LogitsProcessor
from gptzoo.sampling.processors.vocabulary import pieces
from gptzoo.sampling.sequence import TokenSequence
from gptzoo.sampling.spec import SamplingSpec

End = Literal["stop_token", "stop_text", "finished", "length"]


class StoppingCriteria:
    """Why rows of one spec end. Raises InputError for stop texts without a tokenizer."""

    def __init__(self, spec: SamplingSpec, processors: Sequence[LogitsProcessor], tokenizer: Tokenizer | None = None):
        self.spec = spec
        self.processors = processors
        self.stop_tokens = frozenset(spec.stop_tokens)
        self.stop_texts = [utf8(text) for text in spec.stop_texts]
        self.pieces: tuple[bytes, ...] = ()
        if self.stop_texts:
            if tokenizer is None:
                raise InputError(
                    "stop_texts need the model's tokenizer: sample from a folder that has a tokenizer.json, or give "
                    "generate() a `tokenizer`"
                )
            self.pieces = pieces(tokenizer)
        self.longest = max(map(len, self.stop_texts), default=0)

    def reason(self, row: TokenSequence) -> End | None:
        """Why nothing may follow the tokens of this row, or None. Ask before the first token and after each.

        "stop_token": its last token is one, and no part of the text. "stop_text": its last token completes one, which
        is no part of the text either, though its tokens stay. "finished": a processor says so.
        """
        n_new = len(row.tokens) - row.prompt_length
        if n_new and row.tokens[-1] in self.stop_tokens:
            return "stop_token"
        if n_new and self.stop_texts and self._completes_stop_text(row):
            return "stop_text"
        if any(process.finished(row) for process in self.processors):
            return "finished"
        return "length" if n_new >= self.spec.max_new_tokens else None

    def _completes_stop_text(self, row: TokenSequence) -> bool:
        tail = self._piece(row.tokens[-1])
        needed = len(tail) + self.longest - 1
        for index in range(len(row.tokens) - 2, row.prompt_length - 1, -1):
            if len(tail) >= needed:
                break
            tail = self._piece(row.tokens[index]) + tail
        return any(text in tail for text in self.stop_texts)

    def _piece(self, token: int) -> bytes:
        return self.pieces[token] if token < len(self.pieces) else b""  # of a model with spare ids


class StopDecoder(StreamDecoder):
    """Decodes ids one by one, up to the first stop text; never gives out a part of a character or of a stop text.

    Of stop texts that overlap, the one that is complete first counts, however the text is cut into tokens.
    """

    def __init__(self, tokenizer: Tokenizer, stop_texts: Iterable[str] = ()):
        super().__init__(tokenizer)
        self.stop_texts = [utf8(text) for text in stop_texts]
        self.held = b""  # what may turn out to be the beginning of a stop text
        self.stopped = False

    def feed(self, token: int) -> str:
        if self.stopped:
            return ""
        held = self.held + self.tokenizer.decode_bytes([token])
        found = [(at + len(text), at) for text in self.stop_texts if (at := held.find(text)) >= 0]
        if found:
            self.stopped, self.held = True, b""
            return self.bytes.decode(held[: min(found)[1]])
        n_kept = max((_overlap(held, text) for text in self.stop_texts), default=0)
        self.held = held[len(held) - n_kept :]
        return self.bytes.decode(held[: len(held) - n_kept])

    def flush(self) -> str:
        """What is left at the end: a stop text that was not completed, U+FFFD for a character that was not."""
        held, self.held = self.held, b""
        return self.bytes.decode(held, final=True)


def _overlap(end: bytes, start: bytes) -> int:
    """How many of the last bytes of `end` are the first of `start`, at most all but one of them."""
    return next(n for n in range(min(len(end), len(start) - 1), -1, -1) if end.endswith(start[:n]))
