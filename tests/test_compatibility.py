"""Runs, checkpoints and names of the last commit before the rewrite of names and folders stay valid.

The old code is taken from the history of this repository, runs in processes of its own, and nothing of it is committed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import gptzoo

OLD_COMMIT = "f53c89c4d0dd573ef8f283f56a31c2badba66537"
ROOT = Path(__file__).parents[1]
TIMINGS = ("seconds", "tokens_per_second", "mfu", "memory")
REDEFINED = ("val/bits_per_byte",)  # the old code also counted separators as text; see tests/training/evaluation

pytestmark = pytest.mark.slow

RUN: dict[str, Any] = {
    "model": {
        "context_length": 32,
        "d_model": 32,
        "n_layers": 2,
        "n_heads": 4,
        "dropout": 0.1,
    },
    "corpus": {"type": "stories", "n_stories": 40},
    "tokenizer": "byte",
    "batch_size": 4,
    "micro_batch_size": 2,
    "steps": 12,
    "eval": {"every": 4},
    "checkpoint": {"every": 4},
    "seed": 3,
}
RUNS: dict[str, dict[str, Any]] = {
    "gpt2-like": {**RUN, "optimizer": {"type": "adamw", "lr": 0.01}},
    "llama-like": {
        **RUN,
        "model": {
            **RUN["model"],
            "attention": {"type": "sdpa", "n_kv_heads": 2, "window": 16, "qk_norm": "rmsnorm"},
            "positional": "rope",
            "norm": {"type": "pre_ln", "layer": "rmsnorm"},
            "ffn": "glu",
            "activation": "silu",
            "bias": False,
        },
        "tokenizer": "char",
        "optimizer": {"type": "muon", "lr": 0.01},
        "schedule": {"type": "wsd", "warmup_steps": 3},
        "ema_decay": 0.9,
        "label_smoothing": 0.1,
        "z_loss": 1e-3,
    },
    "original-transformer": {
        **RUN,
        "model": {**RUN["model"], "attention": ["naive", "sdpa"], "positional": "sinusoidal", "norm": "post_ln"},
        "batching": "packed",
        "optimizer": {"type": "lion", "lr": 0.001},
        "schedule": "linear",
    },
}


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as it was at `OLD_COMMIT`."""
    folder = tmp_path_factory.mktemp("old")
    archive = folder / "old.tar"
    made = subprocess.run(
        ["git", "-C", str(ROOT), "archive", "-o", str(archive), OLD_COMMIT, "gptzoo"], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"needs the history of the repository back to {OLD_COMMIT[:7]}: {made.stderr.strip()}")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder


def run_python(package: Path, *arguments: str) -> str:
    """Run `python ARGUMENTS` with the `gptzoo` that is in the folder `package`; returns stdout."""
    environment = {**os.environ, "PYTHONPATH": str(package), "GPTZOO_PLUGINS": "none", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=package)
    assert done.returncode == 0, done.stderr
    return done.stdout


def command(package: Path, *arguments: str | Path) -> str:
    return run_python(package, "-m", "gptzoo", *map(str, arguments))


def metrics(run: Path) -> list[dict[str, Any]]:
    """The metrics of a run without what a clock measured, and without those that have another definition now."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if not key.endswith((*TIMINGS, *REDEFINED))} for row in rows]


def assert_same_bits(file: Path, other: Path) -> None:
    tensors, others = load_file(file), load_file(other)
    assert tensors.keys() == others.keys()
    for name, tensor in tensors.items():
        assert tensor.equal(others[name]), name


@pytest.mark.parametrize("name", RUNS)
def test_a_run_of_the_old_code_resumes_to_the_bits_that_the_old_code_ends_with(
    old: Path, name: str, tmp_path: Path
) -> None:
    spec = tmp_path / "run.json"
    spec.write_text(json.dumps(RUNS[name]))
    command(old, "train", spec, "--out", tmp_path / "whole", "--bare")
    command(old, "train", spec, "--out", tmp_path / "resumed", "--bare", "--until", "7")
    command(ROOT, "train", spec, "--out", tmp_path / "resumed", "--bare", "--resume")
    spec.write_text(json.dumps(with_old_meaning(RUNS[name])))
    command(ROOT, "train", spec, "--out", tmp_path / "new", "--bare")
    for run in (tmp_path / "resumed", tmp_path / "new"):
        assert metrics(run) == metrics(tmp_path / "whole")
        ours, theirs = (folder / "checkpoints" / "step-00000012" for folder in (run, tmp_path / "whole"))
        assert {file.name for file in ours.iterdir()} == {file.name for file in theirs.iterdir()}
        for file in theirs.glob("*.safetensors"):
            assert_same_bits(ours / file.name, file)
        assert json.loads((ours / "state.json").read_text()) == json.loads((theirs / "state.json").read_text())
        ours, theirs = (without_versions(folder / "run.json") for folder in (run, tmp_path / "whole"))
        assert not list(missing_fields(ours, theirs))


def with_old_meaning(spec: dict[str, Any]) -> dict[str, Any]:
    """A run spec with the options by which a new run is the same as with the old code."""
    optimizer = spec["optimizer"]
    return {
        **spec,
        "optimizer": {**optimizer, **({"fused_matrices": "together"} if optimizer["type"] == "muon" else {})},
    }


def without_versions(file: Path) -> dict[str, Any]:
    """A run.json without the versions of the components' options, which grow as options are added."""
    spec = json.loads(file.read_text())
    for record in spec["$components"]:
        del record["config_version"]
    return spec


