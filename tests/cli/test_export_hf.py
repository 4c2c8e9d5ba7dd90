"""`gptzoo export-hf` from the command line: output, exit codes and errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import gptzoo
from gptzoo import registry
from gptzoo.checkpoint.model_folder import save_model
from gptzoo.cli import main

SIZES = {"vocab_size": 257, "context_length": 16, "d_model": 16, "n_layers": 1, "n_heads": 2}


@pytest.fixture(autouse=True)
def own_registry() -> Iterator[None]:
    with registry.use(registry.discover("none")):
        yield


def export(folder: Path, *options: str, **spec: Any) -> Result:
    """Save a model in `folder` and export it to its subfolder `out`."""
    save_model(folder / "model", gptzoo.build(gptzoo.load_model_spec({**SIZES, **spec})))
    return CliRunner().invoke(main, ["export-hf", str(folder / "model"), str(folder / "out"), *options])


def test_it_writes_a_checkpoint_and_a_summary_to_stderr(tmp_path: Path) -> None:
    result = export(tmp_path, "--dtype", "bfloat16", dropout=0.1)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "family    gpt2: 16 tensors in bfloat16" in result.stderr
    assert "note      the model has no tokenizer" in result.stderr
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["model_type"], config["dtype"], config["resid_pdrop"]) == ("gpt2", "bfloat16", 0.1)


def test_json(tmp_path: Path) -> None:
    result = export(tmp_path, "--json", "--max-shard-gb", "0.00000001")
    assert json.loads(result.stdout) == {
        "model": str(tmp_path / "model"),
        "out": str(tmp_path / "out"),
        "family": "gpt2",
        "tensors": 16,
        "dtype": "float32",
        "parameters": 257 * 16 + 16 * 16 + 16 * 48 + 48 + 16 * 16 + 16 + 2 * 16 * 64 + 64 + 16 + 6 * 16,
        "notes": ["the model has no tokenizer, so none is exported"],
    }
    assert len(list((tmp_path / "out").glob("*.safetensors"))) == 16


@pytest.mark.parametrize(
    ("options", "spec", "message"),
    [
        ((), {"norm": "post_ln"}, 'gpt2: $.norm: the spec has "post_ln", gpt2 has "pre_ln"'),
        ((), {"norm": "post_ln"}, "pip install gptzoo-families"),
        ((), {"norm": "post_ln"}, "`gptzoo export-hf --remote-code` writes a model with its own code"),
        (("--family", "gpt2", "--remote-code"), {}, "choose either a family or remote code"),
        (("--family", "llama"), {}, "llama of Hugging Face transformers does not compute this model:\n  llama: $.norm"),
        (("--family", "lama"), {}, "no family 'lama' to export to  (known: gpt2, llama)"),
        (("--checkpoint", "best"), {}, "is a single model, which has no best checkpoint"),
        (("--dtype", "int8"), {}, "'int8' is not one of"),
    ],
)
def test_errors(options: tuple[str, ...], spec: dict[str, Any], message: str, tmp_path: Path) -> None:
    result = export(tmp_path, *options, **spec)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


@pytest.mark.slow
def test_a_model_is_written_with_its_own_code_where_asked(tmp_path: Path) -> None:
    result = export(tmp_path, "--remote-code", "--dtype", "bfloat16")
    assert result.exit_code == 0, result.output
    assert "family    remote code: 16 tensors in bfloat16" in result.stderr
    assert "note      gpt2 of transformers computes this model, too, without remote code" in result.stderr
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["auto_map"]["AutoModelForCausalLM"] == "modeling_gptzoo.GptzooForCausalLM"
    assert (config["dtype"], config["torch_dtype"]) == ("bfloat16", "bfloat16")
    code = {"model.py", "modeling_gptzoo.py"}
    others = {"README.md", "config.json", "generation_config.json", "model.safetensors"}
    assert {file.name for file in (tmp_path / "out").iterdir()} == code | others
