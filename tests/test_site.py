"""The site: its navigation, links and Python reference. `.ci/run` builds all of it with warnings as errors."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

import gptzoo

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def load(file: str) -> ModuleType:
    """Import a Python file of docs/, which is not a package."""
    spec = importlib.util.spec_from_file_location(Path(file).stem, DOCS / file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check_links = load("check_links.py")


def make_site(folder: Path, **pages: str) -> Path:
    for name, body in pages.items():
        (folder / f"{name}.html").write_text(f"<html><body>{body}</body></html>", encoding="utf-8")
    return folder


def test_broken_links_and_anchors_are_found(tmp_path: Path) -> None:
    site = make_site(
        tmp_path,
        index='<a href="other.html#there">1</a><a href="other.html#absent">2</a><a href="absent.html">3</a>'
        '<img src="absent.png"><a href="#here">4</a><p id="here"></p><a href="https://example.org/x">5</a>',
        other='<h2 id="there">x</h2>',
    )
    assert list(check_links.broken_links(site)) == [
        "index.html: absent.html: no such file",
        "index.html: absent.png: no such file",
        "index.html: other.html#absent: no such anchor",
    ]


def test_what_a_page_loads_from_elsewhere_is_found(tmp_path: Path) -> None:
    site = make_site(tmp_path, index='<script src="https://cdn.example/x.js"></script><a href="https://x.org">ok</a>')
    assert list(check_links.loaded_from_elsewhere(site)) == ["index.html: loads https://cdn.example/x.js"]


def test_every_public_name_is_in_the_python_reference() -> None:
    page = (DOCS / "reference" / "python.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\.\. auto\w+:: gptzoo\.(\w+)", page, re.MULTILINE)
    listed += re.findall(r"^\| `gptzoo\.(\w+)", page, re.MULTILINE)
    assert sorted(listed) == gptzoo.__all__


def test_the_site_follows_the_lists_of_the_docs_and_has_no_dead_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sphinx", reason="needs gptzoo[docs]")
    pages = load("_sphinx/repository_pages.py")
    assert pages._toctree("- [A `b`](x/a.md): what\n- [elsewhere](../c.py)\ntext [no](d.md)\n") == (
        "```{toctree}\n:hidden:\n\nA b <x/a>\n```"
    )
    text = "[r](../README.md#zoo) [d](README.md) [s](specs.md#exit) [c](../configs) [w](https://a.b)\n```\n[r](../x)\n```\n"
    page = DOCS / "training.md"
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    assert pages._rewrite_links(text, page) == (
        "[r](index.md#zoo) [d](index.md) [s](specs.md#exit) c [w](https://a.b)\n```\n[r](../x)\n```\n"
    )
    monkeypatch.setenv("GITHUB_REPOSITORY", "ada/gptzoo")
    assert "[c](https://github.com/ada/gptzoo/tree/main/configs)" in pages._rewrite_links(text, page)
    assert pages._rewrite_links("![x](docs/report.png) [t](docs/reference/ffn.md)", ROOT / "README.md") == (
        "![x](report.png) [t](reference/ffn.md)"
    )
