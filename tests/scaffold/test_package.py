"""A package created by `gptzoo new-plugin` works: it is discovered, trains, and passes its own tests."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scaffold.environment import Environment

import gptzoo
from gptzoo import registry
from gptzoo.errors import FolderError, InputError
from gptzoo.scaffold import package as package_module
from gptzoo.scaffold.kinds import TEMPLATES
from gptzoo.scaffold.package import Package, new_package

ROOT = Path(__file__).parents[2]
LONGEST_NAME = "a-name-that-is-as-long-as-names-may-be-41"[:40]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Package], registry.Registry]]:
    """Return a function that makes a package look installed, by its pyproject.toml, and discovers it."""
    before = set(sys.modules)

    def install(package: Package) -> registry.Registry:
        project = tomllib.loads((package.folder / "pyproject.toml").read_text())["project"]
        (entry_point,) = project["entry-points"]["gptzoo"].items()
        info = package.folder / "src" / f"{package.module}-{project['version']}.dist-info"
        info.mkdir()
        (info / "entry_points.txt").write_text("[gptzoo]\n{} = {}\n".format(*entry_point))
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        )
        monkeypatch.syspath_prepend(str(package.folder / "src"))
        importlib.invalidate_caches()
        return registry.discover(entry_point[0])

    yield install
    for module in set(sys.modules) - before:
        if module.startswith("gptzoo_"):
            del sys.modules[module]


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTZOO_CACHE", str(tmp_path / "cache"))


def configs_of(value: Any) -> Iterator[Any]:
    """Yield every component config in a spec."""
    if isinstance(value, gptzoo.Config):
        yield value
    if isinstance(value, tuple):
        for item in value:
            yield from configs_of(item)
    if hasattr(type(value), "model_fields"):
        for name in type(value).model_fields:
            yield from configs_of(getattr(value, name))


@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_new_package_is_discovered_and_its_run_trains(
    kind: str, tmp_path: Path, installed: Callable[[Package], registry.Registry]
) -> None:
    package = new_package("new-idea", kind, tmp_path)
    assert package.folder == tmp_path / "gptzoo-new-idea"
    assert all((package.folder / file).is_file() for file in package.files)
    known = installed(package)
    assert not known.refused
    component = known.get(kind, "new_idea")
    assert str(known.origin(component)) == "gptzoo-new-idea 0.1.0"
    assert component.__name__ == package.class_name
    with registry.use(known):
        run = package.folder / "configs" / "run.json"
        used = {type(config).component for config in configs_of(gptzoo.load_run_spec(run))}
        assert (component in used) == (kind != "logits_processor")
        small = {**json.loads(run.read_text()), "steps": 2, "batch_size": 4, "sample": {"max_new_tokens": 0}}
        if small["corpus"] != "new_idea":
            small["corpus"] = {"type": "stories", "n_stories": 40}
        small["model"] = str(run.parent / "model.json")
        result = gptzoo.train(small, tmp_path / "run", quiet=True)
        assert result.steps == 2
        model = gptzoo.load(tmp_path / "run").model
        if kind == "logits_processor":
            sampling = gptzoo.SamplingSpec.model_validate({"max_new_tokens": 3, **_filled(TEMPLATES[kind].sampling)})
            assert len(gptzoo.generate(model, [[65, 66]], sampling)[0]) == 3


def _filled(fields: Any) -> Any:
    return json.loads(json.dumps(fields).replace("new_part", "new_idea"))


@pytest.mark.parametrize("kind", TEMPLATES)
@pytest.mark.parametrize("name", ["x", LONGEST_NAME])
def test_the_files_are_formatted_and_pass_ruff_with_any_name(kind: str, name: str, tmp_path: Path) -> None:
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent)) or shutil.which("ruff")
    if ruff is None:
        pytest.skip("ruff is not installed")
    folder = new_package(name, kind, tmp_path).folder
    for command in (
        ["check"],
        ["format", "--check"],
        ["check", "--config", str(ROOT / "pyproject.toml"), "--ignore=I001"],
    ):
        done = subprocess.run([ruff, *command, "--no-cache", str(folder)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", TEMPLATES)
def test_all_marks_are_replaced_and_only_public_names_are_used(kind: str, tmp_path: Path) -> None:
    package = new_package("idea", kind, tmp_path)
    for file in package.files:
        text = (package.folder / file).read_text()
        assert not re.search(r"new_part|new-part|NewPart|\{(SUMMARY|KIND|SPEC|FIELDS)\}", text), file
    source = (package.folder / "src" / package.module / "__init__.py").read_text()
    assert set(re.findall(r"\bgptzoo\.(\w+)", source)) <= set(gptzoo.__all__)
    assert "import gptzoo\n" in source
    assert not re.search(r"from gptzoo[. ]", source)


@pytest.mark.slow
def test_the_files_pass_mypy_strict(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    sources = []
    for kind in TEMPLATES:
        package = new_package(f"idea-{kind.replace('_', '-')}", kind, tmp_path)
        sources += [package.folder / "src" / package.module]
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--follow-imports=silent"]
    done = subprocess.run([*command, *map(str, sources)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", TEMPLATES)
def test_an_installed_package_passes_its_own_tests(kind: str, tmp_path: Path) -> None:
    """Install the package into a fresh environment and run the commands that `new-plugin` prints."""
    package = new_package("new-idea", kind, tmp_path / "work")
    environment = Environment(tmp_path / "venv")
    install = "pip install --quiet --no-deps -e ."
    only_it = {"GPTZOO_PLUGINS": "new-idea"}  # other installed packages may be broken
    done = environment.run(f"{install} && pytest -q", package.folder, **only_it)
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d+ passed", done.stdout)
    train = "gptzoo train configs/run.json --out runs/first --set steps=3 --set corpus.n_stories=40"
    if kind == "corpus":
        train = train.replace(" --set corpus.n_stories=40", "")
    done = environment.run(train, package.folder, **only_it)
    assert done.returncode == 0, done.stdout
    assert "3 steps" in done.stdout


# ---------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("name", "kind", "class_name"),
    [
        ("soft-cap", "attention", "SoftCapAttention"),
        ("linear-attention", "attention", "LinearAttention"),
        ("attention", "attention", "Attention"),
        ("tensor", "activation", "TensorActivation"),  # not Tensor, which the module imports
        ("v2-x", "norm_layer", "V2XNormLayer"),
    ],
)
def test_a_class_is_named_after_the_package_and_its_kind(name: str, kind: str, class_name: str) -> None:
    assert Package(name, kind, Path(name)).class_name == class_name


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Soft_Cap", "Try 'soft-cap'"),
        ("softCap", "Try 'soft-cap'"),
        ("gptzoo-soft", "Try 'soft'"),
        ("soft--cap", "Try 'soft-cap'"),
        ("-soft", "Try 'soft'"),
        ("3d", "Try 'd'"),
        ("../soft", "Try 'soft'"),
        ("a" * 41, "Try 'aaa"),
        ("", "without the prefix gptzoo-."),
        ("é", "without the prefix gptzoo-."),
        ("soft\n", "Try 'soft'"),
    ],
)
def test_an_invalid_name_is_refused_with_a_suggestion(name: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        new_package(name, "ffn", tmp_path)
    assert hint in str(error.value)
    assert not any(tmp_path.iterdir())


def test_the_name_of_a_registered_component_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"attention 'sdpa' is already registered by gptzoo \S+\. Choose"):
        new_package("sdpa", "attention", tmp_path)
    with registry.use(registry.discover("none")):
        assert new_package("sdpa", "ffn", tmp_path).type == "sdpa"  # names are per kind


def test_the_name_of_an_installed_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "gptzoo_theirs-1.2.3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gptzoo-theirs\nVersion: 1.2.3\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match=r"gptzoo-theirs 1\.2\.3 is already installed"):
        new_package("theirs", "ffn", tmp_path)


# ---------------------------------------------------------------------- all files or none


@pytest.mark.parametrize("path_type", ["folder", "file", "link"])
def test_an_existing_path_is_not_changed(path_type: str, tmp_path: Path) -> None:
    existing = tmp_path / "gptzoo-idea"
    if path_type == "folder":
        existing.mkdir()
    elif path_type == "file":
        existing.write_text("mine")
    else:
        existing.symlink_to(tmp_path / "nowhere")
    with pytest.raises(FolderError, match="already exists"):
        new_package("idea", "ffn", tmp_path)
    assert list(tmp_path.iterdir()) == [existing]


def test_no_file_is_left_if_one_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = package_module._contents
    monkeypatch.setattr(package_module, "_contents", lambda package: {**contents(package), "README.md/x": ""})
    with pytest.raises(FolderError, match="cannot write"):
        new_package("idea", "ffn", tmp_path)
    assert not any(tmp_path.iterdir())
