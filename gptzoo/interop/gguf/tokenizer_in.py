"""The tokenizer in a GGUF file, as the files of a Hugging Face checkpoint."""

from __future__ import annotations

from typing import Any

from gptzoo.errors import FolderError
from gptzoo.interop.gguf.pre_tokenizers import PRE_TOKENIZERS
from gptzoo.interop.gguf.reader import GgufFile

_KEY = "tokenizer.ggml."
_UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 2, 3, 4, 6  # types of tokens
_SPACE = "\u2581"  # SentencePiece writes a space as this character
_SENTENCEPIECE_IDS = {"bos": 1, "eos": 2, "unknown": 0}  # that llama.cpp assumes


class GgufTokenizer:
    """The tokenizer metadata of a GGUF file.

    `files` has the content of tokenizer.json, tokenizer_config.json and generation_config.json, by name. It is empty if
    the file has no tokenizer that gptzoo can read. `notes` say why.
    """

    def __init__(self, content: GgufFile):
        self.content = content
        self.notes: list[str] = []
        self.tokens: list[str] = self._list("tokens", str)
        types: list[int] = self._list("token_type", int)
        self.types = types if len(types) == len(self.tokens) else [1] * len(self.tokens)
        self.files = self._read()

    def _read(self) -> dict[str, dict[str, Any]]:
        kind = self._get("model", None)
        if kind is None or not self.tokens:
            self.notes.append("no tokenizer in the file: gptzoo sample cannot read or write text with this model")
            return {}
        if kind == "gpt2":
            state = self._byte_level()
        elif kind == "llama":
            state = self._sentencepiece()
        else:
            self.notes.append(f"the tokenizer of type {kind!r} is not imported, only 'gpt2' and 'llama' are supported")
            return {}
        if state is None:
            return {}
        is_added = {_CONTROL: True, _USER_DEFINED: False, _UNKNOWN: True}
        state["added_tokens"] = [
            {
                "id": token,
                "content": text,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": is_added[self.types[token]],
            }
            for token, text in enumerate(self.tokens)
            if self.types[token] in is_added and text
        ]
        bos = self._id("bos", kind)
        if bos is not None and self._adds_bos(kind):
            state["post_processor"] = _start_with(self.tokens[bos], bos)
        named = {"eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
        names = {"bos_token": bos, **{key: self._id(name, kind) for key, name in named.items()}}
        config: dict[str, Any] = {key: self.tokens[token] for key, token in names.items() if token is not None}
        if templates := self._chat_templates():
            config["chat_template"] = templates
        ends = [token for name in ("eos", "eot", "eom") if (token := self._id(name, kind)) is not None]
        return {
            "tokenizer.json": state,
            "tokenizer_config.json": config,
            "generation_config.json": {"eos_token_id": list(dict.fromkeys(ends))},
        }

    def _byte_level(self) -> dict[str, Any] | None:
        """Return the tokenizer.json of a byte-level BPE."""
        name = str(self._get("pre", "default"))
        pre_tokenizer = PRE_TOKENIZERS.get(name)
        if pre_tokenizer is None:
            known = ", ".join(sorted(PRE_TOKENIZERS))
            self.notes.append(f"the tokenizer is not imported: its pre-tokenizer {name!r} is unknown  (known: {known})")
            return None
        vocabulary = {text: token for token, text in enumerate(self.tokens)}
        return {
            "version": "1.0",
            "normalizer": None,
            "pre_tokenizer": pre_tokenizer.as_json(),
            "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
            "model": {
                "type": "BPE",
                "vocab": vocabulary,
                # A merge whose result is no token has no effect in llama.cpp.
                "merges": [pair for pair in map(_pair, self._list("merges", str)) if "".join(pair) in vocabulary],
                "ignore_merges": pre_tokenizer.ignore_merges,
            },
        }

    def _sentencepiece(self) -> dict[str, Any]:
        """Return the tokenizer.json of a SentencePiece BPE, whose merges follow from the scores of its tokens."""
        scores: list[float] = self._list("scores", float)
        vocabulary = {text: token for token, text in enumerate(self.tokens)}
        unknown = self._id("unknown", "llama")
        normalizers = [{"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}]
        if self._get("add_space_prefix", True):
            normalizers.insert(0, {"type": "Prepend", "prepend": _SPACE})
        return {
            "version": "1.0",
            "normalizer": {"type": "Sequence", "normalizers": normalizers},
            "pre_tokenizer": None,
            "decoder": {
                "type": "Sequence",
                "decoders": [
                    {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "},
                    {"type": "ByteFallback"},
                    {"type": "Fuse"},
                ],
            },
            "model": {
                "type": "BPE",
                "vocab": vocabulary,
                "merges": merges_of_scores(vocabulary, scores),
                "unk_token": self.tokens[unknown] if unknown is not None else None,
                "fuse_unk": True,
                "byte_fallback": _BYTE in self.types,
                "ignore_merges": False,
            },
        }

    def _chat_templates(self) -> list[dict[str, str]]:
        """Return the chat templates as an entry of tokenizer_config.json."""
        keys = {"default": "tokenizer.chat_template"}
        names = self.content.metadata.get("tokenizer.chat_templates", [])
        if isinstance(names, list):
            keys |= {name: f"tokenizer.chat_template.{name}" for name in names if isinstance(name, str)}
        texts = {name: self.content.metadata.get(key) for name, key in keys.items()}
        return [{"name": name, "template": text} for name, text in texts.items() if isinstance(text, str)]

    def _adds_bos(self, kind: str) -> bool:
        pre_tokenizer = PRE_TOKENIZERS.get(str(self._get("pre", "default")))
        default = kind == "llama" or (pre_tokenizer is not None and pre_tokenizer.adds_bos)
        return bool(self._get("add_bos_token", default))

    def _id(self, name: str, kind: str) -> int | None:
        """Return a token id of the metadata, or None if it is missing or not a token."""
        default = _SENTENCEPIECE_IDS.get(name) if kind == "llama" else None
        token = self._get(f"{name}_token_id", default)
        return token if type(token) is int and 0 <= token < len(self.tokens) else None

    def _get(self, key: str, default: object) -> object:
        return self.content.metadata.get(_KEY + key, default)

    def _list(self, key: str, kind: type) -> list[Any]:
        value = self._get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, kind) for item in value):
            raise FolderError(f"{self.content.file}: {_KEY}{key}: expected a list of {kind.__name__}")
        return value


def merges_of_scores(vocabulary: dict[str, int], scores: list[float]) -> list[list[str]]:
    """Return the merges of a SentencePiece BPE: all pairs of tokens that together are a token, best score first."""
    merges = []
    for text, token in vocabulary.items():
        score = scores[token] if token < len(scores) else 0.0
        pairs = [(text[:cut], text[cut:]) for cut in range(1, len(text))]
        known = [pair for pair in pairs if pair[0] in vocabulary and pair[1] in vocabulary]
        known.sort(key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))
        merges += [(score, pair) for pair in known]
    merges.sort(key=lambda merge: -merge[0])  # stable
    return [list(pair) for _, pair in merges]


def _pair(merge: str) -> list[str]:
    """Return the two tokens of a merge such as `Ġ t`. A token may start with a space only in files of gptzoo."""
    left, _, right = merge.partition(" ") if not merge.startswith(" ") else merge.rpartition(" ")
    return [left, right]


def _start_with(text: str, token: int) -> dict[str, Any]:
    """Return a post-processor that puts a token before each text."""
    start = {"SpecialToken": {"id": text, "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    return {
        "type": "TemplateProcessing",
        "single": [start, first],
        "pair": [start, first, start, second],
        "special_tokens": {text: {"id": text, "ids": [token], "tokens": [text]}},
    }
