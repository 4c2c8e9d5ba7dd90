"""The fenced blocks of the documentation, and the commands in them."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PATTERNS = ("*.md", "docs/**/*.md", "plugins/*/README.md")
PAGES = sorted(
    str(page.relative_to(ROOT))
    for pattern in PATTERNS
    for page in ROOT.glob(pattern)
    if not page.is_relative_to(ROOT / "docs" / "reference")  # generated, and checked by tests/cli/test_reference.py
)

_BLOCK = re.compile(
    r"(?:^<!-- (?P<marker>not executed: [^\n]*?) -->\n)?"
    r"^(?P<indent> *)```(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)
_MARKER = re.compile(r"not executed: (CUDA|cluster|network): \S.*")
_HEREDOC = re.compile(r"<<'?(\w+)'?.*?^\1$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int  # of the opening fence, from 1
    language: str
    text: str
    marker: str | None  # of a block that no test executes: `not executed: CUDA|cluster|network: REASON`

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page of the repository, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("indent")) + 1
        found.append(Block(page, line, match["language"], match["text"], match["marker"]))
    return found


def is_valid_marker(marker: str) -> bool:
    """Return True if a marker names one of the three classes and a reason."""
    return _MARKER.fullmatch(marker) is not None


def commands(script: str) -> Iterator[list[str]]:
    """Yield the simple commands of a shell script as words, without assignments, redirections, loops and heredocs.

    A variable becomes 1. What `$(…)` runs is not looked at.
    """
    script = _HEREDOC.sub("", script).replace("\\\n", " ")
    script = re.sub(r"\$\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)", "1", script)
    script = re.sub(r"\$\{[^}]*\}|\$\w+", "1", script)
    for line in script.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;<>")
        lexer.whitespace_split = True
        for is_separator, words in itertools.groupby(lexer, lambda word: bool(word) and set(word) <= set("&|;")):
            command = [] if is_separator else _simple(list(words))
            if command:
                yield command


def _simple(words: list[str]) -> list[str]:
    """Return a command without what a shell, a launcher or an interpreter adds in front of it, and without `> FILE`."""
    words = list(itertools.takewhile(lambda word: not set(word) <= set("<>") or not word, words))
    while words and (
        words[0] in ("do", "then", "done", "fi", "$", "srun") or re.fullmatch(r"[A-Za-z_]\w*=.*", words[0])
    ):
        words = words[1:]
    if words and words[0] in ("for", "if", "while"):
        return []
    if (
        words[:1] in (["torchrun"], ["python"], ["python3"])
        and "gptzoo" in words
        and words[words.index("gptzoo") - 1] == "-m"
    ):
        return words[words.index("gptzoo") :]
    return words
