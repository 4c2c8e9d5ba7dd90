"""The command `gptzoo build`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from support import small

import gptzoo as zoo
from gptzoo.cli import main

CONFIGS = Path(__file__).parents[2] / "configs"
TINY = CONFIGS / "models" / "tiny.json"
PLUGIN = """
import gptzoo

class Squared(gptzoo.Activation):
    '''max(0, x)^2.'''
    name = "squared"

    def forward(self, x):
        return x.relu().square()

class Parallel(gptzoo.Norm):
    '''Attention and ffn side by side.'''
    name = "parallel"

    def forward(self, x, sublayers):
        normed = self.layers["attention"](x)
        return x + sublayers["attention"](normed) + sublayers["ffn"](normed)

@gptzoo.hookimpl
def gptzoo_components():
    return [Squared, Parallel]
"""


def gptzoo(*arguments: str | Path | int) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def as_data(*arguments: str | Path | int) -> Any:
    result = gptzoo("build", *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    (tmp_path / "spec.json").write_text(json.dumps({"name": "mine", **small()}))
    return tmp_path / "spec.json"


# ---------------------------------------------------------------------- the card


@pytest.mark.slow
@pytest.mark.parametrize("file", sorted((CONFIGS / "models").glob("*.json")), ids=lambda file: file.stem)
def test_the_card_of_every_model_config_fits_80_columns(file: Path) -> None:
    result = gptzoo("build", file)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert file.stem in lines[0]
    assert max(map(len, lines)) <= 80
    assert f"{as_data(file)['parameters']['total']:,} parameters" in lines[1]


def operations_in(card: str) -> list[str]:
    """Return the first word of each operation in the block, in order; ⊕ for a sum."""
    lines = card.splitlines()
    start, end = (next(i for i, line in enumerate(lines) if line.startswith(corner)) for corner in (" ╭", " ╰"))
    marks = [line.removeprefix(" │").replace("│", " ").split() for line in lines[start + 1 : end]]
    return [mark[1] if mark[0] == "├" else "⊕" for mark in marks if mark[0] in ("├", "╰─⊕")]


@pytest.mark.parametrize(
    ("norm", "expected"),
    [
        ("pre_ln", ["norm", "attention", "⊕", "norm", "ffn", "⊕"]),
        ("post_ln", ["attention", "⊕", "norm", "ffn", "⊕", "norm"]),
    ],
)
def test_the_card_shows_the_position_of_the_norms(norm: str, expected: list[str]) -> None:
    assert operations_in(gptzoo("build", TINY, "--set", f"norm={norm}").stdout) == expected


def test_the_card_groups_equal_layers() -> None:
    card = gptzoo("build", CONFIGS / "models" / "local-global.json").stdout
    assert "layers 0-2, 4-6: window 64" in card
    assert "layers 3, 7: no window" in card
    assert "8 × block" in card
    assert card.count("rope") == 1


def test_the_card_shows_the_effect_of_the_positional() -> None:
    assert "⊕ positional  learned" in gptzoo("build", TINY).stdout
    rotary = gptzoo("build", TINY, "--set", 'positional=["rope","none"]').stdout
    assert "layers 0, 2: rope, theta 10000: rotates queries and keys" in rotary
    assert "⊕ positional" not in rotary


def test_the_card_names_the_plugin_of_each_component(tmp_path: Path, fresh_registry: Any, spec: Path) -> None:
    (tmp_path / "theirs.py").write_text(PLUGIN)
    plugin = ("--plugin", tmp_path / "theirs.py", "--set", "activation=squared", "--set", "norm=parallel")
    card = gptzoo("build", spec, *plugin).stdout
    assert "activation squared [theirs]" in card
    assert f"file {tmp_path / 'theirs.py'} (parallel, squared)" in card
    assert "╰─┼─┬ ffn" in card


def test_the_card_says_which_costs_are_unknown(tmp_path: Path, fresh_registry: Any, spec: Path) -> None:
    (tmp_path / "theirs.py").write_text(PLUGIN.replace("x.relu().square()", "x[x > 0].sum() * x"))
    result = gptzoo("build", spec, "--plugin", tmp_path / "theirs.py", "--set", "activation=squared")
    assert result.exit_code == 0, result.output
    assert "not counted" in result.stdout
    assert "FLOPs per token" not in result.stdout
    assert "KV cache" in result.stdout


# ---------------------------------------------------------------------- JSON


def test_json_has_the_content_of_the_card(spec: Path) -> None:
    data = as_data(spec, "--batch-size", 3, "--sequence-length", 8)
    assert data["name"] == "mine"
    assert data["spec"] == zoo.load_model_spec(spec).resolved()
    assert data["parameters"]["total"] == sum(p.numel() for p in zoo.build(spec).parameters())
    assert sum(data["parameters"]["by_part"].values()) == data["parameters"]["total"]
    assert data["flops_per_token"]["training"] == 3 * data["flops_per_token"]["forward"]
    assert data["kv_cache_bytes_per_token"] == 2 * 2 * 32 * 4
    assert data["state_bytes"] > 16 * data["kv_cache_bytes_per_token"]
    memory = data["training_memory"]
    assert (memory["batch_size"], memory["sequence_length"], memory["precision"]) == (3, 8, "fp32")
    assert memory["total_bytes"] > memory["weight_bytes"] + memory["optimizer_bytes"] + memory["activation_bytes"]
    assert [row["name"] for row in data["stack"] if "name" in row] == ["embed", "positionals", "exit", "head"]
    (blocks,) = (row for row in data["stack"] if "operations" in row)
    assert [operation["name"] for operation in blocks["operations"]][:3] == ["norm_layer", "attention", "add"]
    assert blocks["sublayers"]["ffn"][0]["layers"] == [0, 1]


def test_json_lists_every_component_with_path_and_origin(spec: Path) -> None:
    data = as_data(spec, "--set", "attention.qk_norm=rmsnorm")
    parts = {part["path"]: part for part in data["components"]}
    assert parts["$.attention"]["options"]["qk_norm"] == {"type": "rmsnorm", "eps": 1e-05, "weight": True}
    assert parts["$.attention.qk_norm"]["kind"] == "norm_layer"
    assert parts["$.ffn.activation"]["type"] == "gelu"
    assert {part["origin"] for part in parts.values()} == {f"gptzoo {zoo.__version__}"}


def test_dtype_halves_the_cache(spec: Path) -> None:
    full, half = (as_data(spec, "--dtype", dtype)["kv_cache_bytes_per_token"] for dtype in ("fp32", "bf16"))
    assert full == 2 * half


# ---------------------------------------------------------------------- initial weights


def test_out_writes_a_model_folder_with_the_weights_of_the_seed(spec: Path, tmp_path: Path) -> None:
    result = gptzoo("build", spec, "--set", "n_layers=1", "--out", tmp_path / "made", "--seed", 5)
    assert result.exit_code == 0, result.output
    assert str(tmp_path / "made") in result.stderr
    loaded = zoo.load(tmp_path / "made").model
    expected = zoo.build({**small(n_layers=1), "name": "mine"}, seed=5)
    assert loaded.spec == expected.spec
    torch.testing.assert_close(loaded.state_dict(), expected.state_dict(), rtol=0, atol=0)
    assert as_data(tmp_path / "made")["spec"]["n_layers"] == 1


def test_a_folder_that_is_not_empty_is_rejected_and_unchanged(spec: Path, tmp_path: Path) -> None:
    result = gptzoo("build", spec, "--out", tmp_path)
    assert result.exit_code == 2
    assert str(tmp_path) in result.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["spec.json"]


def test_a_run_provides_model_vocabulary_size_and_batch_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTZOO_CACHE", str(tmp_path / "cache"))
    run = {"model": small(vocab_size=None), "corpus": "stories", "tokenizer": "byte", "steps": 1, "batch_size": 6}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(json.dumps(run))
    for source in (tmp_path / "run" / "run.json", tmp_path / "run"):
        data = as_data(source, "--set", "micro_batch_size=2", "--set", "model.n_layers=3")
        assert (data["spec"]["vocab_size"], data["spec"]["n_layers"]) == (257, 3)
        assert data["training_memory"]["batch_size"] == 2


# ---------------------------------------------------------------------- invalid input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.json"], "nowhere.json: $: cannot be read"),
        ([CONFIGS], "neither a model folder"),
        ([TINY, "--set", "attention.windw=3"], "did you mean 'window'?"),
        ([TINY, "--set", "positional=roep"], "did you mean 'rope'?"),
        ([TINY, "--sequence-length", "513"], "sequence length 513 exceeds the model's maximum of 512"),
        ([TINY, "--dtype", "int8"], "int8"),
        ([TINY, "--plugin", "nowhere.py"], "no such file"),
    ],
)
def test_the_error_for_invalid_input_explains_it(arguments: list[str | Path], message: str) -> None:
    result = gptzoo("build", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_a_model_of_175_billion_parameters_needs_no_memory_for_its_weights() -> None:
    measure = """
