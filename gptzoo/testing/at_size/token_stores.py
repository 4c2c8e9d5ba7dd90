"""Token stores for batchings under test, in which every token but a separator occurs once and tells where it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from gptzoo.data.corpora.corpus import Split
from gptzoo.data.token_store import TokenStore
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.testing.at_size.draws import sizes

SEPARATOR, TAB, FIRST_TOKEN = 0, 1, 2


class NumberTokenizer(Tokenizer):
    """A tokenizer of the kit: id 0 is the end of a text, id 1 a tab, and others are letters."""

    name = "number"
    eot = SEPARATOR

    def __init__(self, vocab_size: int):
        super().__init__(Tokenizer.Config())
        self.vocab_size = vocab_size

    def encode(self, text: str) -> Sequence[int]:
        return [TAB if character == "\t" else FIRST_TOKEN for character in text]

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        return bytes(9 if token == TAB else 97 for token in ids if token != SEPARATOR)


@dataclass(frozen=True)
class Text:
    """The lengths of the documents of both splits, and whether each document is a pair with a tab in its middle."""

    train: tuple[int, ...]
    val: tuple[int, ...]
    has_tabs: bool = False

    def __str__(self) -> str:
        shown = ", ".join(map(str, self.train[:4])) + (", …" if len(self.train) > 4 else "")
        return f"{len(self.train)} documents of {shown} tokens"

    def lengths(self) -> dict[Split, tuple[int, ...]]:
        """Return the lengths of the documents by split."""
        return {"train": self.train, "val": self.val}

    def with_documents(self, split: Split, lengths: tuple[int, ...]) -> Text:
        """Return the text with other documents in a split."""
        return replace(self, train=lengths) if split == "train" else replace(self, val=lengths)

    def store(self) -> TokenStore:
        """Return a store with these documents, each but the first after a separator."""
        arrays: dict[str, np.ndarray] = {}
        spans: dict[str, np.ndarray] = {}
        next_token = FIRST_TOKEN
        for split, lengths in self.lengths().items():
            tokens, bounds = [], []
            for index, length in enumerate(lengths):
                tokens += [SEPARATOR] * (index > 0)
                document = [*range(next_token, next_token + length)]
                next_token += length
                if self.has_tabs:
                    document[length // 2] = TAB
                bounds.append((len(tokens), len(tokens) + length))
                tokens += document
            arrays[split], spans[split] = np.array(tokens, dtype=np.uint32), np.array(bounds, dtype=np.int64)
        n_bytes = {split: int((tokens != SEPARATOR).sum()) for split, tokens in arrays.items()}
        return TokenStore(arrays["train"], arrays["val"], spans, n_bytes, next_token, "a store of the kit")


class Places:
    """The place of each token in the text of one split."""

    def __init__(self, tokens: np.ndarray, spans: np.ndarray):
        self.tokens = tokens.astype(np.int64)
        unique = self.tokens >= FIRST_TOKEN
        self.place = dict(zip(self.tokens[unique].tolist(), np.flatnonzero(unique).tolist(), strict=True))
        self.document = np.full(len(tokens), -1)  # -1: a separator
        for index, (begin, end) in enumerate(spans.tolist()):
            self.document[begin:end] = index

    def follows(self, target: int, token: int) -> bool:
        """Return True if `target` may be the token after `token` in the text, or the separator at its end."""
        if target >= FIRST_TOKEN:
            before = self.place.get(target, 0) - 1
            return before >= 0 and self.tokens[before] == token
        if token < FIRST_TOKEN:
            return any(self.tokens[i] == token and self.tokens[i + 1] == target for i in range(len(self.tokens) - 1))
        after = self.place.get(token, -2) + 1
        return after > 0 and (self.tokens[after] == target if after < len(self.tokens) else target == SEPARATOR)

    def known(self, tokens: Iterable[int]) -> list[int]:
        """Return the places of those tokens that occur once."""
        return [self.place[token] for token in tokens if token >= FIRST_TOKEN and token in self.place]


def texts() -> st.SearchStrategy[Text]:
    """Return a strategy for texts of few or many, short or long documents."""
    few = st.lists(sizes(1, 400), min_size=1, max_size=8)
    many = st.lists(sizes(1, 40), min_size=20, max_size=120)
    lengths = (few | many).map(tuple).filter(lambda numbers: sum(numbers) > 1)
    pairs = st.lists(st.integers(3, 9), min_size=2, max_size=60).map(tuple)
    return st.builds(Text, lengths, lengths) | st.builds(Text, pairs, pairs, st.just(True))
