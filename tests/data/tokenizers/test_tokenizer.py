import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from support import needs_tiktoken_files

from gptzoo.data.tokenizers.tokenizer import StreamDecoder, Tokenizer, load_tokenizer, save_tokenizer
from gptzoo.errors import DataError, FolderError
from gptzoo.reference import Reference

TRAINING = ["the cat sat on the mat, the hat and the bat.\n", "naïve café: 10 €, 日本語, 🦊🦊\n"] * 3

KINDS = ["byte", "char", "bpe", pytest.param("tiktoken", marks=needs_tiktoken_files)]
every_tokenizer = pytest.mark.parametrize("kind", KINDS)


@functools.cache
def fitted(kind: str, **options: Any) -> Tokenizer:
    config = Reference("tokenizer").validate({"type": kind, **options})
    return config.build(config.component.fit(config, iter(TRAINING)))


def texts(kind: str) -> st.SearchStrategy[str]:
    return st.text(st.sampled_from("".join(TRAINING)) if kind == "char" else st.characters(codec="utf-8"))


@every_tokenizer
@given(data=st.data())
def test_decoding_returns_the_encoded_text(kind: str, data: st.DataObject) -> None:
    tokenizer, text = fitted(kind), data.draw(texts(kind))
    ids = list(tokenizer.encode(text))
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode_bytes(ids) == text.encode()
    assert all(0 <= token < tokenizer.vocab_size for token in ids)


@every_tokenizer
@given(data=st.data())
def test_each_id_decodes_independently_of_its_neighbours(kind: str, data: st.DataObject) -> None:
    tokenizer = fitted(kind)
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=30))
    assert tokenizer.decode_bytes(ids) == b"".join(tokenizer.decode_bytes([token]) for token in ids)


@every_tokenizer
@given(data=st.data())
def test_streaming_gives_the_decoded_text_in_whole_characters(kind: str, data: st.DataObject) -> None:
    tokenizer = fitted(kind)
    text = data.draw(texts(kind))
    decoder = StreamDecoder(tokenizer)
    decoded = ""
    for token in tokenizer.encode(text):
        decoded += decoder.feed(token)
        assert text.startswith(decoded)
    assert decoded + decoder.flush() == text


@given(ids=st.lists(st.integers(0, 256), max_size=30))
def test_streaming_invalid_utf8_gives_the_decoded_text(ids: list[int]) -> None:
    tokenizer = fitted("byte")
    decoder = StreamDecoder(tokenizer)
    assert "".join(map(decoder.feed, ids)) + decoder.flush() == tokenizer.decode(ids)


@every_tokenizer
def test_the_end_of_text_token_decodes_to_nothing(kind: str) -> None:
    tokenizer = fitted(kind)
    if tokenizer.eot is None:
        assert kind == "char"
    else:
        assert 0 <= tokenizer.eot < tokenizer.vocab_size
        assert tokenizer.decode([tokenizer.eot]) == ""


@every_tokenizer
@pytest.mark.parametrize("wrong", [-1, 10**6])
def test_an_id_outside_the_vocabulary_is_rejected(kind: str, wrong: int) -> None:
    with pytest.raises(DataError, match=rf"'{kind}' has no token {wrong}, only 0 to {fitted(kind).vocab_size - 1}"):
        fitted(kind).decode([0, wrong])


@pytest.mark.parametrize("kind", ["byte", "bpe", pytest.param("tiktoken", marks=needs_tiktoken_files)])
def test_special_tokens_in_a_text_are_encoded_as_text(kind: str) -> None:
    text = "a <|endoftext|> b</s>"
    ids = list(fitted(kind).encode(text))
    assert fitted(kind).eot not in ids
    assert fitted(kind).decode(ids) == text


@every_tokenizer
def test_a_lone_surrogate_is_rejected(kind: str) -> None:
    with pytest.raises(DataError, match="ud83e"):
        fitted(kind).encode("\ud83e")


