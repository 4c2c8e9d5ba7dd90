"""The shape of the house: imports point down, the public names are these, and starting up is cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import gptzoo

PACKAGE = Path(gptzoo.__file__).parent

# A room may import from rooms with a lower number, and from within itself.
LAYERS = {
    "errors": 0,
    "seeds": 0,
    "atomic": 0,
    "cache": 0,
    "units": 0,
    "forks": 0,
    "component": 1,
    "hooks": 2,
    "registry": 3,
    "reference": 4,
    "components": 5,
    "spec": 6,
    "model": 7,
    "data": 7,
    "checkpoint": 8,
    "interop": 9,
    "sampling": 9,
    "training": 10,
    "difference": 11,
    "inspection": 11,
    "scaffold": 11,
    "handbook": 11,
    "serving": 11,
    "ablation": 11,
    "testing": 12,
    "builtin": 12,
    "cli": 13,
    "__main__": 14,
}


def imports(file: Path) -> list[str]:
    """The gptzoo modules that a file imports when it runs, at the top or inside functions, as dotted names."""
    tree = ast.parse(file.read_text())
    for_types_only = {
        id(node)
        for guard in ast.walk(tree)
        if isinstance(guard, ast.If) and ast.unparse(guard.test) == "TYPE_CHECKING"
        for node in ast.walk(guard)
    }
    found = []
    for node in ast.walk(tree):
        if id(node) in for_types_only:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "gptzoo":
            found += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] == "gptzoo"]
    return found


def rooms() -> list[tuple[str, Path]]:
    files = [file for file in PACKAGE.rglob("*.py") if file != PACKAGE / "__init__.py"]
    return [(file.relative_to(PACKAGE).with_suffix("").parts[0], file) for file in files]


def test_every_room_has_its_place() -> None:
    assert {room for room, _ in rooms()} == set(LAYERS)


@pytest.mark.parametrize(("room", "file"), rooms(), ids=lambda value: str(value).removeprefix(str(PACKAGE)))
def test_imports_point_down(room: str, file: Path) -> None:
    for name in imports(file):
        target = [*name.split("."), ""][1]
        if target in LAYERS and target != room:
            assert LAYERS[target] < LAYERS[room], f"{room} imports {name}"


def test_the_core_names_no_component() -> None:
    """Assembly, training and sampling must not know `rope` from `alibi`."""
    names = {
        name for kind in ("attention", "positional", "norm", "norm_layer", "ffn") for name in gptzoo.registered(kind)
    }
    for room in ("model", "training", "sampling", "checkpoint", "registry.py", "reference.py"):
        for file in [PACKAGE / room] if room.endswith(".py") else (PACKAGE / room).rglob("*.py"):
            strings = {node.value for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Constant)}
            assert not strings & (names - {"none"}), file


def test_the_public_names_are_these() -> None:
    expected = """
        AblationSpec Activation Architecture Attention AuxiliaryOutputs Batching ColumnParallel Component Config Corpus
        DataError Decoder Dims Diverged Executor FeedForward FolderError ForwardContext GptzooError Importer Inherited
        InputError Interrupted Job LogitsProcessor ModelSpec MultiHeadAttention Norm NormLayer Optimizer Part PerLayer
        PluginError Positional PrefillOutput Reference RemoteJob Replicated Rng RowParallel RunSpec RunView SamplingSpec
        Schedule Settings Sharded SpecError Stack State StopRun Sublayer SublayerOutput TensorPlan TokenSequence
        TokenStore Tokenizer Tracker VersionWarning Weight ablate build by_default evaluate extend generate hookimpl
        inherited initialise load load_ablation_spec load_model_spec load_plugin load_run_spec new_cache
        prepare_for_inference read_outcome registered run_remote_job stream train variants
    """
    assert gptzoo.__all__ == sorted(expected.split())


def test_type_checkers_see_the_names_where_they_come_from() -> None:
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text())
    homes = {alias.name: node.module for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert homes == gptzoo._HOME


@pytest.mark.parametrize("name", gptzoo.__all__)
def test_every_public_name_can_be_imported_and_has_a_docstring(name: str) -> None:
    value = getattr(gptzoo, name)
    is_alias = typing.get_origin(value) is not None  # an alias such as State cannot carry a docstring
    assert value.__doc__ or is_alias


@pytest.mark.parametrize(
    "command", ["import gptzoo", "import gptzoo.cli; gptzoo.cli.main(['--help'], standalone_mode=False)"]
)
def test_starting_up_imports_no_torch(command: str) -> None:
    code = f"{command}; import sys; print('HEAVY', sorted(sys.modules.keys() & {{'torch', 'numpy', 'matplotlib'}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"
