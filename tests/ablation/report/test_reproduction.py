"""The reproduction section of a report: what it offers, put into an empty folder, gives the same ablation."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import platform
import re
import shlex
import urllib.parse
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from synthetic_outcome import six_variants

import gptzoo
from gptzoo import registry
from gptzoo.ablation.records.outcome import Exclusion
from gptzoo.ablation.report.write import write_report
from gptzoo.checkpoint.plugin_files import PluginFile
from gptzoo.cli import main

PLUGIN = '''"""An activation of a local file."""

import gptzoo


class Doubled(gptzoo.Activation):
    """2 x for positive x, else 0."""

    name = "doubled"

    def forward(self, x):
        return 2 * x.clamp(min=0)


@gptzoo.hookimpl
def gptzoo_components():
    return [Doubled]
'''
BASE: dict[str, Any] = {
    "model": {"context_length": 16, "d_model": 16, "n_layers": 1, "n_heads": 2},
    "corpus": {"type": "text", "path": "my page.txt"},
    "batch_size": 4,
    "steps": 2,
    "sample": {"max_new_tokens": 4},
    "device": "cpu",
}
AXES = {"model.activation": ["gelu", "doubled"], "model.n_heads": [2, 3]}


def gptzoo_command(*arguments: Any, code: int = 0) -> Result:
    with registry.use(registry.discover(selection="none")):  # a process of its own has loaded no plugin files
        result = CliRunner().invoke(main, [*map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished ablation with a component of a local file, and its report."""
    root = tmp_path_factory.mktemp("private")
    (root / "my page.txt").write_text("the quick brown fox jumps over the lazy dog. " * 40)
    (root / "mine.py").write_text(PLUGIN)
    spec = {"name": "doubling", "base": BASE, "axes": AXES, "seeds": 1}
    (root / "ablation.json").write_text(json.dumps(spec))
    gptzoo_command("ablate", root / "ablation.json", "--out", root / "out", "--plugin", root / "mine.py")
    gptzoo_command("report", root / "out")
    return root / "out"


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return (folder / "report" / "report.html").read_text()


def downloads(page: str) -> dict[str, bytes]:
    """Return the contents of the files that the page offers, by name."""
    found = re.findall(r'<a download="([^"]+)" href="data:[^;]+;base64,([^"]+)"', page)
    return {html.unescape(name): base64.b64decode(urllib.parse.unquote(html.unescape(data))) for name, data in found}


