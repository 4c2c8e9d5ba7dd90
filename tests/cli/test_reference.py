"""gptzoo reference, and the generated pages under docs/."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result
from support import admit

import gptzoo
from gptzoo import registry
from gptzoo.cli import SECTIONS, main
from gptzoo.cli.schema import spec_schemas
from gptzoo.docgen.command_page import render_command_pages
from gptzoo.docgen.examples import EXAMPLES
from gptzoo.docgen.fields import describe_fields, resolve
from gptzoo.docgen.gallery import render_gallery
from gptzoo.docgen.interface import (
    component_bases,
    declared_attributes,
    documented_methods,
    intermediate_bases,
    kind_base,
)
from gptzoo.docgen.page import components_of, kinds_with_components, render_kind_page
from gptzoo.docgen.spec_page import render_spec_page
from gptzoo.spec.schema import config_schema

SPECS = spec_schemas()
ROOT = Path(__file__).parents[2]
PAGES_COMMAND = "gptzoo reference --package gptzoo --out docs/reference"
SPECS_COMMAND = "gptzoo reference --specs --out docs/reference/specs"
COMMANDS_COMMAND = "gptzoo reference --commands --out docs/reference/commands"
WRITTEN_BY_HAND = {"index.md", "python.md"}
GALLERY_COMMAND = "gptzoo reference --gallery --out docs"


def reference(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["reference", *map(str, arguments)])


class ConstantBias(gptzoo.Positional):
    """Adds nothing | something (arXiv:1234.56789)."""

    name = "constant_bias"
    paper = "Nobody 2026, Nothing, arXiv:1234.56789, section 2; Somebody 2025, A Book"

    class Config(gptzoo.Positional.Config):
        strength: float
        """Size of the bias."""

    def bias(self, q_pos: Any, k_pos: Any) -> Any:
        return None


class AlwaysFirst(gptzoo.NormLayer):
    """A norm layer that is the first in every list."""

    name = "a"

    def forward(self, x: Any) -> Any:
        return x


class Spice(gptzoo.Component):
    """Base class of the kind `spice`."""

    kind = "spice"
    heat: int = 3  # from 0 to 10
    secret: int = 4  # type: ignore[assignment]

    def grind(self, n: int) -> str:
        """Grind it.

        n: number of grains.
        """
        return "." * n

    def undocumented(self) -> None:
        pass


class Pepper(Spice):
    """Black pepper."""

    name = "pepper"


@pytest.fixture
def third_party(fresh_registry: registry.Registry) -> None:
    admit(ConstantBias, Pepper)


# ---------------------------------------------------------------------- the committed pages


def assert_up_to_date(folder: Path, pages: dict[str, str], command: str) -> None:
    files = {file.name for file in folder.glob("*.md")} - (WRITTEN_BY_HAND - pages.keys())
    assert files == set(pages), f"run {command}"
    for name, text in pages.items():
        assert (folder / name).read_text(encoding="utf-8") == text, f"out of date; run {command}"


def test_the_pages_in_docs_are_up_to_date(fresh_registry: registry.Registry) -> None:
    pages = {f"{kind}.md": render_kind_page(kind) for kind in kinds_with_components()}
    assert_up_to_date(ROOT / "docs" / "reference", pages, PAGES_COMMAND)


def test_the_pages_of_specs_in_docs_are_up_to_date(fresh_registry: registry.Registry) -> None:
    pages = {f"{name}.md": render_spec_page(name, SPECS[name]()) for name in SPECS}
    assert_up_to_date(ROOT / "docs" / "reference" / "specs", pages, SPECS_COMMAND)


def test_the_pages_of_commands_in_docs_are_up_to_date() -> None:
    pages = {f"{name}.md": text for name, text in render_command_pages("gptzoo", SECTIONS).items()}
    assert_up_to_date(ROOT / "docs" / "reference" / "commands", pages, COMMANDS_COMMAND)


def test_the_gallery_in_docs_is_up_to_date() -> None:
    packages = [tomllib.loads(file.read_text())["project"]["name"] for file in ROOT.glob("plugins/*/pyproject.toml")]
    known = registry.discover("")
    installed = {
        known.origin(component).distribution for kind in known.kinds for component in known.of_kind(kind).values()
    }
    if known.refused or installed != {"gptzoo", *packages}:
        pytest.skip("the gallery needs exactly gptzoo and the packages under plugins/ to be installed")
    with registry.use(known):
        page = render_gallery()
    assert (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8") == page, f"out of date; run {GALLERY_COMMAND}"


@pytest.mark.slow
def test_the_pages_of_builtin_components_do_not_depend_on_other_packages(fresh_registry: registry.Registry) -> None:
    builtin = [render_kind_page(kind, "gptzoo") for kind in kinds_with_components("gptzoo")]
    specs = [render_spec_page(name, SPECS[name]()) for name in SPECS]
    assert builtin == [render_kind_page(kind) for kind in kinds_with_components()]
    admit(ConstantBias, Pepper, AlwaysFirst)
    assert builtin == [render_kind_page(kind, "gptzoo") for kind in kinds_with_components("gptzoo")]
    assert specs == [render_spec_page(name, SPECS[name]()) for name in SPECS]


# ---------------------------------------------------------------------- contents of a page


@pytest.mark.parametrize("kind", registry.current().kinds)
def test_a_page_has_every_component_with_every_option(kind: str) -> None:
    text = render_kind_page(kind)
    for name, component in registry.current().of_kind(kind).items():
        section = text.split(f"\n## {name}\n")[1].split("\n## ")[0]
        assert component.__doc__.strip().partition("\n")[0] in re.sub(r"\[(.*?)\]\(.*?\)", r"\1", section)
        options = set(component.Config.model_fields) - {"type"}
        assert set(re.findall(rf"^### {name} `(\w+)`$", section, re.MULTILINE)) == options
        for option in options:
            facts = section.split(f"\n### {name} `{option}`\n")[1].split("\n##")[0]
            for fact in ("- Type: ", "- Range: ", '- Example: `"'):
                assert f"\n{fact}" in facts
            assert re.search(r"^- (Default: |Required$)", facts, re.MULTILINE)


@pytest.mark.parametrize("kind", registry.current().kinds)
def test_the_example_of_every_option_is_valid(kind: str) -> None:
    for name, component in registry.current().of_kind(kind).items():
        fields = describe_fields(config_schema(component.Config), name)
        required = {field.name: field.example for field in fields if field.default == "required"}
        for field in fields:
            config = component.Config.model_validate({"type": name, **required, field.name: field.example})
            assert config.type == name


@cache
def spec_schema(name: str) -> Any:
    return SPECS[name]()


@pytest.mark.parametrize("name", SPECS)
def test_the_example_of_every_field_of_a_spec_is_valid(name: str) -> None:
    definitions = spec_schema(name).get("$defs", {})
    validator = jsonschema.Draft202012Validator({"$defs": definitions})
    for fields, properties in objects_of(spec_schema(name), name, definitions, set()):
        for field in fields:
            errors = validator.evolve(schema={**properties[field.name], "$defs": definitions}).iter_errors(
                field.example
            )
            assert [f"{field.name}: {error.message}" for error in errors] == []


def objects_of(schema: Any, owner: str, definitions: Any, seen: set[str]) -> Iterator[tuple[list[Any], Any]]:
    """Yield the fields of a spec, and of each object in it, with their schemas."""
    fields = describe_fields(schema, owner, definitions)
    yield fields, resolve(schema, definitions)["properties"]
    for field in fields:
        if field.nested is not None and field.nested not in seen:
            seen.add(field.nested)
            yield from objects_of({"$ref": field.nested}, field.name, definitions, seen)


def test_every_listed_example_belongs_to_a_field() -> None:
    used = set()
    for kind in registry.current().kinds:
        for name, component in registry.current().of_kind(kind).items():
            for option in component.Config.model_fields:
                used |= {option, f"{name}.{option}"}
    for name in SPECS:
        schema = spec_schema(name)
        used |= {f"{name}.{field}" for field in schema["properties"]}
        for fields, _ in objects_of(schema, name, schema.get("$defs", {}), set()):
            used |= {field.name for field in fields}
    assert EXAMPLES.keys() <= used


def test_a_field_shows_its_type_range_and_default() -> None:
    fields = {field.name: field for field in describe_fields(spec_schema("run"), "run")}
    shown = {name: (fields[name].type, fields[name].range, fields[name].default) for name in fields}
    assert shown["batch_size"] == ("integer", "> 0", "`32`")
    assert shown["micro_batch_size"] == ("integer or string or null", '> 0; `"auto"`', "`null`")
    assert shown["label_smoothing"] == ("number", "≥ 0, ≤ 0.99", "`0.0`")
    assert shown["trackers"] == ("list of components", "each the components of the kind", "`[]`")
    sdpa = registry.current().get("attention", "sdpa").Config
    window, bias = (field for field in describe_fields(config_schema(sdpa), "") if field.name in ("window", "out_bias"))
    assert (window.type, window.range, window.default) == ("integer or null", "> 0", "`null`")
    assert (bias.type, bias.range, bias.default) == ("boolean", "`true`, `false`", "the model's `bias`")


def test_a_page_describes_the_interface_of_a_component() -> None:
    text = render_kind_page("attention", "gptzoo")
    for expected in (
        "Components derive from `gptzoo.Attention`",
        "def forward(self, x: Tensor, context: ForwardContext, state: State | None = None) -> Tensor | SublayerOutput",
        "| `supports_rollback: bool = False` | True if decoding may continue",
        "Base class `gptzoo.MultiHeadAttention`",
        "### `attend`",
        "- `attention` of a model spec: one, or a list",
        "It supports `bias`, `capture`",
        "| [`qkv_bias`](#naive-qkv_bias) | boolean | the model's `bias` |",
        "### naive `qkv_bias`\n\nLearn a bias in the query, key and value projections.",
    ):
        assert expected in text
    assert "It requires `rotate`." in render_kind_page("positional", "gptzoo")
    assert "`qk_norm` of the attention `naive`, `sdpa`" in render_kind_page("norm_layer", "gptzoo")


def test_declared_attributes_and_documented_methods_are_listed(third_party: None) -> None:
    (pepper,) = components_of("spice", None)
    assert kind_base(pepper) is Spice
    assert [(item.name, item.declaration, item.meaning) for item in declared_attributes([Spice])] == [
        ("heat", "heat: int = 3", "from 0 to 10")
    ]
    assert [(method.name, method.signature) for method in documented_methods([Spice])] == [
        ("grind", "def grind(self, n: int) -> str")
    ]
    assert component_bases(Pepper) == [Pepper, Spice]
    assert intermediate_bases([registry.current().get("attention", "sdpa")]) == [gptzoo.MultiHeadAttention]


def test_the_pages_of_a_package_have_the_interface_of_its_own_kinds_only(third_party: None) -> None:
    assert kinds_with_components("gptzoo-theirs") == ["positional", "spice"]
    positional = render_kind_page("positional", "gptzoo-theirs")
    assert "## constant_bias" in positional
    assert "## Interface" not in positional
    assert "| [`strength`](#constant_bias-strength) | number | required |" in positional
    assert (
        "### constant_bias `strength`\n\nSize of the bias.\n\n- Type: number\n- Range: any\n- Required\n" in positional
    )
    assert "[arXiv:1234.56789](https://arxiv.org/abs/1234.56789)" in positional
    assert "## sdpa" not in positional
    spice = render_kind_page("spice", "gptzoo-theirs")
    assert "- `n`: number of grains." in spice
    assert "secret" not in spice


# ---------------------------------------------------------------------- the gallery


def row_of(text: str, name: str) -> list[str]:
    (line,) = (line for line in text.splitlines() if line.startswith("| ") and f"| `{name}` |" in line)
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_gallery_has_every_part_of_a_model_with_its_costs(third_party: None) -> None:
    text = render_gallery()
    parts = ("architecture", "attention", "positional", "norm", "norm_layer", "ffn", "activation")
    names = {name for kind in parts for name in registry.current().of_kind(kind)}
    assert set(re.findall(r"^\| `\w+` \| `([\w.-]+)` \|", text, re.MULTILINE)) == names
    assert row_of(text, "sdpa")[-2:] == ["0", "1,536 per token"]  # keys and values of 12 heads of width 64
    assert row_of(text, "rope")[4:] == ["rotate", "", f"{-1024 * 768:+,}", ""]  # without the learned table
    assert row_of(text, "glu")[6] == f"{(3 * 768 * 2048 + 2 * 2048 + 768) - (2 * 768 * 3072 + 3072 + 768):+,}"
    assert row_of(text, "rmsnorm")[6] == f"{-3 * 768:+,}"  # no biases
    assert row_of(text, "constant_bias")[2:5] == [
        "gptzoo-theirs",
        "[Nobody 2026](https://arxiv.org/abs/1234.56789); Somebody 2025",
        "bias",
    ]


def test_the_gallery_of_a_package_has_only_its_components(third_party: None) -> None:
    text = render_gallery("gptzoo-theirs")
    assert re.findall(r"^\| `\w+` \| `([\w.-]+)` \|", text, re.MULTILINE) == ["constant_bias"]


def test_a_part_that_does_not_fit_the_default_model_is_in_the_gallery_too(fresh_registry: registry.Registry) -> None:
    class UnmetRequirement(gptzoo.Positional):
        """Requires a feature that no attention supports."""

        name = "unmet_requirement"
        requires = frozenset({"telepathy"})

        def __init_subclass__(cls, **kwargs: Any) -> None: ...

    UnmetRequirement.requires = frozenset({"telepathy"})
    admit(UnmetRequirement)
    assert row_of(render_gallery(), "unmet_requirement")[-2:] == ["–", "–"]


# ---------------------------------------------------------------------- the command


def test_it_prints_one_page_or_all(third_party: None) -> None:
    assert reference("norm").stdout == render_kind_page("norm")
    all_pages = reference("--package", "gptzoo").stdout
    assert all(f"\n# `{kind}`\n" in all_pages for kind in kinds_with_components("gptzoo"))
    assert reference("--gallery", "--package", "gptzoo").stdout == render_gallery("gptzoo")


def test_the_page_of_a_command_has_its_usage_options_and_examples() -> None:
    pages = render_command_pages("gptzoo", SECTIONS)
    train = pages["train"]
    assert "```text\ngptzoo train [OPTIONS] RUN\n```" in train
    assert "gptzoo train @quickstart --out runs/quickstart --resume" in train
    for command in (main.commands["train"], main.commands["sample"]):
        flags = {flag for option in command.params for flag in option.opts if flag.startswith("--")}
        shown = set(re.findall(r"^### `(--[\w-]+)`", pages[str(command.name)], re.MULTILINE))
        assert shown == {option.opts[0] for option in command.params if option.opts[0] in flags}
    assert "## Other options" in pages["sample"]
    assert "(ablate-run.md)" in pages["ablate"]
    assert "score-tasks" not in pages  # hidden
    assert "- Type: one of the names below\n- Range: `fp32`, `bf16`, `int8`\n- Default: `fp32`" in pages["serve"]
    assert reference("--commands").stdout.startswith(pages["init"])


def test_it_writes_files_and_replaces_only_generated_ones(third_party: None, tmp_path: Path) -> None:
    out = tmp_path / "new" / "docs"
    for _ in range(2):
        result = reference("norm", "--out", out)
        assert result.exit_code == 0, result.output
    assert {file.name: file.read_text() for file in out.iterdir()} == {"norm.md": render_kind_page("norm")}
    (out / "gallery.md").write_text("my own")
    result = reference("--gallery", "--out", out)
    assert result.exit_code == 2
    assert "gallery.md: not a generated page" in result.stderr
    assert (out / "gallery.md").read_text() == "my own"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["atention"], "did you mean 'attention'?"),
        (["--package", "gptzoo-their"], "did you mean 'gptzoo-theirs'?"),
        (["ffn", "--package", "gptzoo-theirs"], "no package 'gptzoo-theirs' provides ffn components"),
        (["ffn", "--gallery"], "not several"),
        (["--specs", "--commands"], "not several"),
        (["--specs", "--package", "gptzoo"], "leave it out"),
        (["ffn", "--out", "/dev/null/x"], "cannot write"),
    ],
)
def test_wrong_input_exits_with_2_and_an_error_message(third_party: None, arguments: list[str], message: str) -> None:
    result = reference(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
