"""The imports of each command: large modules that it does not need would make it slow to start."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
COMPILER = {"torch._dynamo", "torch._inductor"}
SYMBOLIC_SHAPES = {"sympy", "torch.fx.experimental.symbolic_shapes"}
LIBRARIES = {"transformers", "scipy", "matplotlib", "hypothesis", "pyarrow", "datasets", "sklearn", "pandas", "IPython"}
SCRIPT = """
import json, sys
from gptzoo.cli import main
try:
    main(sys.argv[2:])
except SystemExit as end:
    code = end.code
json.dump({"code": code, "modules": sorted(sys.modules)}, open(sys.argv[1], "w"))
"""
RUN: dict[str, Any] = {
    "model": {"context_length": 16, "d_model": 16, "n_layers": 1, "n_heads": 2},
    "corpus": {"type": "text", "path": "text.txt", "val_fraction": 0.2},
    "tokenizer": "byte",
    "batch_size": 2,
    "steps": 1,
}


def imported_by(folder: Path, *arguments: str) -> set[str]:
    """Run a command in a process of its own, and return the modules that it has imported."""
    report = folder / "modules.json"
    command = [sys.executable, "-c", SCRIPT, str(report), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert report.is_file(), done.stderr
    found = json.loads(report.read_text())
    assert found["code"] == 0, done.stderr
    return set(found["modules"])


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run spec and its text."""
    folder = tmp_path_factory.mktemp("imports")
    (folder / "text.txt").write_text("To be, or not to be, that is the question. " * 40)
    (folder / "run.json").write_text(json.dumps(RUN))
    return folder


@pytest.mark.parametrize(
    "arguments", [("--help",), pytest.param(("train", "--help"), marks=pytest.mark.slow)], ids=" ".join
)
def test_help_imports_neither_torch_nor_pydantic(arguments: tuple[str, ...], tmp_path: Path) -> None:
    heavy = {"torch", "numpy", "pydantic", "pluggy", "rich", "asyncio", *COMPILER, *SYMBOLIC_SHAPES, *LIBRARIES}
    assert sorted(imported_by(tmp_path, *arguments) & heavy) == []


OPTIMIZERS = ("adamw", "muon", "lion", "sgd", "adafactor")


@pytest.mark.parametrize(
    "optimizer", [name if name == "adamw" else pytest.param(name, marks=pytest.mark.slow) for name in OPTIMIZERS]
)
def test_training_imports_no_compiler(optimizer: str, run_folder: Path) -> None:
    options = ("--set", f"optimizer={optimizer}", "--out", optimizer, "--no-plot")
    trained = imported_by(run_folder, "train", "run.json", *options)
    assert "torch" in trained
    assert sorted(trained & {*COMPILER, *SYMBOLIC_SHAPES, *LIBRARIES}) == []


@pytest.mark.slow
def test_sampling_imports_no_compiler(run_folder: Path) -> None:
    imported_by(run_folder, "train", "run.json", "--out", "sampled", "--no-plot")
    sampled = imported_by(run_folder, "sample", "sampled", "--max-new-tokens", "2")
    assert sorted(sampled & {*COMPILER, *SYMBOLIC_SHAPES, *LIBRARIES}) == []


CONFIGS = sorted(file.stem for file in (ROOT / "configs" / "models").glob("*.json"))


@pytest.mark.parametrize(
    "config", [name if name == "gpt2" else pytest.param(name, marks=pytest.mark.slow) for name in CONFIGS]
)
def test_building_imports_no_compiler(config: str, tmp_path: Path) -> None:
    imported = imported_by(tmp_path, "build", str(ROOT / "configs" / "models" / f"{config}.json"))
    assert sorted(imported & {*COMPILER, *LIBRARIES}) == []
