"""Configurations by name, such as `@quickstart`: in Python, on the command line, in specs, and from a wheel."""

from __future__ import annotations

import filecmp
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

import gptzoo
from gptzoo.ablation.scaling.ladder_spec import load_ladder_spec
from gptzoo.cli import main
from gptzoo.errors import SpecError
from gptzoo.shipped_specs import shipped_specs

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "configs").glob("*/*.json"))  # those in deeper folders are given by path
NEED_PACKAGES = ("third-party", "optimizers")  # they cannot be read without packages of plugins/


def test_every_configuration_has_a_name_of_its_own() -> None:
    assert len({file.stem for file in FILES}) == len(FILES)
    assert sorted(shipped_specs().values()) == FILES


@pytest.mark.parametrize("file", [file for file in FILES if file.stem not in NEED_PACKAGES], ids=lambda file: file.stem)
def test_a_name_means_the_same_as_the_path(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = {
        "models": gptzoo.load_model_spec,
        "runs": gptzoo.load_run_spec,
        "ablations": gptzoo.load_ablation_spec,
        "ladders": load_ladder_spec,
    }[file.parent.name]
    monkeypatch.chdir(tmp_path)  # relative paths are those of the configuration's folder
    assert load(f"@{file.stem}") == load(Path(f"@{file.stem}")) == load(file)


@pytest.mark.slow
def test_commands_and_functions_take_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert sum(p.numel() for p in gptzoo.build("@gpt2", device="meta").parameters()) == 124_439_808  # of the paper
    for words in (
        ["build", "@gpt2"],
        ["diff", "@tiny", "@llama-tiny"],
        ["draw", "@tiny", "@tiny", "--set", "norm=post_ln", "--out", "norms.svg"],
    ):
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 0, result.output
    assert (tmp_path / "norms.svg").is_file()


def test_a_spec_names_its_model_or_base_in_the_same_way(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_text(json.dumps({"model": "@tiny", "steps": 3}))
    assert gptzoo.load_run_spec(file).model == gptzoo.load_model_spec(ROOT / "configs/models/tiny.json")
    assert gptzoo.load_run_spec("@quickstart", ["model=@gpt2"]).model.d_model == 768
    file.write_text(json.dumps({"base": "@ablation-base", "axes": {"model.norm": ["pre_ln", "post_ln"]}, "seeds": 2}))
    base = gptzoo.load_ablation_spec(file).base
    assert gptzoo.load_run_spec(base) == gptzoo.load_run_spec("@ablation-base")


@pytest.mark.parametrize(
    "words",
    [
        ["build", "@quickstrat"],
        ["train", "@quickstrat", "--out", "runs/x"],
        ["compare", "@quickstrat", "--set", "model.norm=post_ln"],
        ["ablate", "@quickstrat"],
        ["ladder", "@quickstrat"],
        ["draw", "@quickstrat", "--out", "x.svg"],
        ["eject", "@quickstrat", "x.py"],
        ["prepare", "@quickstrat"],
        ["verify-resume", "@quickstrat"],
    ],
    ids=lambda words: words[0],
)
def test_an_unknown_name_is_an_error_with_the_known_ones(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert "@quickstrat: $: no configuration named 'quickstrat'; did you mean '@quickstart'?" in result.stderr
    for file in FILES:
        assert f"@{file.stem}" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_name_in_a_spec_is_located(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"model": "@tinny", "steps": 3}))
    with pytest.raises(SpecError, match=r"mine\.json: \$\.model: no configuration named 'tinny'; did you mean '@tiny'"):
        gptzoo.load_run_spec(file)


def test_a_file_with_such_a_name_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec = json.loads((ROOT / "configs/models/tiny.json").read_text())
    Path("@gpt2").write_text(json.dumps(spec))
    assert gptzoo.load_model_spec("@gpt2").d_model == spec["d_model"] != 768
    Path("folder").mkdir()
    Path("folder/@mine.json").write_text(json.dumps(spec))
    Path("folder/run.json").write_text(json.dumps({"model": "@mine.json", "steps": 3}))
    assert gptzoo.load_run_spec("folder/run.json").model.d_model == spec["d_model"]


@pytest.mark.slow
def test_a_wheel_has_the_configurations(tmp_path: Path) -> None:
    if int(importlib.metadata.version("setuptools").partition(".")[0]) < 77:
        pytest.skip("needs setuptools 77")
    source = tmp_path / "source"
    for folder in ("gptzoo", "configs"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, source)
    build = ["wheel", "--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", str(tmp_path), str(source)]
    subprocess.run([sys.executable, "-m", "pip", *build], check=True)
    (wheel,) = tmp_path.glob("gptzoo-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    installed = tmp_path / "site" / "gptzoo" / "configs"
    names = [str(file.relative_to(ROOT / "configs")) for file in FILES]
    assert filecmp.cmpfiles(ROOT / "configs", installed, names, shallow=False)[1:] == ([], [])
    script = """
import gptzoo
from gptzoo.cli import main
base = gptzoo.load_ablation_spec("@positions").base
assert gptzoo.load_run_spec(base) == gptzoo.load_run_spec("@ablation-base")
corpus = gptzoo.load_run_spec(gptzoo.load_ablation_spec("@dropout").base).corpus.build()
assert "Apache License" in next(corpus.documents("train"))
main(["build", "@gpt2"], standalone_mode=False)
print(gptzoo.__file__)
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "COLUMNS": "100"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    assert "124,439,808 parameters" in done.stdout
    assert done.stdout.splitlines()[-1] == str(tmp_path / "site" / "gptzoo" / "__init__.py")
