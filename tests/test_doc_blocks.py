"""Every fenced block of the documentation is right: it is executed by a test, or checked here, or marked with a reason.

Commands are parsed by the command line of gptzoo itself, specs are loaded, and Python is in a page that a test follows
or that tests/test_doc_python.py runs. A block that needs CUDA, a cluster or a network has a comment in front of it:
`<!-- not executed: network: it downloads the model -->`. It is still parsed.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from doc_blocks import PAGES, ROOT, Block, blocks, commands, is_valid_marker

import gptzoo
from gptzoo import registry
from gptzoo.cli import main
from gptzoo.errors import GptzooError
from gptzoo.shipped_specs import spec_path
from gptzoo.spec.ablation import AblationSpec
from gptzoo.spec.formats.document import read_document
from gptzoo.spec.model import ModelSpec
from gptzoo.spec.run import RunSpec

# Pages whose Python a test of their own runs.
FOLLOWED = {
    "README.md": "tests/test_docs.py",
    "docs/quickstart.md": "tests/test_quickstart_page.py",
    "docs/look-inside.md": "tests/test_look_inside_page.py",
    "docs/sampling.md": "tests/test_sampling_docs.py",
    "docs/tutorial.md": "tests/test_tutorial.py",
    "docs/watching.md": "tests/test_docs.py",
    **dict.fromkeys(
        (
            "docs/ablations.md",
            "docs/checking.md",
            "docs/compare.md",
            "docs/components.md",
            "docs/ejecting.md",
            "docs/exporting.md",
            "docs/gguf.md",
            "docs/importing.md",
            "docs/inference.md",
            "docs/ladder.md",
            "docs/report.md",
            "docs/scaling.md",
            "docs/serving.md",
            "docs/tasks.md",
            "docs/width-transfer.md",
            "plugins/gptzoo-seq2seq/README.md",
        ),
        "tests/test_doc_python.py",
    ),
    **{page: "tests/test_gpt_pages.py" for page in PAGES if page.startswith("docs/gpt/")},
}
IN_OTHER_FOLDERS = {"docs/tutorial.md"}  # its commands run in a package that the page creates
LANGUAGES = {"sh", "python", "json", "yaml", "toml", "jinja", "text"}
PROGRAMS = {
    "bash", "cat", "cd", "cp", "curl", "echo", "gptzoo", "grep", "hf", "llama-cli", "lm_eval", "mv", "mypy", "pip",
    "pytest", "python", "python3", "ruff", "scontrol", "sphinx-build", "torchrun", "true", ".", ".ci/run",
    ".ci/nightly",
}  # fmt: skip
MODEL = {"vocab_size": 64, "context_length": 1024, "d_model": 64, "n_layers": 4, "n_heads": 4}


def of_language(*languages: str) -> list[Any]:
    found = [block for page in PAGES for block in blocks(page) if block.language in languages]
    return [pytest.param(block, id=block.place) for block in found]


@pytest.fixture(scope="module", autouse=True)
def every_plugin() -> Iterator[registry.Registry]:
    """The components of all packages in plugins/, installed or not."""
    with pytest.MonkeyPatch.context() as patch:
        found = registry.discover(selection="none")
        for package in sorted((ROOT / "plugins").iterdir()):
            patch.syspath_prepend(package / "src")
            project = tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))["project"]
            for name, module in project["entry-points"]["gptzoo"].items():
                origin = registry.Origin(name, project["name"], project["version"])
                found.admit_or_refuse(lambda module=module: importlib.import_module(module), origin)
        with registry.use(found):
            yield found


@pytest.mark.parametrize("page", PAGES)
def test_every_block_has_a_known_language_and_every_marker_a_reason(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    found = blocks(page)
    assert len(re.findall(r"^ *```", text, re.MULTILINE)) == 2 * len(found)
    assert len(re.findall(r"<!-- *not executed", text)) == sum(block.marker is not None for block in found)
    for block in found:
        assert block.language in LANGUAGES, block.place
        assert block.marker is None or is_valid_marker(block.marker), block.place
        if block.language == "text":
            assert not re.search(r"^\$ ", block.text, re.MULTILINE), f"{block.place}: commands are blocks of `sh`"


@pytest.mark.parametrize("page", [page for page in PAGES if any(block.language == "sh" for block in blocks(page))])
def test_the_shell_blocks_of_a_page_are_valid(page: str) -> None:
    scripts = [block for block in blocks(page) if block.language == "sh"]
    for block in scripts:
        checked = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True)
        assert checked.returncode == 0, f"{block.place}: {checked.stderr}"
        for words in commands(block.text):
            try:
                check_command(words, page)
            except (AssertionError, click.UsageError, GptzooError) as error:
                reason = error.format_message() if isinstance(error, click.ClickException) else error
                pytest.fail(f"{block.place}: {' '.join(words)}: {reason}", pytrace=False)


def check_command(words: list[str], page: str) -> None:
    """Raise an error unless a command exists with its options, and so do the files of this repository that it names."""
    assert words[0] in PROGRAMS, f"unknown program {words[0]!r}"
    for word in words:
        if re.match(r"@\w", word) or "=@" in word:
            assert spec_path(word[word.index("@") :]).is_file(), word
        if page not in IN_OTHER_FOLDERS and re.match(r"(configs|plugins|benchmarks|docs)/\S+\.\w+$", word):
            assert (ROOT / word).is_file(), f"there is no {word}"
    if words[0] == "gptzoo":
        check_gptzoo(words[1:], loads=page not in IN_OTHER_FOLDERS)
    elif words[0] in ("python", "python3") and words[1] == "-m":
        assert importlib.util.find_spec(words[2]) is not None, f"there is no module {words[2]}"
    elif words[0] in ("python", "bash") and not words[1].startswith("-"):
        written = any(words[1] in block.text.partition("\n")[0] for block in blocks(page))
        assert written or (ROOT / words[1]).is_file(), f"there is no {words[1]}"
    elif words[:2] == ["pip", "install"]:
        check_install(words[2:])


def check_gptzoo(words: list[str], *, loads: bool) -> None:
    """Parse a command line as gptzoo does, except that no plugin is loaded. `loads`: also load its spec."""
    command: Any = main
    name = ""
    while isinstance(command, click.Group) and words and words[0] in command.commands:
        name, *words = words
        command = command.commands[name]
    if isinstance(command, click.Group) and "run" in command.commands and words:
        command = command.commands["run"]
    assert not isinstance(command, click.Group) or words == ["--help"], f"no command {words[:1]}"
    if "--help" in words:
        return
    with pytest.MonkeyPatch.context() as patch:
        for parameter in command.params:
            patch.setattr(parameter, "callback", None)  # it would load the file of --plugin
        context = command.make_context(name, list(words))
    spec, overrides = context.params.get("spec") or context.params.get("run"), context.params.get("overrides") or ()
    if loads and name in ("build", "train", "profile") and str(spec).startswith(("@", "configs/", "plugins/")):
        file = spec_path(str(spec)) if str(spec).startswith("@") else ROOT / str(spec)
        is_run = "steps" in json.loads(file.read_text(encoding="utf-8"))
        known = [override for override in overrides if "input.txt" not in override and not override.endswith("=mish")]
        (gptzoo.load_run_spec if is_run else gptzoo.load_model_spec)(file, known)


def check_install(words: list[str]) -> None:
    """Raise AssertionError unless the packages of this repository and the extras of gptzoo exist."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for word in words:
        if word.startswith("./plugins/") and not word.endswith("1"):  # else a variable
            assert (ROOT / word / "pyproject.toml").is_file(), f"there is no {word}"
        for extra in re.findall(r"^(?:\.|gptzoo)\[([\w,-]+)\]$", word):
            assert set(extra.split(",")) <= extras.keys(), f"gptzoo has no extra {extra}"


