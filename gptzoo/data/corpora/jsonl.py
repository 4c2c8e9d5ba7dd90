"""The corpus `jsonl`: one JSON object per line."""

from __future__ import annotations

import codecs
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from gptzoo.data.corpora.files import FileCorpus
from gptzoo.data.utf8 import encode_utf8, open_binary
from gptzoo.errors import DataError


class JsonlCorpus(FileCorpus):
    """JSON Lines files with one document per line, in the key `field`.

    A hash of its content decides whether a document is held out for validation.
    """

    name = "jsonl"
    suffix = ".jsonl"

    class Config(FileCorpus.Config):
        field: str = "text"
        """Key of the text in the JSON object on each line."""

    config: Config

    def fingerprint(self) -> str:
        return hashlib.sha256(f"{super().fingerprint()}/{self.config.field}".encode()).hexdigest()

    def _read(self, file: Path) -> Iterator[str]:
        with open_binary(file) as lines:  # in text mode, lines would also end at \r and other separators
            for number, line in enumerate(lines, start=1):
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                if line.strip():
                    yield self._parse(line, f"{file}:{number}")

    def _parse(self, line: bytes, location: str) -> str:
        try:
            value = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise DataError(
                f"{location}: byte {error.start} of the line is not UTF-8; convert the file to UTF-8"
            ) from None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{location}: not a line of JSON: {error}") from None
        text = value.get(self.config.field) if isinstance(value, dict) else None
        if not isinstance(text, str):
            actual = f"keys: {', '.join(map(repr, value))}" if isinstance(value, dict) else "the line is not an object"
            is_given = isinstance(value, dict) and self.config.field in value
            advice = f"it holds {json.dumps(text)[:40]}" if is_given else "set the corpus's `field`"
            raise DataError(f"{location}: has no text under {self.config.field!r} ({actual}); {advice}")
        try:
            encode_utf8(text)
        except DataError as error:  # JSON can express a lone surrogate, "\ud800", which UTF-8 cannot
            raise DataError(f"{location}: {error}") from None
        return text
