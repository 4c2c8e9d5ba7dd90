"""The documentation: its examples run, its links work, and its tables are complete."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
import torch
import torch.nn.functional as F

import gptzoo
from gptzoo import hooks, registry
from gptzoo.errors import GptzooError
from gptzoo.shipped_specs import spec_path
from gptzoo.spec.schema import ablation_schema

ROOT = Path(__file__).parent.parent


def blocks(file: str, language: str) -> list[str]:
    """Return the fenced code blocks of one language in a page."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / file).read_text(encoding="utf-8"), re.DOTALL)


def test_the_readme_reaches_a_model_of_the_readers_own_text_within_800_words() -> None:
    read, last_command, _ = (ROOT / "README.md").read_text(encoding="utf-8").partition("gptzoo sample runs/mine")
    assert last_command
    assert len(read.split()) < 800


def test_the_spec_in_the_readme_builds() -> None:
    spec, _ = map(json.loads, blocks("README.md", "json"))
    assert sum(p.numel() for p in gptzoo.build(spec, device="meta").parameters()) > 0


def test_the_picture_in_the_readme_is_the_drawing_of_its_spec() -> None:
    with registry.use(registry.discover(selection="none")):
        drawing = gptzoo.draw(json.loads(blocks("README.md", "json")[0]))
    drawn = (ROOT / "docs/tiny-llama.svg").read_text(encoding="utf-8")
    assert drawn == drawing.svg(), "draw the first spec of README.md again: gptzoo draw SPEC --out docs/tiny-llama.svg"


def test_the_ablation_in_the_readme_is_valid(tmp_path: Path) -> None:
    _, design = map(json.loads, blocks("README.md", "json"))
    run = {"model": json.loads(blocks("README.md", "json")[0]), "steps": 10}
    (tmp_path / "run.json").write_text(json.dumps(run))
    assert len(gptzoo.variants(tmp_path / "run.json", design["axes"])) == 6
    assert spec_path(design["base"]).is_file()
    jsonschema.validate(design, ablation_schema())


def test_the_component_in_the_readme_loads_and_builds(tmp_path: Path) -> None:
    source = next(block for block in blocks("README.md", "python") if "hookimpl" in block)
    (tmp_path / "mish.py").write_text(source)
    with registry.use(registry.discover(selection="none")):
        gptzoo.load_plugin(tmp_path / "mish.py")
        spec, _ = map(json.loads, blocks("README.md", "json"))
        model = gptzoo.build({**spec, "activation": "mish"}, device="meta")
        assert type(model.blocks[0].ffn.activation).__name__ == "Mish"


def test_the_errors_in_the_readme_are_the_actual_ones() -> None:
    shown = next(block for block in blocks("README.md", "text") if "droput" in block)
    tiny = ROOT / "configs" / "models" / "tiny.json"
    with registry.use(registry.discover(selection="none")):
        for override, line in zip(["attention.droput=1", "positional=roep"], shown.splitlines(), strict=True):
            with pytest.raises(GptzooError) as error:
                gptzoo.load_model_spec(tiny, [override])
            assert str(error.value).startswith(line)  # what is disabled may follow


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
    assert re.findall(r"step (\d) of 2: \d\.\d{3} nats", (tmp_path / "run" / "losses.txt").read_text()) == ["0", "2"]


def test_every_hook_and_tracker_is_in_the_tables_of_the_page_about_watching() -> None:
    page = (ROOT / "docs" / "watching.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `(\w+)` \|", page[page.index("## Trackers") :], re.MULTILINE))
    moments = {name for name in vars(hooks) if name.startswith("gptzoo_")} - {"gptzoo_components", "gptzoo_left_out"}
    assert listed == moments | set(registry.discover(selection="none").of_kind("tracker"))


def test_every_exit_code_is_documented() -> None:
    page = (ROOT / "docs" / "specs.md").read_text(encoding="utf-8")
    section = page[page.index("## Exit codes") :]
    documented = {int(code) for code in re.findall(r"^\| (\d) \|", section, re.MULTILINE)}

    def codes(error: Any) -> set[int]:
        return {error.exit_code}.union(*map(codes, error.__subclasses__()))

    assert documented == {0} | codes(GptzooError)


PAGES = sorted(
    str(page.relative_to(ROOT))
    for pattern in ("*.md", "docs/**/*.md", "plugins/*/README.md")
    for page in ROOT.glob(pattern)
)


def links(page: str) -> list[tuple[Path, str]]:
    """Return the links of a page into the repository, each as a file and a heading, which may be empty."""
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    found = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'<img src="([^"]+)"', text)
    here = [link.partition("#") for link in found if "://" not in link]
    return [((ROOT / page).parent / target if target else ROOT / page, heading) for target, _, heading in here]


def anchors(page: Path) -> set[str]:
    """Return the headings of a page as anchors of GitHub."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_the_links_of_a_page_exist(page: str) -> None:
    for target, heading in links(page):
        assert target.exists(), target
        assert not heading or heading in anchors(target), f"{target}#{heading}"


def test_every_page_is_listed_in_the_index_of_the_docs_or_of_its_folder() -> None:
    docs = ROOT / "docs"
    indexes = [docs / "README.md", *(page for page in docs.glob("**/index.md") if page.parent != docs)]
    listed = {target.resolve() for index in indexes for target, _ in links(str(index.relative_to(ROOT)))}
    assert {page.resolve() for page in docs.glob("**/*.md")} - listed - {docs / "README.md", docs / "index.md"} == set()


def test_every_example_of_a_loss_shifts_the_targets() -> None:
    """The model does not shift them, so `model(tokens, tokens)` would train it to repeat its input."""
    header = (ROOT / "gptzoo" / "eject" / "layout" / "file.py").read_text(encoding="utf-8")
    texts = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}
    texts |= {"gptzoo": gptzoo.__doc__ or "", "Architecture": gptzoo.Architecture.__doc__ or "", "eject": header}
    calls = {
        name: re.findall(r"model\((tokens[^()\n]*?, (?:tokens|targets)[^()\n]*)\)", t) for name, t in texts.items()
    }
    shown = {name: found for name, found in calls.items() if found}
    assert {"README.md", "docs/ejecting.md", "gptzoo", "Architecture", "eject"} <= shown.keys()
    for name, found in shown.items():
        assert all(call.startswith("tokens[:, :-1], tokens[:, 1:]") for call in found), name


def test_the_python_of_the_readme_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    (source,) = (block for block in blocks("README.md", "python") if "hookimpl" not in block)
    trained: list[Any] = []
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(gptzoo, "train", lambda *arguments: trained.append(arguments), raising=False)
    generated: list[Any] = []

    def load(folder: str) -> SimpleNamespace:
        trained.append(folder)
        return SimpleNamespace(generate=lambda *arguments: generated.append(arguments))

    monkeypatch.setattr(gptzoo, "load", load, raising=False)
    names: dict[str, Any] = {}
    exec(source, names)
    assert generated == [("The Birthday of", {"max_new_tokens": 50})]
    assert names["logits"].shape == (2, 64, 5000)
    logits, targets = names["logits"], names["tokens"][:, 1:]
    torch.testing.assert_close(names["loss"], F.cross_entropy(logits.flatten(0, 1), targets.flatten()))
    assert trained == [("@quickstart", "runs/mine"), "runs/mine"]