import resource, sys
from gptzoo.cli import main
main(["build", sys.argv[1], "--json"], standalone_mode=False)
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(used if sys.platform == "linux" else used // 1024, file=sys.stderr)
"""
    command = [sys.executable, "-c", measure, str(CONFIGS / "models" / "gpt3.json")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    data = json.loads(done.stdout)
    assert data["parameters"]["total"] == 174_604_259_328
    assert data["flops_per_token"]["forward"] == 2 * (96 * 12 * 12288**2 + 50257 * 12288) + 4 * 2048 * 12288 * 96
    *_, used = done.stderr.splitlines()  # after lines about what takes long
    assert int(used) < 2**21  # KiB: enough for torch, also with CUDA, but less than 1/300 of the weights


def test_it_says_which_family_of_transformers_the_model_is_exported_to(spec: Path) -> None:
    assert as_data(spec)["export"] == {"family": "gpt2", "closest": None, "obstacles": []}
    assert "exports as gpt2" in gptzoo("build", spec).stdout


def test_it_says_what_the_closest_family_lacks(tmp_path: Path) -> None:
    attention = {"type": "sdpa", "window": 8, "qk_norm": "rmsnorm"}
    (tmp_path / "spec.json").write_text(json.dumps(small(attention=attention)))
    obstacles = ["attention.window 8", "attention.qk_norm rmsnorm"]
    assert as_data(tmp_path / "spec.json")["export"] == {"family": None, "closest": "gpt2", "obstacles": obstacles}
    text = " ".join(gptzoo("build", tmp_path / "spec.json").stdout.split())
    assert "no native export: attention.window 8 and 1 more (closest: gpt2) try export-hf --remote-code" in text
