"""Many prompts from a file, and a file of what was written after them that can be gone on with."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from gptzoo.data.utf8 import opened
from gptzoo.errors import DataError, InputError


@dataclass(frozen=True)
class Prompt:
    """One line of a file of prompts."""

    line: int  # counted from 1
    text: str
    fields: Mapping[str, Any]  # all that the line says, such as an id


def read_prompts(file: Path) -> list[Prompt]:
    """The prompts of a jsonl file: each line a string, or an object with "prompt". Raises DataError with the line."""
    prompts = []
    with opened(file) as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except ValueError as error:  # of JSON and of UTF-8
                raise DataError(f"{file}:{number}: is no JSON: {error}") from None
            fields = {"prompt": value} if isinstance(value, str) else value
            if not isinstance(fields, dict) or not isinstance(fields.get("prompt"), str):
                raise DataError(f'{file}:{number}: give each line a string, or an object with a "prompt" that is one')
            prompts.append(Prompt(number, fields["prompt"], fields))
    if not prompts:
        raise DataError(f"{file}: has no prompts")
    return prompts


class Results:
    """A jsonl file that gets one line for each prompt; killed at any moment, it holds whole lines but for the last.

    `job` tells one model with its options from others: a file that was begun by another job is refused.
    """

    def __init__(self, file: Path, job: str):
        self.file, self.job = file, job
        self.done: dict[int, str] = {}  # the prompts that are there, by line
        try:
            self._stream = open(file, "a+b")  # noqa: SIM115 (closed in __exit__)
        except OSError as error:
            raise InputError(f"{file}: cannot be written: {error.strerror}") from None

    def __enter__(self) -> Results:
        self._stream.seek(0)
        whole = 0
        for number, line in enumerate(self._stream, start=1):
            if not line.endswith(b"\n"):  # what a killed process left
                self._stream.truncate(whole)
                break
            whole += len(line)
            self._take(number, line)
        return self

    def _take(self, number: int, line: bytes) -> None:
        try:
            row = json.loads(line)
            job, at, prompt = row["job"], row["line"], row["prompt"]
        except (ValueError, TypeError, KeyError):
            raise InputError(f"{self.file}:{number}: is no line of such a file; choose another --out") from None
        if job != self.job:
            raise InputError(
                f"{self.file}:{number}: was written by another model or with other options; choose another --out"
            )
        self.done[at] = prompt

    def left(self, prompts: list[Prompt]) -> list[Prompt]:
        """Those of the prompts that have no line yet. Raises InputError if one of them was another before."""
        changed = [prompt.line for prompt in prompts if self.done.get(prompt.line, prompt.text) != prompt.text]
        if changed:
            raise InputError(f"{self.file}: prompt {changed[0]} was another when this was begun; choose another --out")
        return [prompt for prompt in prompts if prompt.line not in self.done]

    def add(self, prompt: Prompt, result: Mapping[str, Any]) -> None:
        """One line, durably."""
        row = {"line": prompt.line, **prompt.fields, **result, "job": self.job}
        self._stream.write(json.dumps(row, ensure_ascii=False).encode("utf-8") + b"\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