@pytest.mark.parametrize("name", RUNS)
def test_a_model_of_the_old_code_loads_and_generates_the_same_tokens(old: Path, name: str, tmp_path: Path) -> None:
    spec = tmp_path / "run.json"
    spec.write_text(json.dumps(RUNS[name]))
    command(old, "train", spec, "--out", tmp_path / "run", "--bare", "--until", "4")
    arguments = [
        "sample",
        tmp_path / "run",
        "--prompt",
        "The",
        "--max-new-tokens",
        "12",
        "--num-samples",
        "2",
        "--json",
    ]
    ours, theirs = (json.loads(command(package, *arguments)) for package in (ROOT, old))
    assert not list(missing_fields(without_times(ours), without_times(theirs)))
    assert [sample["text"] for sample in ours["samples"]] == [sample["text"] for sample in theirs["samples"]]
    assert gptzoo.load(tmp_path / "run").spec.n_layers == 2


def without_times(value: Any) -> Any:
    """JSON without the entries that a clock measured."""
    if isinstance(value, list):
        return [without_times(item) for item in value]
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if "second" not in key}
    return value


@pytest.mark.parametrize("kind", ["model", "run", "ablation", "sampling"])
def test_specs_have_the_fields_that_they_had(old: Path, kind: str) -> None:
    ours, theirs = (json.loads(command(package, "schema", kind)) for package in (ROOT, old))
    assert not list(missing_fields(without_texts(ours), without_texts(theirs)))


def missing_fields(ours: Any, theirs: Any, path: str = "$", definitions: Any = None) -> Iterator[str]:
    """Yield what a schema no longer has. It may have more fields, and bounds on the values of a number."""
    if definitions is None and isinstance(ours, dict):
        definitions = ours.get("$defs", {})
    if isinstance(theirs, dict) and isinstance(ours, dict):
        if "oneOf" in ours and "anyOf" in theirs:
            ours = {**ours, "anyOf": with_one_enum(ours["oneOf"])}
        if "$ref" in ours and "$ref" not in theirs:  # was written in place
            ours = definitions[ours["$ref"].rpartition("/")[2]]
        for key, value in theirs.items():
            if key in ours:
                yield from missing_fields(ours[key], value, f"{path}.{key}", definitions)
            elif not key.lower().endswith("minimum") and not key.lower().endswith("maximum"):
                yield f"{path}.{key}"
    elif isinstance(theirs, list) and isinstance(ours, list):
        for index, value in enumerate(theirs):
            if not any(not list(missing_fields(item, value, definitions=definitions)) for item in ours):
                yield f"{path}[{index}]"
    elif ours != theirs:
        yield path


def with_one_enum(choices: list[Any]) -> list[Any]:
    """The choices of a schema, with all constants in one enum as the old code wrote them."""
    return [{"enum": [choice["const"] for choice in choices if "const" in choice]}, *choices]


def without_texts(schema: Any) -> Any:
    """A JSON schema without its titles and descriptions."""
    if isinstance(schema, list):
        return [without_texts(item) for item in schema]
    if isinstance(schema, dict):
        return {
            key: without_texts(value)
            for key, value in schema.items()
            if not (key in ("title", "description") and isinstance(value, str))
        }
    return schema


OPTIONS = """
import json, click, gptzoo.cli

def signatures(command, path):
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    n_arguments = len(command.params) - len(options)  # whose names are never typed
    names = sorted(name for option in options for name in (*option.opts, *option.secondary_opts))
    yield path, [*(f"argument {index}" for index in range(n_arguments)), *names]
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from signatures(command.get_command(context, name), f"{path} {name}")

print(json.dumps(dict(signatures(gptzoo.cli.main, "gptzoo"))))
"""


def test_commands_have_the_options_that_they_had(old: Path) -> None:
    ours, theirs = (json.loads(run_python(package, "-c", OPTIONS)) for package in (ROOT, old))
    for name, options in theirs.items():
        assert set(options) <= set(ours[name]), name
