"""The tutorial is run as it stands: every command and every file on the page, in order, in a fresh environment."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from scaffold.environment import Environment

PAGE = Path(__file__).parents[1] / "docs" / "tutorial.md"
STEPS = "30"  # the page says itself that STEPS may be another


def blocks() -> list[tuple[str, str]]:
    """The fenced blocks of the page in order, each with its language."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def shape_of(output: str) -> list[str]:
    """The lines of an output, with every number and the alignment of tables taken out."""
    return [re.sub(r"\s+", " ", re.sub(r"[-+]?\d+(\.\d+)?", "0", line)).strip() for line in output.strip().splitlines()]


def test_every_block_is_of_a_language_that_is_run() -> None:
    assert {language for language, _ in blocks()} == {"sh", "python", "text"}
    assert PAGE.read_text(encoding="utf-8").count("```") == 2 * len(blocks())


@pytest.mark.slow
def test_the_tutorial_can_be_followed_from_top_to_bottom(tmp_path: Path) -> None:
    environment = Environment(tmp_path / "venv")
    variables = {"STEPS": STEPS, "GPTZOO_CACHE": str(tmp_path / "cache"), "GPTZOO_PLUGINS": "quiet", "COLUMNS": "120"}
    folder, said = tmp_path, ""
    for language, text in blocks():
        if language == "python":
            file = folder / text.partition("\n")[0].removeprefix("# ")
            file.write_text(text.partition("\n")[2], encoding="utf-8")
        elif language == "text":
            shown, found = shape_of(text), shape_of(said)
            assert [line for line in found if line in shown] == shown, said
        else:
            done = environment.run(f"{text}\npwd > {tmp_path / 'here'}", folder, **variables)
            said = done.stdout
            assert done.returncode == 0, f"{text}\n{said}"
            folder = Path((tmp_path / "here").read_text().strip())
    assert (folder / "runs" / "quiet-2" / "sample.txt").is_file()
