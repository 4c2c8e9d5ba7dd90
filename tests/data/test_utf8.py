from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptzoo.data.corpora.file_text import open_text
from gptzoo.data.utf8 import encode_utf8, read_utf8
from gptzoo.errors import DataError


@given(st.text())
def test_encoded_text_decodes_to_the_same_text(text: str) -> None:
    assert encode_utf8(text).decode("utf-8") == text


def test_a_lone_surrogate_is_rejected_with_its_position() -> None:
    with pytest.raises(DataError, match=r"lone surrogate, '\\ud800', at character 3"):
        encode_utf8("abc\ud800")


def test_line_ends_and_unicode_separators_are_kept(tmp_path: Path) -> None:
    text = "one\r\ntwo\rthree\nfour\x0bfive\u2028six"
    (tmp_path / "a.txt").write_bytes(text.encode())
    assert read_utf8(tmp_path / "a.txt") == text


def test_a_byte_order_mark_is_removed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfabc")
    assert read_utf8(tmp_path / "a.txt") == "abc"


@given(st.text(max_size=30))
def test_the_error_names_the_first_invalid_byte(tmp_path_factory: pytest.TempPathFactory, before: str) -> None:
    file = tmp_path_factory.mktemp("latin") / "latin.txt"
    file.write_bytes(before.encode() + b"\xff abc")
    with pytest.raises(DataError, match=rf"latin\.txt: byte {len(before.encode())} is not UTF-8"):
        read_utf8(file)


def test_a_binary_file_and_utf16_are_told_from_text_in_another_encoding(tmp_path: Path) -> None:
    for name, data in (("image.png", b"\x89PNG\0\0"), ("wide.txt", "text".encode("utf-16"))):
        (tmp_path / name).write_bytes(data)
        message = rf"{name}: byte 0 is not UTF-8, and there are zero bytes: this is a binary file, or text in UTF-16"
        with pytest.raises(DataError, match=message):
            read_utf8(tmp_path / name)
        with pytest.raises(DataError, match=message):
            open_text(tmp_path / name).read()


def test_the_error_names_an_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.txt: cannot be read: No such file"):
        read_utf8(tmp_path / "gone.txt")
