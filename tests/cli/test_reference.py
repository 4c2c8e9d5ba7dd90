"""gptzoo reference, and the pages under docs/ that it made."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support import admit

import gptzoo
from gptzoo import registry
from gptzoo.cli import main
from gptzoo.docgen.contract import attributes, base_of, further_bases, lineage, methods
from gptzoo.docgen.gallery import gallery
from gptzoo.docgen.page import components_of, kinds_of, page

ROOT = Path(__file__).parents[2]
PAGES = "gptzoo reference --package gptzoo --out docs/reference"
GALLERY = "gptzoo reference --gallery --out docs"


def reference(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["reference", *map(str, arguments)])


class Shy(gptzoo.Positional):
    """Counts | nothing (arXiv:1234.56789)."""

    name = "shy"
    paper = "Nobody 2026, Nothing, arXiv:1234.56789, section 2; Somebody 2025, A Book"

    class Config(gptzoo.Positional.Config):
        strength: float
        """How much."""

    def bias(self, q_pos: Any, k_pos: Any) -> Any:
        return None


class Spice(gptzoo.Component):
    """Base of the kind `spice`."""

    kind = "spice"
    heat: int = 3  # of ten
    secret: int = 4  # type: ignore[assignment]

    def grind(self, n: int) -> str:
        """To powder.

        n: how fine.
        """
        return "." * n

    def undocumented(self) -> None:
        pass


class Pepper(Spice):
    """Black."""

    name = "pepper"


@pytest.fixture
def theirs(fresh_registry: registry.Registry) -> None:
    admit(Shy, Pepper)


# ---------------------------------------------------------------------- the committed pages


def test_the_pages_in_docs_are_those_that_the_code_makes(fresh_registry: registry.Registry) -> None:
    folder = ROOT / "docs" / "reference"
    made = {f"{kind}.md": page(kind) for kind in kinds_of()}
    assert {file.name for file in folder.iterdir()} == set(made), f"make them again: {PAGES}"
    for name, text in made.items():
        assert (folder / name).read_text(encoding="utf-8") == text, f"docs/reference/{name} is out of date: {PAGES}"


def test_the_gallery_in_docs_is_the_one_that_the_code_makes() -> None:
    packages = [tomllib.loads(file.read_text())["project"]["name"] for file in ROOT.glob("plugins/*/pyproject.toml")]
    known = registry.discover("")
    here = {known.origin(component).distribution for kind in known.kinds for component in known.of_kind(kind).values()}
    if known.quarantined or here != {"gptzoo", *packages}:
        pytest.skip("the gallery is of gptzoo and every package under plugins/, which are not what is installed here")
    with registry.use(known):
        made = gallery()
    assert (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8") == made, (
        f"docs/gallery.md is out of date: {GALLERY}"
    )


def test_the_pages_of_what_ships_do_not_depend_on_what_else_is_installed(fresh_registry: registry.Registry) -> None:
    alone = [page(kind, "gptzoo") for kind in kinds_of("gptzoo")]
    assert alone == [page(kind) for kind in kinds_of()]
    admit(Shy, Pepper)
    assert alone == [page(kind, "gptzoo") for kind in kinds_of("gptzoo")]


# ---------------------------------------------------------------------- what a page says


@pytest.mark.parametrize("kind", registry.current().kinds)
def test_a_page_has_every_component_with_every_option(kind: str) -> None:
    text = page(kind)
    for name, component in registry.current().of_kind(kind).items():
        section = text.split(f"\n## {name}\n")[1].split("\n## ")[0]
        assert component.__doc__.strip().partition("\n")[0] in re.sub(r"\[(.*?)\]\(.*?\)", r"\1", section)
        options = set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
        assert options == set(component.Config.model_fields) - {"type"}


def test_a_page_says_what_a_component_is_asked() -> None:
    text = page("attention", "gptzoo")
    for words in (
        "It derives from `gptzoo.Attention`",
        "def forward(self, x: Tensor, step: Step, state: State | None = None) -> Tensor | Emit",
        "| `supports_rollback: bool = False` | Decoding may go on",
        "To derive from: `gptzoo.MultiHeadAttention`",
        "### `attend`",
        "- `attention` of a model spec: one, or a list",
        "It honours `bias`, `capture`",
        "| `qkv_bias` | boolean | model's bias | |",
    ):
        assert words in text
    assert "It needs `rotate`." in page("positional", "gptzoo")
    assert "`qk_norm` of the attention `naive`, `sdpa`" in page("norm_layer", "gptzoo")


def test_declared_attributes_and_documented_methods_are_found(theirs: None) -> None:
    (pepper,) = components_of("spice", None)
    assert base_of(pepper) is Spice
    assert [(one.name, one.declaration, one.meaning) for one in attributes([Spice])] == [
        ("heat", "heat: int = 3", "of ten")
    ]
    assert [(one.name, one.signature) for one in methods([Spice])] == [("grind", "def grind(self, n: int) -> str")]
    assert lineage(Pepper) == [Pepper, Spice]
    assert further_bases([registry.current().get("attention", "sdpa")]) == [gptzoo.MultiHeadAttention]


def test_a_package_gets_pages_of_its_own_with_the_contract_of_its_own_kinds(theirs: None) -> None:
    assert kinds_of("gptzoo-theirs") == ["positional", "spice"]
    positional = page("positional", "gptzoo-theirs")
    assert "## shy" in positional
    assert "What a component does" not in positional
    assert "| `strength` | number | required | How much. |" in positional
    assert "[arXiv:1234.56789](https://arxiv.org/abs/1234.56789)" in positional
    assert "## sdpa" not in positional
    spice = page("spice", "gptzoo-theirs")
    assert "- `n`: how fine." in spice
    assert "secret" not in spice


# ---------------------------------------------------------------------- the gallery


def row_of(text: str, name: str) -> list[str]:
    (line,) = (line for line in text.splitlines() if line.startswith("| ") and f"| `{name}` |" in line)
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_gallery_has_every_part_of_models_and_what_it_costs(theirs: None) -> None:
    text = gallery()
    parts = ("architecture", "attention", "positional", "norm", "norm_layer", "ffn", "activation")
    names = {name for kind in parts for name in registry.current().of_kind(kind)}
    assert set(re.findall(r"^\| `\w+` \| `([\w.-]+)` \|", text, re.MULTILINE)) == names
    assert row_of(text, "sdpa")[-2:] == ["0", "1,536 a token"]  # keys and values of 12 heads of 64
    assert row_of(text, "rope")[4:] == ["rotate", "", f"{-1024 * 768:+,}", ""]  # less the learned table
    assert row_of(text, "glu")[6] == f"{(3 * 768 * 2048 + 2 * 2048 + 768) - (2 * 768 * 3072 + 3072 + 768):+,}"
    assert row_of(text, "rmsnorm")[6] == f"{-3 * 768:+,}"  # no biases
    assert row_of(text, "shy")[2:5] == [
        "gptzoo-theirs",
        "[Nobody 2026](https://arxiv.org/abs/1234.56789); Somebody 2025",
        "bias",
    ]


def test_the_gallery_of_a_package_has_that_package_alone(theirs: None) -> None:
    text = gallery("gptzoo-theirs")
    assert re.findall(r"^\| `\w+` \| `([\w.-]+)` \|", text, re.MULTILINE) == ["shy"]


def test_a_part_that_the_default_model_cannot_hold_is_in_the_gallery_too(fresh_registry: registry.Registry) -> None:
    class Picky(gptzoo.Positional):
        """Wants more than there is."""

        name = "picky"
        requires = frozenset({"telepathy"})

        def __init_subclass__(cls, **kwargs: Any) -> None: ...

    Picky.requires = frozenset({"telepathy"})
    admit(Picky)
    assert row_of(gallery(), "picky")[-2:] == ["–", "–"]


# ---------------------------------------------------------------------- the command


def test_it_prints_a_page_or_all(theirs: None) -> None:
    assert reference("norm").stdout == page("norm")
    everything = reference("--package", "gptzoo").stdout
    assert all(f"\n# `{kind}`\n" in everything for kind in kinds_of("gptzoo"))
    assert reference("--gallery", "--package", "gptzoo").stdout == gallery("gptzoo")


def test_it_writes_files_and_replaces_only_what_it_wrote(theirs: None, tmp_path: Path) -> None:
    out = tmp_path / "new" / "docs"
    for _ in range(2):
        result = reference("norm", "--out", out)
        assert result.exit_code == 0, result.output
    assert {file.name: file.read_text() for file in out.iterdir()} == {"norm.md": page("norm")}
    (out / "gallery.md").write_text("my own")
    result = reference("--gallery", "--out", out)
    assert result.exit_code == 2
    assert "gallery.md: is no generated page" in result.stderr
    assert (out / "gallery.md").read_text() == "my own"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["atention"], "did you mean 'attention'?"),
        (["--package", "gptzoo-their"], "did you mean 'gptzoo-theirs'?"),
        (["ffn", "--package", "gptzoo-theirs"], "no package 'gptzoo-theirs' brings ffn components"),
        (["ffn", "--gallery"], "not both"),
        (["ffn", "--out", "/dev/null/x"], "cannot be written"),
    ],
)
def test_wrong_input_is_told_and_leaves_with_2(theirs: None, arguments: list[str], message: str) -> None:
    result = reference(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
