"""Every command that reads a spec reads it as JSON with comments, YAML or TOML. Run folders keep JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gptzoo.cli import main
from gptzoo.spec.strict_json import parse_json

FILES = {
    "model.toml": "context_length = 16\nd_model = 8\nn_layers = 1\nn_heads = 2\nvocab_size = 257\n",
    "run.yaml": """
model: model.toml
corpus: {type: text, path: input.txt, val_fraction: 5e-1}
tokenizer: byte
batch_size: 2
steps: 2
device: cpu
sample: {max_new_tokens: 3}
""",
    "corpus.yaml": "type: text\npath: input.txt\n",
    "ablation.toml": 'base = "run.yaml"\nseeds = 1\nsamples = false\n[axes]\n"model.d_model" = [8, 16]\n',
    "ladder.jsonc": """{
  "base": "run.yaml",  // relative to this file
  "variants": {"pre": {}, "post": {"model.norm": "post_ln"}},
  "rulee": {"type": "depth"},
}""",
    "sampling.yml": "max_new_tokens: 4\nprocessors: [{type: temperature, value: 5e-1}]\n",
    "schema.yaml": "type: integer\n",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GPTZOO_CACHE", str(tmp_path / "cache"))
    (tmp_path / "input.txt").write_text("The cat and a dog slept. " * 40)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def gptzoo(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == code, result.output
    return result


def test_commands_that_show_a_model_read_all_formats(folder: Path) -> None:
    assert json.loads(gptzoo("build", "model.toml", "--json").stdout)["parameters"]["total"] > 0
    assert json.loads(gptzoo("build", "run.yaml", "--json").stdout)["parameters"]["total"] > 0
    changes = json.loads(gptzoo("diff", "model.toml", "--set", "norm=post_ln", "--no-values", "--json").stdout)
    assert changes["spec"]
    gptzoo("draw", "model.toml", "run.yaml", "--out", "a.svg")


@pytest.mark.slow
def test_commands_of_a_run_read_all_formats_and_its_folder_keeps_json(folder: Path) -> None:
    gptzoo("prepare", "corpus.yaml", "--tokenizer", "byte")
    gptzoo("train", "run.yaml", "--out", "runs/a", "--no-plot")
    stored = parse_json((folder / "runs" / "a" / "run.json").read_text(), "run.json")
    assert stored["corpus"]["val_fraction"] == 0.5
    assert {file.suffix for file in (folder / "runs" / "a").rglob("*") if file.is_file()} & {".yaml", ".toml"} == set()
    gptzoo("eval", "runs/a", "--data", "corpus.yaml")
    sample = ("sample", "runs/a", "--prompt", "The", "--spec", "sampling.yml", "--json")
    report = json.loads(gptzoo(*sample).stdout)
    assert report["sampling"]["processors"] == [{"type": "temperature", "value": 0.5}]
    report = json.loads(gptzoo(*sample, "--json-schema", "schema.yaml").stdout)
    assert report["sampling"]["processors"][0]["definition"] == {"type": "integer"}


@pytest.mark.slow
def test_a_plan_is_that_of_the_spec(folder: Path) -> None:
    plan = json.loads(gptzoo("ablate", "ablation.toml", "--dry-run", "--json").stdout)
    assert len(plan["variants"]) == 2


def test_comparisons_read_all_formats(folder: Path) -> None:
    message = gptzoo("compare", "run.yaml", "--set", "steps=2", code=2).stderr
    assert "are the same run" in message
    message = gptzoo("ladder", "ladder.jsonc", "--dry-run", code=2).stderr
    assert "ladder.jsonc:4: $.rulee: no field named 'rulee'; did you mean 'rule'?" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "model.toml"], "model.toml:2: $.d_modle: no field named 'd_modle'; did you mean 'd_model'?"),
        (["train", "run.yaml", "--out", "r"], "model.toml:2: $.d_modle: no field named 'd_modle'"),
        (["ablate", "ablation.toml", "--dry-run"], "model.toml:2: $.d_modle: no field named 'd_modle'"),
        (["prepare", "corpus.yaml"], "corpus.yaml:2: $.paht: 'text' has no option 'paht'; did you mean 'path'?"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_an_error_names_file_line_and_path(folder: Path, arguments: list[str], message: str) -> None:
    (folder / "model.toml").write_text(FILES["model.toml"].replace("d_model", "d_modle"))
    (folder / "corpus.yaml").write_text(FILES["corpus.yaml"].replace("path", "paht"))
    assert message in gptzoo(*arguments, code=2).stderr
