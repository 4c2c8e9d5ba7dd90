"""docs/gpt/: the quoted code is that of the package, and every experiment runs and writes the figure of its page."""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path

import pytest

from gptzoo import registry

ROOT = Path(__file__).parents[1]
PAGES = sorted(page for page in (ROOT / "docs" / "gpt").glob("*.md") if page.name != "index.md")
QUOTE = re.compile(r"^<!-- source: (\S+) (\S+) -->\n```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def source_of(file: str, name: str) -> str:
    """Return the source of a function or method, without the indentation of its class."""
    text = (ROOT / file).read_text(encoding="utf-8")
    nodes: list[ast.stmt] = ast.parse(text).body
    for part in name.split("."):
        (node,) = (node for node in nodes if getattr(node, "name", None) == part)
        nodes = getattr(node, "body", [])
    lines = text.splitlines()[node.lineno - 1 : node.end_lineno]
    return textwrap.dedent("\n".join(lines)) + "\n"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_every_section_and_quotes_the_source(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Formula", "Shapes", "Our code", "Experiment"]
    assert "\n$$\n" in text
    quotes = QUOTE.findall(text)
    assert quotes
    for file, name, quoted in quotes:
        assert quoted == source_of(file, name), f"{page.name}: {name} has changed in {file}; copy it to the page"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_experiment_of_a_page_runs_and_writes_its_figure(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    text = page.read_text(encoding="utf-8")
    (experiment,) = re.findall(r"^```python\n(.*?)^```$", QUOTE.sub("", text), re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    matplotlib.use("svg")
    with registry.use(registry.discover(selection="none")):
        exec(experiment, {"__name__": page.stem})
    figures = re.findall(r"!\[[^\]]+\]\((\w+\.svg)\)", text)
    assert [file.name for file in tmp_path.iterdir()] == figures
    for name in figures:
        committed = page.parent / name
        assert committed.stat().st_size < 200_000
        drawn = [file.read_text(encoding="utf-8").count("<path") for file in (committed, tmp_path / name)]
        assert drawn[0] == drawn[1], f"run the experiment of {page.name} in {page.parent} again"