@every_tokenizer
def test_a_loaded_tokenizer_equals_the_saved_one(kind: str, tmp_path: Path) -> None:
    saved = fitted(kind)
    save_tokenizer(saved, tmp_path / "tokenizer.json")
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    assert type(loaded) is type(saved)
    assert (loaded.config, loaded.state) == (saved.config, saved.state)
    assert (loaded.vocab_size, loaded.eot) == (saved.vocab_size, saved.eot)
    assert list(loaded.encode(TRAINING[1])) == list(saved.encode(TRAINING[1]))
    assert json.loads((tmp_path / "tokenizer.json").read_bytes()).keys() == {"config", "state"}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"config": {"type": "byte"}}',
        '{"config": {"type": "bite"}, "state": null}',
        '{"config": {"type": "char"}, "state": null}',
        '{"config": {"type": "bpe"}, "state": {"version": "1.0"}}',
        '{"config": {"type": "bpe"}, "state": "x"}',
        '{"config": {"type": "byte", "size": 3}, "state": null}',
        b"\xff",
        None,
    ],
)
def test_the_error_for_a_damaged_tokenizer_names_the_file(content: str | bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "damaged.json"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises((FolderError, DataError), match=r"damaged\.json: "):
        load_tokenizer(file)


# ---------------------------------------------------------------------- char


def test_characters_are_numbered_in_code_point_order() -> None:
    assert list(fitted("char").encode("".join(sorted(set("".join(TRAINING)))))) == list(
        range(fitted("char").vocab_size)
    )


def test_the_error_for_an_unknown_character_names_it_and_gives_advice() -> None:
    with pytest.raises(DataError, match=r"'Z'.*'byte'"):
        fitted("char").encode("the Zat")


# ---------------------------------------------------------------------- bpe


def test_bpe_learns_merges_that_shorten_its_training_text() -> None:
    text = "".join(TRAINING)
    tokenizer = fitted("bpe", vocab_size=300)
    assert tokenizer.vocab_size == 300
    assert len(tokenizer.encode(text)) < 0.8 * len(text.encode())
    assert len(fitted("bpe", vocab_size=257).encode(text)) == len(text.encode())


def test_bpe_training_is_the_same_in_every_process() -> None:
    code = (
        "from gptzoo.data.tokenizers.bpe import BpeTokenizer as B\n"
        "from gptzoo.data.corpora.stories import StoriesCorpus as S\n"
        "import hashlib, json; texts = S(S.Config(n_stories=30)).documents('train')\n"
        "print(hashlib.sha256(json.dumps(B.fit(B.Config(vocab_size=600), texts)).encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in ("1", "2")
    }
    assert len(digests) == 1


def test_without_tokenizers_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Reference("tokenizer").validate("bpe")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(DataError, match=r"pip install 'gptzoo\[bpe\]'"):
        config.component.fit(config, TRAINING)


def test_bpe_rejects_a_vocabulary_smaller_than_the_bytes() -> None:
    with pytest.raises(Exception, match="greater than or equal to 257"):
        Reference("tokenizer").validate({"type": "bpe", "vocab_size": 256})


def imported(state: Any) -> Tokenizer:
    return Reference("tokenizer").validate("bpe").build(state)


def sentencepiece_json() -> dict[str, Any]:
    """Return a tokenizer.json in the style of SentencePiece: U+2581 for a space and byte fallback."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "▁a", "ab"]
    prepend = {"type": "Prepend", "prepend": "▁"}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    back = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
        "padding": None,
        "added_tokens": [{"id": index, "content": pieces[index], **flags} for index in range(3)],
        "normalizer": {"type": "Sequence", "normalizers": [prepend, replace]},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}, strip]},
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": {piece: index for index, piece in enumerate(pieces)},
            "merges": [["▁", "a"], ["a", "b"]],
        },
    }


@given(text=st.text(st.sampled_from("ab é🦊\n"), min_size=1))
def test_a_sentencepiece_tokenizer_decodes_like_its_library(text: str) -> None:
    import tokenizers

    tokenizer = imported(sentencepiece_json())
    library = tokenizers.Tokenizer.from_str(json.dumps({**sentencepiece_json(), "truncation": None}))
    ids = list(tokenizer.encode(text))
    assert ids == library.encode(text, add_special_tokens=False).ids
    # The library strips the leading space. `decode_bytes` keeps it, because the ids may continue another text.
    assert tokenizer.decode(ids) == " " + library.decode(ids) == " " + text
    assert tokenizer.eot == 2


@pytest.mark.parametrize("name", ["<|endoftext|>", "</s>", "<|end_of_text|>", "<|eot_id|>"])
def test_an_imported_tokenizer_finds_its_end_of_text_token_by_name(name: str) -> None:
    state = json.loads(json.dumps(fitted("bpe").state).replace("<|endoftext|>", name))
    assert imported(state).eot == fitted("bpe").eot
    assert imported(json.loads(json.dumps(state).replace(name, "<stop>"))).eot is None


def test_added_tokens_are_text_unless_they_are_special() -> None:
    state = json.loads(json.dumps(fitted("bpe").state))
    size = fitted("bpe").vocab_size
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    # GPT-NeoX has runs of spaces like this one; its characters are outside of the byte alphabet.
    state["added_tokens"].append({"id": size, "content": "  é ", "special": False, **flags})
    state["added_tokens"].append({"id": size + 1, "content": "<|user|>", "special": True, **flags})
    tokenizer = imported(state)
    ids = list(tokenizer.encode("a  é b<|user|>"))
    assert size in ids
    assert size + 1 not in ids
    assert tokenizer.decode(ids) == "a  é b<|user|>"
    assert tokenizer.decode([size + 1]) == ""
    assert tokenizer.vocab_size == size + 2


def test_unused_ids_decode_to_nothing() -> None:
    state = json.loads(json.dumps(fitted("bpe").state))
    size = fitted("bpe").vocab_size
    state["model"]["vocab"]["far"] = size + 3
    tokenizer = imported(state)
    assert tokenizer.vocab_size == size + 4
    assert tokenizer.decode([size, size + 3, size + 1]) == "far"


def test_a_decoder_that_does_not_map_tokens_to_bytes_is_rejected() -> None:
    with pytest.raises(DataError, match=r"expected a decoder that maps tokens to bytes.*got .*WordPiece"):
        imported({**fitted("bpe").state, "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True}})


@needs_tiktoken_files
@given(text=st.text())
def test_the_tokenizer_json_of_gpt2_gives_the_ids_of_tiktoken(text: str) -> None:
    tokenizer = _gpt2_from_json()
    assert list(tokenizer.encode(text)) == list(fitted("tiktoken").encode(text))
    assert (tokenizer.eot, tokenizer.vocab_size) == (fitted("tiktoken").eot, fitted("tiktoken").vocab_size)


@functools.cache
def _gpt2_from_json() -> Tokenizer:
    import tokenizers

    merges, vocab = sorted(Path(os.environ["TIKTOKEN_CACHE_DIR"]).iterdir(), key=lambda file: file.read_bytes()[0])
    pairs = [tuple(line.split()) for line in merges.read_text(encoding="utf-8").split("\n")[1:] if line]
    library = tokenizers.Tokenizer(tokenizers.models.BPE(json.loads(vocab.read_bytes()), pairs))
    library.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = tokenizers.decoders.ByteLevel()
    library.add_special_tokens(["<|endoftext|>"])
    return imported(json.loads(library.to_str()))


# ---------------------------------------------------------------------- tiktoken


@needs_tiktoken_files
@given(text=st.text())
def test_the_ids_are_those_of_the_tiktoken_library(text: str) -> None:
    import tiktoken

    ours, theirs = fitted("tiktoken"), tiktoken.get_encoding("gpt2")
    assert list(ours.encode(text)) == theirs.encode(text, disallowed_special=())
    assert (ours.vocab_size, ours.eot) == (50257, 50256)


def test_the_error_for_an_unknown_encoding_lists_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"'gpt22'.*gpt2.*cl100k_base"):
        fitted("tiktoken", name="gpt22")


def test_the_error_for_a_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import tiktoken

    def offline(name: str) -> Any:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(tiktoken, "get_encoding", offline)
    with pytest.raises(DataError, match=r"'p50k_base'.*download.*TIKTOKEN_CACHE_DIR.*'bpe' or 'byte'"):
        fitted("tiktoken", name="p50k_base")


def test_a_vocabulary_larger_than_memory_is_refused_and_does_not_abort_the_process() -> None:
    with pytest.raises(ValidationError, match="less than or equal to 1048576"):
        Reference("tokenizer").validate({"type": "bpe", "vocab_size": 10**12})