@pytest.mark.slow
def test_the_command_and_the_downloads_give_the_same_trials(folder: Path, page: str, tmp_path: Path) -> None:
    files = downloads(page)
    assert files["mine.py"].decode() == PLUGIN
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "my page.txt").write_bytes((folder.parent / "my page.txt").read_bytes())
    command = html.unescape(re.findall(r"<code>(gptzoo ablate [^<]+)</code>", page)[0])
    words = shlex.split(command)
    assert words == ["gptzoo", "ablate", "ablation.json", "--plugin", "mine.py", "--out", "doubling"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        plan = json.loads(gptzoo_command(*words[1:], "--dry-run", "--json").stdout)
    planned = {(variant["name"], variant["n_parameters"]) for variant in plan["variants"]}
    outcome = gptzoo.read_outcome(folder)
    assert planned == {(variant.name, variant.n_parameters) for variant in outcome.variants}
    assert len(planned) == 2


@pytest.mark.slow
def test_the_sources_of_plugin_files_are_kept_with_their_hashes(folder: Path, page: str) -> None:
    digest = hashlib.sha256(PLUGIN.encode()).hexdigest()
    assert digest in page
    runs = [folder, *folder.glob("trials/*")]
    assert len(runs) == 3
    for run in runs:
        assert (run / "plugins" / digest[:12] / "mine.py").read_text() == PLUGIN
    for run in runs[1:]:
        assert json.loads((run / "environment.json").read_text())["plugin_files"] == {"mine.py": digest}


@pytest.mark.slow
def test_kept_plugin_files_are_not_executed_from_there(folder: Path, tmp_path: Path) -> None:
    trial = next(iter(sorted(folder.glob("trials/*doubled*"))))
    refused = gptzoo_command("sample", trial, "--prompt", "the", code=2)
    assert "Load that file with --plugin" in refused.output
    (kept,) = trial.glob("plugins/*/mine.py")
    assert gptzoo_command("sample", trial, "--prompt", "the", "--max-new-tokens", "2", "--plugin", kept)


@pytest.mark.slow
def test_a_changed_copy_is_not_offered_as_the_source(folder: Path) -> None:
    outcome = gptzoo.read_outcome(folder)
    (file,) = outcome.plugin_files
    assert file.read(folder) == PLUGIN.encode()
    kept = folder / file.kept
    kept.write_text(PLUGIN + "import os\n")
    try:
        assert file.read(folder) is None
    finally:
        kept.write_text(PLUGIN)


@pytest.mark.slow
def test_no_file_of_the_report_names_a_folder_or_the_host(folder: Path) -> None:
    private = {str(folder.parent), str(folder.parent.resolve()), str(Path.home()), "/tmp/"}
    files = [file for file in (folder / "report").rglob("*") if file.suffix in (".html", ".csv", ".md", ".tex")]
    assert len(files) > 5
    for file in files:
        texts = [file.read_text()]
        if file.suffix == ".html":
            texts += [content.decode() for content in downloads(texts[0]).values()]
        for text in texts:
            assert not any(place in text for place in private), file
            assert f'"{platform.node()}"' not in text
            assert '"host"' not in text


@pytest.mark.slow
def test_the_report_names_the_combinations_that_were_not_compared(page: str) -> None:
    text = html.unescape(page)
    assert (
        "Not compared: model.activation gelu with model.n_heads 3, model.activation doubled with model.n_heads 3. "
        "Reason: $.model.n_heads: must divide d_model 16, got 3"
    ) in text


@pytest.mark.slow
def test_a_page_has_the_source_and_the_name_of_each_plugin_file_and_nothing_private(tmp_path: Path) -> None:
    outcome = six_variants(n_seeds=2)
    file = PluginFile("my gate.py", hashlib.sha256(PLUGIN.encode()).hexdigest())
    (tmp_path / file.kept).parent.mkdir(parents=True)
    (tmp_path / file.kept).write_text(PLUGIN)
    outcome = replace(
        outcome,
        folder=tmp_path,
        plugin_files=[file],
        spec={**outcome.spec, "base": {"corpus": {"type": "text", "path": "/home/ada/texts/my.txt"}}},
        environment={"torch": "2", "host": "ada-laptop", "plugins": {"gate": "file /home/ada/my gate.py"}},
        exclusions=[Exclusion({"a": "b"}, "refused: /home/ada/other.txt: cannot be read")],
        trials=[replace(trial, warnings=["'/home/ada/a b.txt' is short"]) for trial in outcome.trials],
    )
    page = write_report(outcome, tmp_path / "report").page.read_text()
    assert "gptzoo ablate ablation.json --plugin &#39;my gate.py&#39; --out " in page
    files = downloads(page)
    assert files["my gate.py"].decode() == PLUGIN
    assert json.loads(files["ablation.json"])["base"]["corpus"]["path"] == "my.txt"
    texts = [page, *(content.decode() for content in files.values())]
    assert not any(private in text for text in texts for private in ("/home", "ada-laptop"))
    assert "refused: other.txt: cannot be read" in page


def test_a_changed_plugin_file_is_reported_when_a_run_is_resumed(tmp_path: Path) -> None:
    (tmp_path / "my page.txt").write_text("the quick brown fox jumps over the lazy dog. " * 40)
    run = {**BASE, "model": {**BASE["model"], "activation": "doubled"}}
    (tmp_path / "run.json").write_text(json.dumps(run))
    arguments = ("train", tmp_path / "run.json", "--bare", "--out", tmp_path / "out", "--plugin", tmp_path / "mine.py")
    (tmp_path / "mine.py").write_text(PLUGIN)
    gptzoo_command(*arguments, "--until", "1")
    (tmp_path / "mine.py").write_text(PLUGIN.replace("2 * x", "3 * x"))
    resumed = gptzoo_command(*arguments, "--resume")
    assert "plugin file mine.py has changed since the run started" in resumed.stderr
    assert len(list((tmp_path / "out").glob("plugins/*/mine.py"))) == 2