@pytest.mark.parametrize("block", of_language("json", "yaml", "toml"))
def test_a_spec_on_a_page_is_valid(block: Block, tmp_path: Path, every_plugin: registry.Registry) -> None:
    if block.language == "yaml" and "apiVersion:" in block.text:
        assert block.marker is not None
        return
    is_fragment = block.language == "json" and not block.text.lstrip().startswith(("{", "["))
    file = tmp_path / f"spec.{block.language}"
    file.write_text(f"{{{block.text}}}" if is_fragment else block.text, encoding="utf-8")
    try:
        load_any_spec(file)
    except GptzooError as error:
        if any(
            refused.origin.distribution == f"gptzoo-{block.page.split('/')[1][7:]}" for refused in every_plugin.refused
        ):
            pytest.skip(f"a package that this page needs is not installed: {every_plugin.refused}")
        pytest.fail(f"{block.place}: {error}", pytrace=False)


def load_any_spec(file: Path) -> None:
    """Load a spec, or the part of one with small values for the rest. Its fields decide which kind of spec it is."""
    fields, _ = read_document(file)
    run = {
        "model": {"context_length": 1024, "d_model": 64, "n_layers": 4, "n_heads": 4},
        "corpus": "stories",
        "steps": 10,
    }
    if "model" in fields:
        fields["model"] = {**run["model"], **(fields["model"] if isinstance(fields["model"], dict) else {})}
    if fields.keys() <= ModelSpec.model_fields.keys():
        gptzoo.load_model_spec({**MODEL, **fields})
    elif fields.keys() <= RunSpec.model_fields.keys():
        gptzoo.load_run_spec({**run, **fields})
    elif fields.keys() <= AblationSpec.model_fields.keys():
        base = {"base": "@ablation-base", "name": "page", "axes": {"model.norm": ["pre_ln", "post_ln"]}}
        given = {name: value for name, value in fields.items() if name != "base" or str(value).startswith("@")}
        gptzoo.load_ablation_spec({**base, **given})
    else:
        gptzoo.SamplingSpec.model_validate(fields)


@pytest.mark.parametrize("block", of_language("python"))
def test_the_python_of_a_page_parses_and_a_test_runs_it(block: Block) -> None:
    source = block.text if not block.text.startswith(" ") else f"class _:\n{block.text}"
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "gptzoo":
            assert hasattr(gptzoo, node.attr), f"{block.place}: there is no gptzoo.{node.attr}"
    if block.marker is None:
        test = FOLLOWED.get(block.page)
        assert test is not None, f"{block.place}: no test runs it"
        folder, name = block.page.rpartition("/")[::2]
        text = (ROOT / test).read_text(encoding="utf-8")
        assert name in text or f'"{folder.rpartition("/")[2]}"' in text, f"{test} does not read {block.page}"
