"""Batch generation from files: `read_prompts` reads a prompt file, and `ResultFile` is a resumable output file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from gptzoo.data.utf8 import open_binary
from gptzoo.errors import DataError, InputError, SpecError
from gptzoo.spec.strict_json import parse_json
from gptzoo.utils.atomic import write_text
from gptzoo.utils.json_text import to_json

RESULT_KEY = "gptzoo"  # holds the keys of a result that are fields of its prompt, too
_START_OF_ROW = b'{"line": '  # with which every line of a result file begins


@dataclass(frozen=True)
class Prompt:
    """One line of a prompt file."""

    line: int  # line number, from 1
    text: str
    fields: Mapping[str, Any]  # all fields of the line, copied to the result; RESULT_KEY is not among them


def read_prompts(file: Path) -> list[Prompt]:
    """Read the prompts of a JSONL file. Each line is a string, or an object with a string "prompt".

    Raises DataError with the line number for anything else, and for a file without prompts.
    """
    prompts = []
    with open_binary(file) as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            value = _parse_line(line, f"{file}:{number}")
            fields = {"prompt": value} if isinstance(value, str) else value
            if not isinstance(fields, dict) or not isinstance(fields.get("prompt"), str):
                raise DataError(f'{file}:{number}: expected a string, or an object with a string "prompt"')
            if RESULT_KEY in fields:
                raise DataError(f'{file}:{number}: the key "{RESULT_KEY}" is reserved for results. Rename this field.')
            prompts.append(Prompt(number, fields["prompt"], fields))
    if not prompts:
        raise DataError(f"{file}: has no prompts")
    return prompts


def _parse_line(line: bytes, place: str) -> object:
    """Parse a line that JSON can represent again. Raises DataError at `place`."""
    try:
        value = parse_json(line.decode("utf-8"), place)
        json.dumps(value, allow_nan=False)
    except UnicodeDecodeError as error:
        raise DataError(f"{place}: is not JSON: byte {error.start} is not UTF-8") from None
    except SpecError as error:
        raise DataError(f"{place}: is not JSON: {error.problems[0].reason}") from None
    except (ValueError, RecursionError):
        raise DataError(f"{place}: has a number that is too large for a float, or is nested too deeply") from None
    return value


class ResultFile:
    """A JSONL output file with one line per prompt, which can be resumed after a crash.

    A line has the fields of its prompt, the line number of the prompt, the result and the job. A key of the result that
    is also a field of the prompt is under RESULT_KEY, so that the field is unchanged. The result is `samples`, or
    `error` for a prompt that failed. Opening the file again removes the errors, so that these prompts are tried again.
    Every line is synced to disk, so only the last line can be incomplete. `job` is a digest of the model and the
    options. A file that another job wrote, or another program, is refused with InputError and not changed.
    """

    def __init__(self, file: Path, job: str):
        self.file, self.job = file, job
        self.done: dict[int, str] = {}  # finished prompts, by line number
        try:
            self._stream = open(file, "a+b")  # noqa: SIM115 (closed in __exit__)
        except OSError as error:
            raise InputError(f"{file}: cannot be written: {error.strerror}") from None

    def __enter__(self) -> ResultFile:
        self._stream.seek(0)
        n_complete_bytes = 0
        kept: list[bytes] = []
        n_lines = 0
        for number, line in enumerate(self._stream, start=1):
            if not line.endswith(b"\n"):  # a process was killed while it wrote this line
                if number == 1:
                    self._check_start(line)
                self._stream.truncate(n_complete_bytes)
                break
            n_complete_bytes += len(line)
            n_lines = number
            if self._read_line(number, line):
                kept.append(line)
        if len(kept) < n_lines:
            self._stream.close()
            write_text(self.file, b"".join(kept).decode("utf-8"))
            self._stream = open(self.file, "a+b")
        return self

    def _check_start(self, line: bytes) -> None:
        """Raise InputError if an incomplete first line, which no complete one vouches for, is not that of a result."""
        if not line.startswith(_START_OF_ROW[: len(line)]):
            self._stream.close()
            raise self._not_a_result_file(1)

    def _not_a_result_file(self, number: int) -> InputError:
        return InputError(f"{self.file}:{number}: is not a line of a result file. Choose another --out.")

    def _read_line(self, number: int, line: bytes) -> bool:
        """Record the prompt of a line as done. Return False if the prompt failed."""
        try:
            row = json.loads(line)
            own = row.get(RESULT_KEY, {})
            result = {**row, **own}
            job, prompt_line, prompt = result["job"], result["line"], row["prompt"]
            if type(prompt_line) is not int:
                raise ValueError("a field of the prompt is in the place of the line number")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise self._not_a_result_file(number) from None
        if job != self.job:
            raise InputError(
                f"{self.file}:{number}: was written with another model or with other options. Choose another --out."
            )
        if "error" in own or ("error" in row and "samples" not in result):
            return False
        self.done[prompt_line] = prompt
        return True

    def remaining(self, prompts: list[Prompt]) -> list[Prompt]:
        """Return the prompts that have no result yet. Raises InputError if a finished prompt has changed."""
        changed = [prompt.line for prompt in prompts if self.done.get(prompt.line, prompt.text) != prompt.text]
        if changed:
            raise InputError(
                f"{self.file}: prompt {changed[0]} has changed since this file was started. Choose another --out."
            )
        return [prompt for prompt in prompts if prompt.line not in self.done]

    def add(self, prompt: Prompt, result: Mapping[str, Any]) -> None:
        """Append the result of a prompt and sync it to disk."""
        hidden_keys = set(prompt.fields)
        if hidden_keys & {"samples", "error"} and "error" in result:  # tells it from a result beside such a field
            hidden_keys.add("error")
        added = {"line": prompt.line, **result, "job": self.job}
        row = {"line": prompt.line, **prompt.fields}
        row |= {key: value for key, value in added.items() if key not in hidden_keys}
        if hidden := {key: value for key, value in added.items() if key in hidden_keys}:
            row[RESULT_KEY] = hidden
        # UTF-8 cannot represent a lone surrogate, but JSON can escape it.
        self._stream.write(to_json(row, ensure_ascii=False).encode("utf-8", errors="backslashreplace") + b"\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def add_error(self, prompt: Prompt, error: Exception) -> None:
        """Append the error of a prompt that failed, and sync it to disk."""
        self.add(prompt, {"error": {"type": type(error).__name__, "message": str(error)}})

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
