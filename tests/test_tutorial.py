"""Every command and every file of docs/tutorial.md works, in order, in a fresh environment."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from scaffold.environment import Environment

PAGE = Path(__file__).parents[1] / "docs" / "tutorial.md"
N_STEPS = "30"  # fewer than on the page, which reads the variable STEPS


def blocks() -> list[tuple[str, str]]:
    """Return the language and the text of each fenced block of the page, in order."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def without_numbers(output: str) -> list[str]:
    """Return the lines of an output with every number replaced by 0 and every run of spaces by one space."""
    return [re.sub(r"\s+", " ", re.sub(r"[-+]?\d+(\.\d+)?", "0", line)).strip() for line in output.strip().splitlines()]


def test_every_block_has_a_language_that_the_test_runs() -> None:
    assert {language for language, _ in blocks()} == {"sh", "python", "text"}
    assert PAGE.read_text(encoding="utf-8").count("```") == 2 * len(blocks())


@pytest.mark.slow
def test_the_tutorial_can_be_followed_from_top_to_bottom(tmp_path: Path) -> None:
    environment = Environment(tmp_path / "venv")
    variables = {"STEPS": N_STEPS, "GPTZOO_CACHE": str(tmp_path / "cache"), "GPTZOO_PLUGINS": "quiet", "COLUMNS": "120"}
    folder, output = tmp_path, ""
    for language, text in blocks():
        if language == "python":
            file = folder / text.partition("\n")[0].removeprefix("# ")
            file.write_text(text.partition("\n")[2], encoding="utf-8")
        elif language == "text":
            expected, actual = without_numbers(text), without_numbers(output)
            assert [line for line in actual if line in expected] == expected, output
        else:
            done = environment.run(f"{text}\npwd > {tmp_path / 'folder'}", folder, **variables)
            output = done.stdout
            assert done.returncode == 0, f"{text}\n{output}"
            folder = Path((tmp_path / "folder").read_text().strip())
    assert (folder / "runs" / "quiet-2" / "sample.txt").is_file()
