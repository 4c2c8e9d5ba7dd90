"""The styles of tokenizer.json that model families use: the ids and texts of transformers, and what round-trips."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from gptzoo.data.chat.prompt import chat_prompt_ids
from gptzoo.errors import FolderError, InputError
from gptzoo.interop.exporting.tokenizer import write_tokenizer
from gptzoo.interop.tokenizer_files import TokenizerFiles

TEXT = [
    "the cat sat on the mat, and the hat and the bat.\n\nThe dog said: it's 1234 times 56!",
    "naïve café – 10 €, 日本語の東京, 한국어, русский текст, العربية, 🦊🦊 and e\u0301.",
    "def f(x):\n    return x + 1  # two  spaces\n\tand a tab",
] * 3
SPECIAL = [AddedToken(name, special=True) for name in ("<unk>", "<s>", "</s>", "<|im_end|>")]
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)


def byte_level(pre_tokenizer: Any, normalizer: Any = None, **model: Any) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(**model))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizer, decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer


def split(expression: str) -> Any:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(expression), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def byte_fallback(normalizer: Any, decoder: Any, pre_tokenizer: Any = None) -> Tokenizer:
    """Return a tokenizer of SentencePiece's style, with a token for each byte."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoder
    byte_tokens = [AddedToken(f"<0x{byte:02X}>", special=False, normalized=False) for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=[*SPECIAL, *byte_tokens], show_progress=False, max_token_length=9
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    state = tokenizer.to_str()

    values = json.loads(state)  # byte tokens are ordinary tokens in real files
    values["added_tokens"] = [token for token in values["added_tokens"] if not token["content"].startswith("<0x")]
    return Tokenizer.from_str(json.dumps(values))


def unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False, initial_alphabet=list("abc ")
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer


def with_bos(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return tokenizer


def other_pieces() -> Tokenizer:
    """Return a byte-level vocabulary with tokens outside of GPT-2's stand-ins for bytes, as added tokens are stored."""
    tokenizer = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))

    values = json.loads(tokenizer.to_str())
    vocabulary = values["model"]["vocab"]
    for piece in ("東", "東京", "Ġ東", "é東", "▁the", "🦊"):
        vocabulary[piece] = len(vocabulary)
    return Tokenizer.from_str(json.dumps(values))


SPACE_TO_MARK = normalizers.Replace(" ", "▁")
MARK_TO_SPACE = decoders.Replace("▁", " ")
STYLES: dict[str, Callable[[], Tokenizer]] = {
    "gpt2": lambda: byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "gpt2 with prefix space": lambda: byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "llama3": lambda: with_bos(byte_level(split(LLAMA_3), ignore_merges=True)),
    "qwen": lambda: byte_level(split(LLAMA_3.replace("{1,3}", "")), normalizers.NFC()),
    "digits": lambda: byte_level(
        pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    ),
    "lowercase": lambda: byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), normalizers.Lowercase()),
    "other pieces": other_pieces,
    "llama2": lambda: with_bos(
        byte_fallback(
            normalizers.Sequence([normalizers.Prepend("▁"), SPACE_TO_MARK]),
            decoders.Sequence([MARK_TO_SPACE, decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]),
        )
    ),
    "llama2 with metaspace": lambda: with_bos(
        byte_fallback(
            None,
            decoders.Sequence([MARK_TO_SPACE, decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]),
            pre_tokenizers.Metaspace(prepend_scheme="first", split=False),
        )
    ),
    "gemma": lambda: with_bos(
        byte_fallback(
            SPACE_TO_MARK,
            decoders.Sequence([MARK_TO_SPACE, decoders.ByteFallback(), decoders.Fuse()]),
            pre_tokenizers.Split(" ", "merged_with_previous"),
        )
    ),
    "unigram": unigram,
}
EXACT = ["gpt2", "llama3", "digits", "other pieces", "gemma"]  # decoding returns each text
BYTE_FALLBACK = ("llama2", "llama2 with metaspace", "gemma")
BYTES = [name for name in STYLES if name != "unigram"]  # with a token for each byte
PROMPT_TEMPLATE = "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}"


