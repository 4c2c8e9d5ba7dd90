"""A project of `gptzoo init` works as it is, and nothing is overwritten."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

import gptzoo
from gptzoo import registry
from gptzoo.cli import main
from gptzoo.errors import FolderError, InputError
from gptzoo.scaffold.project import FILES, SIZES, TOKENIZERS, new_project

TEXT = "The cat and a dog slept. " * 200


def init(*arguments: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["init", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_the_specs_have_the_chosen_text_tokenizer_and_size(size: str, tokenizer: str, tmp_path: Path) -> None:
    text = tmp_path / "my text.txt"
    text.write_text(TEXT)
    folder = tmp_path / "deep" / "Mine 2"
    new_project(folder, text, tokenizer, size)
    assert {file.name for file in folder.iterdir()} == set(FILES)
    run = gptzoo.load_run_spec(folder / "run.yaml")
    assert (run.name, run.tokenizer.type, Path(run.corpus.path)) == ("mine-2", tokenizer, text.resolve())
    assert (run.model.d_model, run.model.n_layers, run.steps) == (
        SIZES[size].d_model,
        SIZES[size].n_layers,
        SIZES[size].steps,
    )
    assert (run.model.positional.type, run.model.ffn.type, run.model.ffn.activation.type) == ("rope", "glu", "silu")
    assert gptzoo.load_ablation_spec(folder / "ablation.yaml").base["steps"] == run.steps
    for file in folder.iterdir():
        assert str(tmp_path) not in file.read_text()  # the folder can be moved together with its text
        assert not re.search(r"\{[A-Z_]+\}", file.read_text())


def test_without_a_text_the_run_has_generated_stories(tmp_path: Path) -> None:
    init(tmp_path / "true")
    run = gptzoo.load_run_spec(tmp_path / "true" / "run.yaml")
    assert (run.corpus.type, run.name) == ("stories", "gpt-true")  # `true` alone would be no string


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_written_beside_a_file_that_exists(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(FolderError, match=f"has {re.escape(name)} already"):
        new_project(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_invalid_arguments_write_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    folder = tmp_path / "project"
    assert "nope.txt: no such file" in init(folder, "--text", "nope.txt", code=2).stderr
    assert "has no .txt files" in init(folder, "--text", tmp_path / "empty", code=2).stderr
    with pytest.raises(InputError, match="no size named 'smal'; did you mean 'small'"):
        new_project(folder, size="smal")
    assert not folder.exists()
    assert "cannot be written" in init(tmp_path / "file" / "sub", code=2).stderr


def test_the_json_output_lists_files_and_commands(tmp_path: Path) -> None:
    output = json.loads(init(tmp_path / "a", "--json").stdout)
    assert set(output["files"]) == {file.name for file in (tmp_path / "a").iterdir()}
    assert output["next"][0] == f"cd {shlex.quote(str(tmp_path / 'a'))}"


def test_a_terminal_is_asked_for_the_options_that_are_not_given(tmp_path: Path) -> None:
    (tmp_path / "input.txt").write_text(TEXT)
    terminal, stdin = pty.openpty()
    command = [sys.executable, "-m", "gptzoo", "init", "mine", "--size", "tiny"]
    process = subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=tmp_path)
    os.write(terminal, b"nowhere.txt\ninput.txt\nchar\n")
    output, _ = process.communicate()
    os.close(terminal)
    os.close(stdin)
    assert process.returncode == 0, output
    assert b"nowhere.txt: no such file" in output
    assert b"Size of the model" not in output
    run = gptzoo.load_run_spec(tmp_path / "mine" / "run.yaml")
    assert (run.tokenizer.type, run.model.d_model) == ("char", SIZES["tiny"].d_model)
    assert Path(run.corpus.path) == (tmp_path / "input.txt").resolve()


def test_the_attention_scales_the_heads_of_sdpa_by_gates_of_the_input(
    tmp_path: Path, fresh_registry: registry.Registry
) -> None:
    gptzoo.load_plugin(new_project(tmp_path / "mine").folder / "my_attention.py")
    spec = {"context_length": 8, "d_model": 8, "n_layers": 1, "n_heads": 2, "vocab_size": 5}
    gated, plain = (gptzoo.build({**spec, "attention": name}) for name in ("my_attention", "sdpa"))
    weights = gated.state_dict()
    projection = [weights.pop(f"blocks.0.attention.head_gate.{name}") for name in ("weight", "bias")]
    plain.load_state_dict(weights)
    seen: dict[str, torch.Tensor] = {}
    for name, model in {"gated": gated, "plain": plain}.items():
        attention = model.get_submodule("blocks.0.attention")
        attention.register_forward_pre_hook(lambda module, inputs: seen.update(x=inputs[0]))
        attention.get_submodule("out").register_forward_pre_hook(
            lambda module, inputs, name=name: seen.update({name: inputs[0]})
        )
        with torch.no_grad():
            model(torch.tensor([[1, 2, 3, 4]]))
    gate = torch.nn.functional.linear(seen["x"], *projection).sigmoid()  # (B, T, H)
    assert gate.std() > 1e-4
    torch.testing.assert_close(seen["gated"], seen["plain"] * gate.repeat_interleave(4, dim=-1))


@pytest.mark.slow
def test_every_command_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTZOO_CACHE", str(tmp_path / "cache"))
    (tmp_path / "input.txt").write_text(TEXT)
    folder = new_project(tmp_path / "mine", tmp_path / "input.txt", "byte", "tiny").folder
    for name, old, new in (
        ("run.yaml", "steps: 300", "steps: 4\ndevice: cpu"),
        ("ablation.yaml", "seeds: 3", "seeds: 1"),
    ):
        assert old in (folder / name).read_text()
        (folder / name).write_text((folder / name).read_text().replace(old, new))
    blocks = re.findall(r"^```sh\n(.*?)^```$", (folder / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    commands = [shlex.split(line) for block in blocks for line in block.splitlines()]
    expected = ["build", "train", "sample", "check", "train", "ablate", "ablate", "report"]
    assert [words[1] for words in commands] == expected
    for words in commands:
        done = subprocess.run([sys.executable, "-m", *words], cwd=folder, text=True, capture_output=True)
        assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
    assert (folder / "runs" / "mine" / "sample.txt").is_file()
    assert list((folder / "runs" / "ablation").rglob("*.html"))
