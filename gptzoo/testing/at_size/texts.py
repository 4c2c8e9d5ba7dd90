"""Texts that tokenizers get wrong: long ones, rare characters, special tokens, characters across edges of blocks."""

from __future__ import annotations

from hypothesis import strategies as st

SHORT_TEXTS = (
    "",
    "a",
    "The quick brown fox jumps over the lazy dog.",
    "two  spaces,\ttab\nline\r\n\n",
    " leading and trailing ",
    "naïve café, Straße, cafe\u0301",
    "中文 العربية हिन्दी",
    "🙂👩‍👩‍👧 🇫🇷",
    "<|endoftext|> is text, and so is </s>",
    "0123456789 == {}[]();",
)
SPECIAL_TOKENS = ("<|endoftext|>", "<|end_of_text|>", "<|im_end|>", "<s>", "</s>", "<unk>", "<pad>", "[UNK]", "<0x0A>")
_RANGES = (
    (0x00, 0x20),  # control characters
    (0x7F, 0xA1),
    (0xC0, 0x250),
    (0x300, 0x370),  # combining marks
    (0x590, 0x700),  # right to left
    (0x900, 0x980),
    (0x1100, 0x1200),  # Hangul letters
    (0x2000, 0x2070),  # spaces, joiners and directions
    (0x3400, 0x3440),
    (0xAC00, 0xAC40),
    (0xE000, 0xE020),  # private use
    (0xFE00, 0xFE10),  # variation selectors
    (0xFFF0, 0x10000),  # with U+FFFD and two noncharacters
    (0x1D400, 0x1D440),
    (0x1F300, 0x1F400),
    (0x20000, 0x20020),  # planes beyond the second
    (0x2FFF0, 0x30000),
    (0xE0100, 0xE0120),
    (0x10FFF0, 0x110000),
)
RARE_TEXTS = tuple("".join(map(chr, range(*bounds))) for bounds in _RANGES)
LONG_TEXTS = (
    "one word after the other, " * 80 + "end \n ",
    "cafe\u0301 A\u030a \u1100\u1161 " * 60,
    *("a" * shift + "€🙂" * 700 for shift in range(4)),  # every edge of a block cuts a character
    " " * 600,
    "\n" * 300 + "\r\n" * 300,
    "a" * 1500,
    "0123456789" * 130,
    "<|endoftext|>" * 60 + "</s>" * 60,
    "".join(RARE_TEXTS) * 2,
    "The end. \ufeff" * 900,  # over 10 KB
)
TEXTS = (*SHORT_TEXTS, *SPECIAL_TOKENS, *RARE_TEXTS, *LONG_TEXTS)


def text_strategy() -> st.SearchStrategy[str]:
    """Return a strategy for texts of up to some thousand characters: random, from one range, or repeated."""
    ranges = st.sampled_from(_RANGES).flatmap(lambda bounds: st.text(_characters(*bounds), max_size=80))
    pieces = st.text(max_size=60) | ranges | st.sampled_from([*SHORT_TEXTS, *SPECIAL_TOKENS])
    return st.builds(
        lambda pieces, repeats: "".join(pieces) * repeats,
        st.lists(pieces, max_size=6),
        st.sampled_from([1, 1, 2, 9, 33]),
    )


def _characters(low: int, high: int) -> st.SearchStrategy[str]:
    return st.characters(min_codepoint=low, max_codepoint=high - 1, exclude_categories=["Cs"])


def show(text: str) -> str:
    """Return a text for a message, shortened in the middle."""
    shown = repr(text)
    return shown if len(shown) <= 90 else f"{shown[:50]}…{shown[-30:]} ({len(text)} characters)"
