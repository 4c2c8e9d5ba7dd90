"""Paths in records and sentences that leave this machine keep their last part only."""

from __future__ import annotations

import pytest

from gptzoo.publishing.private_paths import shorten_paths_in


@pytest.mark.parametrize(
    ("sentence", "public"),
    [
        ("/home/ada/my.txt: cannot be read", "my.txt: cannot be read"),
        ("refused: '/home/ada/my text.txt' is empty", "refused: 'my text.txt' is empty"),
        ("text(path=/home/ada/a.txt, n=3) / text(path=~/b.txt)", "text(path=a.txt, n=3) / text(path=b.txt)"),
        ("corpus.path: /data/x/a.txt -> /data/y/a.txt", "corpus.path: a.txt -> a.txt"),
        ("from file /home/ada/gated.py; give it", "from file gated.py; give it"),
        (r"C:\Users\ada\a.txt is missing", "a.txt is missing"),
        ("val/loss and/or 3/4 of data/my.txt", "val/loss and/or 3/4 of data/my.txt"),
        ("https://example.org/a/b and ../a/b", "https://example.org/a/b and ../a/b"),
        ("on the pareto front / none", "on the pareto front / none"),
    ],
)
def test_absolute_paths_in_a_sentence_lose_their_folders(sentence: str, public: str) -> None:
    assert shorten_paths_in(sentence) == public
