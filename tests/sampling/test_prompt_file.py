"""A result file is resumed after a crash at any byte, and a file of another program is never changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from gptzoo.errors import InputError
from gptzoo.sampling.prompt_file import Prompt, ResultFile

PROMPTS = [Prompt(1, "ab", {"prompt": "ab"}), Prompt(4, "c", {"prompt": "c", "line": "of the user"})]


@pytest.mark.parametrize(
    "text",
    [
        '{"the": "only copy"}',
        "notes without a newline",
        '{"line": 3}\nand more',
        '{"lines": [1, 2]}',
        '"ab"\n"c"',
    ],
)
def test_a_file_that_is_no_result_file_is_refused_and_kept(tmp_path: Path, text: str) -> None:
    out = tmp_path / "mine.json"
    out.write_text(text)
    with pytest.raises(InputError, match=r"mine\.json:1: is not a line of a result file"):
        ResultFile(out, "job").__enter__()
    assert out.read_text() == text


def test_a_file_that_was_cut_off_at_any_byte_is_resumed(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with ResultFile(out, "job") as results:
        for prompt in PROMPTS:
            results.add(prompt, {"samples": []})
    whole = out.read_bytes()
    first_line = whole.index(b"\n") + 1
    for n_bytes in range(len(whole) + 1):
        out.write_bytes(whole[:n_bytes])
        with ResultFile(out, "job") as results:
            remaining = results.remaining(PROMPTS)
            n_complete = whole[:n_bytes].count(b"\n")
            assert remaining == PROMPTS[n_complete:]
        assert out.read_bytes() == whole[: [0, first_line, len(whole)][n_complete]]