@functools.cache
def both(style: str) -> tuple[Any, PreTrainedTokenizerFast]:
    """Return the tokenizer of gptzoo and that of transformers, from the same files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer = STYLES[style]()
        tokenizer.save(str(folder / "tokenizer.json"))
        theirs = PreTrainedTokenizerFast.from_pretrained(
            name, bos_token="<s>", eos_token="</s>", chat_template=PROMPT_TEMPLATE
        )
        theirs.save_pretrained(name)
        return TokenizerFiles(folder, len(theirs)).read(), theirs


texts = st.lists(
    st.one_of(
        st.text(st.characters(codec="utf-8"), max_size=6),
        st.sampled_from([*TEXT, "the", " the", "  ", "\n\n", "東京", "🦊", "e\u0301", "</s>", "a<|im_end|>b", "▁the"]),
    ),
    max_size=5,
).map("".join)
every_style = pytest.mark.parametrize("style", STYLES)


@every_style
@settings(max_examples=60, deadline=None)
@given(text=texts)
def test_a_text_has_the_ids_of_transformers(style: str, text: str) -> None:
    ours, theirs = both(style)
    assert list(ours.encode(text)) == theirs.encode(text)
    assert list(ours.encode_part(text, special=True)) == theirs.encode(text, add_special_tokens=False)
    expected = theirs.encode(text, add_special_tokens=False, split_special_tokens=True)
    assert list(ours.encode_part(text, special=False)) == expected


@every_style
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_ids_have_the_text_of_transformers(style: str, data: st.DataObject) -> None:
    """Compare any ids. A tokenizer that puts a space before a text takes it from a whole text, but not from a part."""
    ours, theirs = both(style)
    ids = data.draw(st.lists(st.integers(0, len(theirs) - 1), max_size=12))
    text = ours.decode(ids)
    expected = theirs.decode(ids, skip_special_tokens=True)
    if "\ufffd" in text and style in BYTE_FALLBACK:
        return  # transformers then shows each byte of a run as U+FFFD
    if style in ("llama2", "llama2 with metaspace", "unigram"):
        assert expected in (text, text.removeprefix(" "))
    else:
        assert text == expected


@pytest.mark.parametrize("style", EXACT)
@settings(max_examples=60, deadline=None)
@given(text=texts)
def test_decoding_returns_the_text(style: str, text: str) -> None:
    ours, _ = both(style)
    if style == "gemma":
        text = text.replace("▁", " ")  # this vocabulary writes a space as U+2581
    assert ours.decode(ours.encode_part(text, special=False)) == text


@pytest.mark.parametrize("style", BYTES)
@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=40))
def test_every_byte_string_has_ids(style: str, data: bytes) -> None:
    ours, theirs = both(style)
    ids = [id_of_byte(style)[byte] for byte in data]
    assert ours.decode_bytes(ids) == data
    expected = theirs.decode(ids, skip_special_tokens=True)
    text = data.decode("utf-8", errors="replace")
    if "\ufffd" not in text or style not in BYTE_FALLBACK:  # which shows each byte of an invalid run
        assert expected in (text, text.removeprefix(" "))


@functools.cache
def id_of_byte(style: str) -> dict[int, int]:
    ours, theirs = both(style)
    if ours.is_byte_level:
        return {ours.decode_bytes([i])[0]: i for i in range(len(theirs)) if len(ours.decode_bytes([i])) == 1}
    return {byte: theirs.convert_tokens_to_ids(f"<0x{byte:02X}>") for byte in range(256)}


@every_style
def test_a_chat_has_the_ids_of_transformers(style: str) -> None:
    ours, theirs = both(style)
    messages = [{"role": "user", "content": " two  spaces\n"}, {"role": "assistant", "content": "東京 x"}]
    options = {"add_generation_prompt": True, "return_dict": False, "sanitize_control_tokens": True}
    assert chat_prompt_ids(ours, messages) == theirs.apply_chat_template(messages, **options)
    messages.append({"role": "user", "content": "a </s> b"})
    if style == "unigram":  # its model reads the plain text as this token
        with pytest.raises(ValueError, match="Can't sanitize '</s>'"):
            theirs.apply_chat_template(messages, **options)
        with pytest.raises(InputError, match="cannot read as plain text"):
            chat_prompt_ids(ours, messages)
        return
    assert chat_prompt_ids(ours, messages) == theirs.apply_chat_template(messages, **options)


@every_style
def test_the_exported_files_have_the_same_ids(style: str, tmp_path: Path) -> None:
    ours, theirs = both(style)
    assert write_tokenizer(ours, tmp_path) == []
    again = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    for text in [*TEXT, "a<|im_end|>b", " x", ""]:
        assert again.encode(text) == theirs.encode(text)
    assert (again.bos_token_id, again.eos_token_id) == (theirs.bos_token_id, theirs.eos_token_id)
    assert again.chat_template == theirs.chat_template


def test_a_token_outside_of_the_stand_ins_decodes_to_itself() -> None:
    ours, theirs = both("other pieces")
    for piece in ("東", "東京", "Ġ東", "é東", "▁the", "🦊"):
        token = theirs.convert_tokens_to_ids(piece)
        assert ours.decode([token]) == theirs.decode([token]) == piece
        assert ours.decode_bytes([token]) == piece.encode()


def test_word_piece_is_refused(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "the": 1, "##re": 2}, unk_token="[UNK]"))
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(FolderError, match="expected a decoder that maps tokens to bytes"):
        TokenizerFiles(tmp_path, 3).read()
