"""The tokenizer `tiktoken`: OpenAI's published encodings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gptzoo.data.tokenizers.borders import cut_at_borders, last_word_border
from gptzoo.data.tokenizers.byte_level import byte_level_json, ruby_expression
from gptzoo.data.tokenizers.library_errors import report_library_errors
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.data.utf8 import encode_utf8
from gptzoo.errors import DataError

if TYPE_CHECKING:
    import tiktoken


# Encodings whose words have the borders of `last_word_border`.
_WITH_BORDERS = ("gpt2", "r50k_base", "p50k_base", "p50k_edit", "cl100k_base", "o200k_base", "o200k_harmony")


class TiktokenTokenizer(Tokenizer):
    """A published encoding of OpenAI's models, loaded by name with `tiktoken`."""

    name = "tiktoken"
    paper = "Radford et al. 2019, Language Models are Unsupervised Multitask Learners (GPT-2)"

    class Config(Tokenizer.Config):
        name: str = "gpt2"
        """Name of the encoding, such as gpt2, r50k_base, p50k_base, cl100k_base or o200k_base."""

    config: Config

    def __init__(self, config: Config, state: object = None):
        super().__init__(config, state)
        self.encoding = _get_encoding(config.name)
        self.border = last_word_border if config.name in _WITH_BORDERS else None
        self.vocab_size = self.encoding.n_vocab
        self.eot = self.encoding.eot_token
        self.special_ids = {self.encoding.encode_single_token(name) for name in self.encoding.special_tokens_set}

    def encode(self, text: str) -> Sequence[int]:
        return [*self.prefix, *self.encode_continuation(text)]

    def encode_continuation(self, text: str) -> Sequence[int]:
        encode_utf8(text)  # raises a clear error for text that is not valid Unicode
        ids: list[int] = []
        for part in cut_at_borders([text], self.border):
            with report_library_errors("tokenizer 'tiktoken'", part):
                ids += self.encoding.encode_ordinary(part)
        return ids

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        return b"".join(self._token_bytes(token) for token in self.check_ids(ids) if token not in self.special_ids)

    @property
    def special_token_names(self) -> Mapping[str, int]:
        return {name: self.encoding.encode_single_token(name) for name in sorted(self.encoding.special_tokens_set)}

    def tokenizer_json(self) -> dict[str, Any]:
        # The library has no public names for the ranks and the expression, but pickles an encoding by these attributes.
        ranks, special_tokens = self.encoding._mergeable_ranks, self.encoding._special_tokens
        return byte_level_json(ranks, special_tokens, ruby_expression(self.encoding._pat_str))

    def _token_bytes(self, token: int) -> bytes:
        try:
            return self.encoding.decode_single_token_bytes(token)
        except KeyError:  # some encodings have gaps between their ids
            return b""


def _get_encoding(name: str) -> tiktoken.Encoding:
    import tiktoken

    try:
        return tiktoken.get_encoding(name)
    except ValueError:
        raise DataError(
            f"tiktoken has no encoding named {name!r}  (known: {', '.join(tiktoken.list_encoding_names())})"
        ) from None
    except Exception as error:  # network errors of requests, and tiktoken's own for a damaged file
        raise DataError(
            f"tiktoken cannot load the encoding {name!r}: the download on first use failed ({type(error).__name__}). "
            "Connect to the network once, set TIKTOKEN_CACHE_DIR to a folder with the encoding, or use tokenizer "
            "'bpe' or 'byte', which need no download."
        ) from error
