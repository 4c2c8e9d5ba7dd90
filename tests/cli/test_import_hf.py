"""`gptzoo import-hf` from the command line: output, exit codes and errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from transformers import GPT2Config, GPT2LMHeadModel

from gptzoo import registry
from gptzoo.cli import main

PLUGIN = """
import gptzoo
from gptzoo.interop.gpt2 import GPT2Importer

class Renamed(GPT2Importer):
    '''GPT-2 under another name, with the byte tokenizer.'''
    name = "gpt2-renamed"

    def tokenizer(self, spec):
        return "byte"

@gptzoo.hookimpl
def gptzoo_components():
    return [Renamed]
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    config = GPT2Config(
        vocab_size=257, n_positions=16, n_embd=8, n_layer=1, n_head=2, bos_token_id=256, eos_token_id=256
    )
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "source")
    return tmp_path / "source"


@pytest.fixture(autouse=True)
def own_registry() -> object:
    with registry.use(registry.discover("none")):
        yield


def edit(source: Path, **change: object) -> None:
    file = source / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))


def test_it_writes_a_model_folder_and_a_summary_to_stderr(source: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["import-hf", str(source), str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert f"gpt2 from {source}: 16 tensors" in result.stderr
    n_parameters = 257 * 8 + 16 * 8 + (8 * 24 + 24) + (8 * 8 + 8) + (8 * 32 + 32) + (32 * 8 + 8) + 3 * 16
    assert f"{n_parameters:,} parameters" in result.stderr
    assert "no tokenizer" in result.stderr
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["model.json", "model.safetensors"]


def test_an_unsupported_setting_is_named_and_nothing_is_written(source: Path, tmp_path: Path) -> None:
    edit(source, add_cross_attention=True)
    result = CliRunner().invoke(main, ["import-hf", str(source), str(tmp_path / "out")])
    assert result.exit_code == 2
    assert result.stderr.startswith("config.json: $.add_cross_attention: a gptzoo spec cannot express true")
    assert "Traceback" not in result.output
    assert [file.name for file in tmp_path.iterdir()] == ["source"]


def test_a_damaged_file_ends_with_exit_code_2(source: Path, tmp_path: Path) -> None:
    (source / "model.safetensors").write_bytes(b"{}")
    result = CliRunner().invoke(main, ["import-hf", str(source), str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "damaged or incomplete" in result.stderr


def test_an_output_folder_that_is_not_empty_ends_with_exit_code_2(source: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["import-hf", str(source), str(source)])
    assert result.exit_code == 2
    assert "not empty" in result.stderr


def test_a_family_from_a_plugin_file_can_be_imported_and_sampled(source: Path, tmp_path: Path) -> None:
    edit(source, model_type="gpt2-renamed")
    without = CliRunner().invoke(main, ["import-hf", str(source), str(tmp_path / "out")])
    assert without.exit_code == 2
    assert "no importer for the model family 'gpt2-renamed'  (known: gpt2, llama)" in without.stderr

    plugin = tmp_path / "renamed.py"
    plugin.write_text(PLUGIN)
    result = CliRunner().invoke(main, ["import-hf", "--plugin", str(plugin), str(source), str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "tokenizer byte, 257 ids" in result.stderr

    sampled = CliRunner().invoke(main, ["sample", str(tmp_path / "out"), "--prompt", "ab", "--max-new-tokens", "3"])
    assert sampled.exit_code == 0, sampled.output
    assert sampled.stdout.startswith("ab")
