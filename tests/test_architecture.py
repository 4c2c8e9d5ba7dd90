"""The structure of the package: import layers, no import cycles, the public names and a fast start."""

from __future__ import annotations

import ast
import graphlib
import itertools
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import gptzoo

PACKAGE = Path(gptzoo.__file__).parent
ROOT_MODULE = "gptzoo"  # its public names are imported lazily, so importing it adds no edge

# A top-level folder or module may import from those with a lower number, and from itself.
LAYERS = {
    "field_words": -1,
    "json_forms": -1,
    "dims": 0,
    "strict_model": 0,
    "errors": 0,
    "terminal": 0,
    "utils": 0,
    "hub": 1,
    "shipped_specs": 1,
    "component": 1,
    "component_hints": 2,
    "hooks": 2,
    "plugin_checks": 3,
    "registry": 4,
    "reference": 5,
    "components": 6,
    "spec": 7,
    "model": 8,
    "data": 8,
    "checkpoint": 9,
    "interop": 10,
    "sampling": 10,
    "training": 11,
    "eject": 10,
    "inspection": 12,
    "scaffold": 12,
    "docgen": 12,
    "harness": 12,
    "publishing": 12,
    "profiling": 12,
    "ablation": 13,
    "serving": 13,
    "builtin": 14,
    "notebook": 14,
    "testing": 14,
    "cli": 15,
    "__main__": 16,
}
MAX_FILES_PER_FOLDER = 15


def module_name(file: Path) -> str:
    return ".".join([ROOT_MODULE, *file.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")


FILES = {module_name(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def imports(module: str) -> set[str]:
    """Return the gptzoo modules that a file imports anywhere: at the top, in functions, and for type checkers."""
    targets: set[str] = set()
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            targets |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            targets |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            targets |= {argument.value for argument in node.args if isinstance(argument, ast.Constant)}
    found = (next((name for name in (t, t.rpartition(".")[0]) if name in FILES), None) for t in targets)
    return {name for name in found if name is not None} - {module, ROOT_MODULE}


IMPORTS = {module: imports(module) for module in FILES}


def layer_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ROOT_MODULE


def find_cycle(graph: Mapping[str, set[str]]) -> list[str]:
    """Return the nodes of a cycle, [] if there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def folder_graph(folder: str) -> dict[str, set[str]]:
    """Return the imports between the folders directly inside `folder`. Its own files may be above or below them."""
    subfolders = {f"{folder}.{file.parent.name}" for file in (PACKAGE.joinpath(*folder.split(".")[1:])).glob("*/*.py")}
    graph: dict[str, set[str]] = {subfolder: set() for subfolder in subfolders}
    for a, b in itertools.permutations(subfolders, 2):
        if any(f"{target}.".startswith(f"{b}.") for m in FILES if f"{m}.".startswith(f"{a}.") for target in IMPORTS[m]):
            graph[a].add(b)
    return graph


def test_every_top_level_folder_and_module_has_a_layer() -> None:
    assert {layer_of(module) for module in FILES} - {ROOT_MODULE} == set(LAYERS)


@pytest.mark.parametrize("module", [module for module in FILES if module != ROOT_MODULE])
def test_imports_point_to_lower_layers(module: str) -> None:
    layer = layer_of(module)
    upward = [t for t in IMPORTS[module] if layer_of(t) != layer and LAYERS[layer_of(t)] >= LAYERS[layer]]
    assert upward == []


def test_no_files_import_each_other_in_a_cycle() -> None:
    assert find_cycle(IMPORTS) == []


@pytest.mark.parametrize("folder", ["ablation", "data", "sampling", "testing", "testing.properties", "training"])
def test_subfolders_import_each_other_in_one_direction(folder: str) -> None:
    assert find_cycle(folder_graph(f"{ROOT_MODULE}.{folder}")) == []


def folders() -> Iterator[Path]:
    yield from {file.parent for file in FILES.values()} - {PACKAGE / "cli"}


def test_no_folder_has_more_than_fifteen_files() -> None:
    n_files = {str(folder): sum(file.parent == folder for file in FILES.values()) for folder in folders()}
    assert {folder: n for folder, n in n_files.items() if n > MAX_FILES_PER_FOLDER} == {}


def test_the_page_of_the_architecture_describes_every_folder() -> None:
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text()
    described = re.findall(r"\*\*`(\w+)/`\*\*", page)
    assert sorted(described) == sorted(file.parent.name for file in PACKAGE.glob("*/__init__.py"))


def test_the_core_names_no_component() -> None:
    """Assembly, training and sampling must not depend on the names of components, such as `rope`."""
    names = {
        name for kind in ("attention", "positional", "norm", "norm_layer", "ffn") for name in gptzoo.registered(kind)
    }
    core = ("model", "training", "sampling", "checkpoint", "registry", "plugin_checks", "reference")
    for module in FILES:
        if layer_of(module) in core:
            tree = ast.parse(FILES[module].read_text())
            strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
            assert not strings & (names - {"none"}), module


def test_the_public_names() -> None:
    expected = """
        AblationSpec Activation Architecture Attention AuxiliaryOutputs Batching ColumnParallel Component Config Corpus
        DataError Decoder Dims Diverged Draws Executor Fans FeedForward FolderError ForwardContext FusedBlocks
        GgufArchitecture GgufMetadata GptzooError GroupedOptimizer IGNORED_TARGET Importer Inherited InputError
        InterleavedLlama Interrupted Job LogitsProcessor MatrixOptimizer ModelSpec MultiHeadAttention NamedParameters
        Norm NormLayer Optimizer Part PathOption PerLayer PluginError Positional PrefillOutput Recommended Reference
        RemoteJob Replicated Rng RopeScaling RotaryPositional RowParallel RunSpec RunView Sample SampleCorpus
        SamplingSpec Schedule SdpaAttention Settings Sharded SpecError Stack State StopRun Sublayer SublayerOutput
        TensorPlan TokenSequence TokenStore Tokenizer Tracker VersionWarning Weight
        ablate build by_default compare draw evaluate export_hf extend fused_attention generate hookimpl inherited
        initialise ladder load load_ablation_spec load_model_spec load_plugin load_run_spec matrix_rows new_cache
        option_error prepare_for_inference profile read_outcome read_rope read_ropes registered rope_parameters
        run_remote_job source_rows stream to_html train variants
    """
    assert gptzoo.__all__ == sorted(expected.split())


def test_the_type_stub_imports_each_public_name_from_its_module() -> None:
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text())
    modules = {
        alias.name: node.module for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert modules == gptzoo._HOME


@pytest.mark.parametrize("name", gptzoo.__all__)
def test_every_public_name_is_available_and_documented(name: str) -> None:
    undocumented = ("IGNORED_TARGET", "Inherited", "PathOption", "Rng", "State", "TensorPlan")  # aliases and a number
    assert name in undocumented or getattr(gptzoo, name).__doc__


@pytest.mark.parametrize(
    "command", ["import gptzoo", "import gptzoo.cli; gptzoo.cli.main(['--help'], standalone_mode=False)"]
)
def test_starting_up_does_not_import_torch(command: str) -> None:
    code = f"{command}; import sys; print('HEAVY', sorted(sys.modules.keys() & {{'torch', 'numpy', 'matplotlib'}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"
