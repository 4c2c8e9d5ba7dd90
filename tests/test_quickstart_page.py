"""docs/quickstart.md: its commands and code run in order, on a small text and a small model, and its table is right."""

from __future__ import annotations

import json
import random
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from processes import free_port, served

import gptzoo
from gptzoo.cli import main
from gptzoo.field_words import FIELD_WORDS
from gptzoo.spec.model import ModelSpec
from gptzoo.spec.run import RunSpec
from gptzoo.training.run.metrics_file import read_metrics

PAGE = (Path(__file__).parents[1] / "docs" / "quickstart.md").read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
ROWS = [
    re.split(r"(?<!\\)\|", row.strip("|"))
    for row in re.findall(r"^\|.*\|$", PAGE[PAGE.index("## From nanoGPT") :], re.M)
][2:]
SMALL = {"d_model": 16, "n_layers": 1, "n_heads": 2}
N_STEPS = 12


def spec_of_the_page() -> dict[str, Any]:
    """Return the run spec of the page."""
    (text,) = (text for language, text in BLOCKS if language == "json")
    spec: dict[str, Any] = json.loads(text)
    return spec


def fragments(cell: str) -> Iterator[dict[str, Any]]:
    """Yield the fields in a cell of the table that are written as in a spec."""
    for code in re.findall(r"`([^`]+)`", cell):
        if code.startswith('"'):
            yield json.loads(f"{{{code}}}")


def test_every_block_has_a_known_language() -> None:
    assert {language for language, _ in BLOCKS} == {"json", "sh", "python", "text"}
    assert PAGE.count("```") == 2 * len(BLOCKS)


def test_the_spec_of_the_page_is_a_model_with_rope_and_swiglu() -> None:
    spec = gptzoo.load_run_spec(spec_of_the_page()).model
    assert (spec.positional.type, spec.ffn.type, spec.ffn.activation.type) == ("rope", "glu", "silu")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip())
def test_a_row_of_the_table_names_fields_and_commands_that_exist(row: list[str]) -> None:
    theirs, ours = row
    spec = spec_of_the_page()
    spec["corpus"] = "stories"
    written = []
    for fields in fragments(ours):
        written += list(fields)
        for name, value in fields.items():
            place = spec["model"] if name in ModelSpec.model_fields else spec
            assert name in ModelSpec.model_fields or name in RunSpec.model_fields
            place[name] = value
            written += list(value) if isinstance(value, dict) else []
    gptzoo.load_run_spec(spec)
    for code in re.findall(r"`([^`]+)`", ours):
        words = shlex.split(code) if "gptzoo " in code else []
        if words:
            command = main.commands[words[words.index("gptzoo") + 1]]
            known = {flag for parameter in command.params for flag in parameter.opts}
            assert isinstance(command, click.Command)
            assert {word for word in words[words.index("gptzoo") :] if word.startswith("--")} <= known
    for word in re.findall(r"`(\w+)(?= =|`)", theirs):  # errors about the words of nanoGPT name the same field
        if word in FIELD_WORDS:
            assert FIELD_WORDS[word].rpartition(".")[2] in written


def test_a_flag_of_nanogpt_is_an_override_of_the_same_field() -> None:
    (override,) = re.findall(r"`--set (\S+)`", PAGE)
    assert gptzoo.load_run_spec({**spec_of_the_page(), "corpus": "stories"}, [override]).model.n_layers == 6


def test_the_extras_of_the_page_exist() -> None:
    project = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    (extras,) = re.findall(r"pip install -c constraints\.txt -e '\.\[([\w,]+)\]'", PAGE)
    assert all(re.search(rf"^{extra} = \[", project, re.MULTILINE) for extra in extras.split(","))


def make_workplace(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a text, and the spec of the page with a small model and few steps. Make `folder` the current one."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GPTZOO_CACHE", str(folder / "cache"))
    generator = random.Random(0)
    (folder / "input.txt").write_text(" ".join(generator.choices(["The", "cat", "and", "a", "dog", "slept."], k=4000)))
    spec = spec_of_the_page()
    small = {"model": {**spec["model"], **SMALL}, "steps": N_STEPS, "device": "cpu"}
    (folder / "mine.json").write_text(json.dumps({**spec, **small, "eval": {"every": 4}, "checkpoint": {"every": 4}}))


@pytest.mark.slow
def test_the_page_can_be_followed_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_workplace(tmp_path, monkeypatch)
    port = str(free_port())
    outputs: dict[str, str] = {}
    steps: list[int] = []
    server: list[str] = []
    for language, text in BLOCKS:
        if language == "python" and text.startswith("# plot.py\n"):
            (tmp_path / "plot.py").write_text(text)
        elif language == "python":
            exec(text, {})
            outputs["python"] = capsys.readouterr().out
        for command in text.replace("\\\n", " ").strip().splitlines() if language == "sh" else []:
            words = shlex.split(command.replace("8000", port).replace("steps=900", f"steps={N_STEPS + 6}"))
            if words[:2] == ["gptzoo", "serve"]:
                server = [sys.executable, "-m", *words]
            elif words[0] == "curl":
                with served(server, port):
                    outputs["curl"] = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
            elif words[0] == "python":
                subprocess.run([sys.executable, *words[1:]], check=True)
            else:
                assert words[0] == "gptzoo"
                is_first = words[1:] == ["train", "mine.json", "--out", "runs/mine"]  # interrupted, and then resumed
                main([*words[1:], *(["--until", "5"] if is_first else [])], standalone_mode=False)
                outputs[words[1]] = capsys.readouterr().out
                if words[1] == "train":
                    steps.append(read_metrics(Path(words[4], "metrics.jsonl"))[-1]["step"])
    assert steps == [5, N_STEPS, N_STEPS, N_STEPS + 6]
    assert "rope" in outputs["build"]
    assert "learned" in outputs["diff"]
    assert outputs["sample"].count("The ") >= 2
    assert outputs["python"].startswith("The ")
    answer = json.loads(outputs["curl"])
    ended = answer["choices"][0]["finish_reason"]  # nothing seeds the request, and the end of a document may be drawn
    n_tokens = answer["usage"]["completion_tokens"]
    assert (answer["model"], ended) == ("mine", "length" if n_tokens == 50 else "stop")
    for picture in ("losses.png", "runs/mine/loss.png", "runs/learned/loss.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG"), picture
