"""docs/sampling.md: every command, file and Python block of the page runs, with a small model."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from support import with_large_weights

import gptzoo
from gptzoo import registry
from gptzoo.checkpoint.model_folder import save_model
from gptzoo.cli import main
from gptzoo.data.tokenizers.byte import ByteTokenizer

PAGE = (Path(__file__).parents[1] / "docs" / "sampling.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the files that the page names."""
    monkeypatch.chdir(tmp_path)
    for name, n_layers in (("quickstart", 2), ("small", 1)):
        spec = {"vocab_size": 257, "context_length": 96, "d_model": 16, "n_layers": n_layers, "n_heads": 2}
        save_model(
            tmp_path / "runs" / name,
            with_large_weights(gptzoo.build(spec, seed=1)),
            ByteTokenizer(ByteTokenizer.Config()),
        )
    (tmp_path / "opening.txt").write_text("Once there was\n")
    (tmp_path / "prompts.jsonl").write_text('"Once"\n{"prompt": "The", "id": 3}\n')
    (tmp_path / "sampling.json").write_text(blocks("json")[0])
    (tmp_path / "chat.jinja").write_text(blocks("jinja")[0])
    (tmp_path / "shout.py").write_text(next(block for block in blocks("python") if "hookimpl" in block))
    return tmp_path


def test_every_command_of_the_page_runs(folder: Path) -> None:
    pytest.importorskip("llguidance")
    commands = [line for block in blocks("sh") for line in block.splitlines()]
    for line in commands:
        typed = None
        if line.startswith("echo "):
            echo, line = line.split(" | ")
            typed = shlex.split(echo)[1] + "\n"
        program, *arguments = shlex.split(line)
        assert program == "gptzoo"
        with registry.use(registry.discover(selection="none")):
            done = CliRunner().invoke(main, arguments, input=typed)
        assert done.exit_code == 0, f"{line}\n{done.output}"
    assert (folder / "attention.html").is_file()
    assert len((folder / "written.jsonl").read_text().splitlines()) == 2


def test_the_tables_have_every_processor_and_its_option() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")]
    options = " ".join(re.findall(r"`(--[^`]*)`", "".join(rows)))
    shown = {parameter.opts[0] for parameter in main.commands["sample"].params if parameter.opts[0] in options}
    assert len(shown) >= len(gptzoo.registered("logits_processor")) + 4
    for component in gptzoo.registered("logits_processor").values():
        assert component.paper.split(",")[0].split(" 20")[0].split(" 19")[0] in "".join(rows), component.name


def test_the_python_of_the_page_streams_the_tokens_that_it_generates(folder: Path) -> None:
    source = next(block for block in blocks("python") if "gptzoo.load(" in block)
    names: dict = {}
    exec(source, names)
    assert all(len(row) <= 20 for row in names["rows"])
    streamed = [event.token for (event,) in gptzoo.stream(names["loaded"].model, [names["prompt"]], names["spec"])]
    assert streamed == names["rows"][0]


def test_the_logits_processor_of_the_page_works(folder: Path) -> None:
    with registry.use(registry.discover(selection="none")):
        gptzoo.load_plugin(folder / "shout.py")
        spec = gptzoo.SamplingSpec(max_new_tokens=40, processors=[{"type": "shout", "nats": 50.0}])
        loaded = gptzoo.load(folder / "runs" / "quickstart")
        (row,) = gptzoo.generate(loaded.model, [list(b"The")], spec, loaded.tokenizer)
    assert not any(chr(token).islower() for token in row[1:] if token < 128)
