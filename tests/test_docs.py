"""The docs say what is so: their examples run, their tables are complete."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import gptzoo
from gptzoo import hooks, registry
from gptzoo.errors import GptzooError
from gptzoo.spec.schema import ablation_schema

ROOT = Path(__file__).parent.parent


def blocks(file: str, language: str) -> list[str]:
    """The fenced code blocks of one language in a page."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / file).read_text(encoding="utf-8"), re.DOTALL)


def test_the_spec_in_the_readme_builds() -> None:
    spec, _ = map(json.loads, blocks("README.md", "json"))
    assert sum(p.numel() for p in gptzoo.build(spec, device="meta").parameters()) > 0


def test_the_ablation_in_the_readme_is_one(tmp_path: Path) -> None:
    _, design = map(json.loads, blocks("README.md", "json"))
    run = {"model": json.loads(blocks("README.md", "json")[0]), "steps": 10}
    (tmp_path / "run.json").write_text(json.dumps(run))
    assert len(gptzoo.variants(tmp_path / "run.json", design["axes"])) == 6
    jsonschema.validate(design, ablation_schema())


def test_the_component_in_the_readme_loads_and_builds(tmp_path: Path) -> None:
    source = next(block for block in blocks("README.md", "python") if "hookimpl" in block)
    (tmp_path / "mish.py").write_text(source)
    with registry.use(registry.discover(selection="none")):
        gptzoo.load_plugin(tmp_path / "mish.py")
        spec, _ = map(json.loads, blocks("README.md", "json"))
        model = gptzoo.build({**spec, "activation": "mish"}, device="meta")
        assert type(model.blocks[0].ffn.activation).__name__ == "Mish"


def test_the_errors_in_the_readme_are_those_that_are_given() -> None:
    shown = next(block for block in blocks("README.md", "text") if "droput" in block)
    tiny = ROOT / "configs" / "models" / "tiny.json"
    with registry.use(registry.discover(selection="none")):
        for override, line in zip(["attention.droput=1", "positional=roep"], shown.splitlines(), strict=True):
            with pytest.raises(GptzooError) as error:
                gptzoo.load_model_spec(tiny, [override])
            assert str(error.value).startswith(line)  # what is disabled may follow


def test_the_commands_of_the_readme_name_files_that_exist() -> None:
    commands = "\n".join(blocks("README.md", "sh"))
    for file in re.findall(r"configs/\S+\.json", commands):
        assert (ROOT / file).is_file()


def test_every_kind_is_in_the_table_of_kinds() -> None:
    page = (ROOT / "docs" / "components.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert documented == set(registry.discover(selection="none").kinds)


def test_every_hook_is_documented() -> None:
    for name, hook in vars(hooks).items():
        if name.startswith("gptzoo_"):
            assert hook.__doc__
            assert name in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_hooks_in_the_page_about_watching_are_called(tmp_path: Path) -> None:
    (source,) = blocks("docs/watching.md", "python")
    (tmp_path / "news.py").write_text(source)
    run = {
        "model": {"context_length": 16, "d_model": 16, "n_layers": 1, "n_heads": 2},
        "corpus": {"type": "stories", "n_stories": 20},
        "steps": 2,
        "batch_size": 2,
        "device": "cpu",
    }
    with registry.use(registry.discover(selection="none")):
        gptzoo.load_plugin(tmp_path / "news.py")
        gptzoo.train(run, tmp_path / "run", quiet=True)
    assert re.findall(r"step (\d) of 2: \d\.\d{3} nats", (tmp_path / "run" / "news.txt").read_text()) == ["0", "2"]


def test_every_hook_and_tracker_is_in_the_tables_of_the_page_about_watching() -> None:
    page = (ROOT / "docs" / "watching.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `(\w+)` \|", page[page.index("## Trackers") :], re.MULTILINE))
    moments = {name for name in vars(hooks) if name.startswith("gptzoo_")} - {"gptzoo_components"}
    assert listed == moments | set(registry.discover(selection="none").of_kind("tracker"))


def test_every_exit_code_is_documented() -> None:
    page = (ROOT / "docs" / "specs.md").read_text(encoding="utf-8")
    section = page[page.index("## Exit codes") :]
    documented = {int(code) for code in re.findall(r"^\| (\d) \|", section, re.MULTILINE)}

    def codes(error: Any) -> set[int]:
        return {error.exit_code}.union(*map(codes, error.__subclasses__()))

    assert documented == {0} | codes(GptzooError)


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").glob("*.md"))]
)
def test_links_and_files_that_a_page_names_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert ((ROOT / page).parent / target).exists(), target
