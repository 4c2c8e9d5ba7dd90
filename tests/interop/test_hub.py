"""Import from the Hugging Face Hub: what is downloaded, what is not, and errors that say what to do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from hub_server import HubServer
from transformers import GPT2Config, GPT2LMHeadModel

import gptzoo
from gptzoo.cli import main
from gptzoo.errors import HubError
from gptzoo.hub.client import is_repository_name
from gptzoo.hub.repository import HubFile
from gptzoo.interop.hub import select_files

constants = pytest.importorskip("huggingface_hub.constants")


@pytest.fixture
def theirs() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": 257, "n_positions": 16, "n_embd": 8, "n_layer": 2, "n_head": 2}
    return GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=256, eos_token_id=256)).eval()


def save(model: GPT2LMHeadModel, folder: Path, **options: Any) -> Path:
    model.save_pretrained(folder, **options)
    (folder / "modeling_gpt2.py").write_text("raise SystemExit('code of the checkpoint was executed')\n")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.safetensors").write_bytes(b"other weights")
    return folder


def import_hf(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["import-hf", *map(str, arguments)])


@pytest.mark.parametrize("options", [{}, {"max_shard_size": "4KB"}], ids=["one file", "shards"])
def test_a_model_on_the_hub_is_imported(
    options: dict[str, Any], theirs: GPT2LMHeadModel, hub: HubServer, tmp_path: Path
) -> None:
    commit = hub.add_folder("org/tiny-gpt2", save(theirs, tmp_path / "source", **options))
    result = import_hf("org/tiny-gpt2", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert f"download  org/tiny-gpt2 at {commit}: " in result.stderr
    ours = gptzoo.load(tmp_path / "out")
    ids = torch.arange(12)[None]
    with torch.no_grad():
        assert torch.allclose(ours.model(ids)[0], theirs(ids).logits, atol=1e-5)
    assert ours.spec.name == "tiny-gpt2"


def test_neither_code_nor_pickles_are_downloaded(theirs: GPT2LMHeadModel, hub: HubServer, tmp_path: Path) -> None:
    hub.add_folder("org/tiny-gpt2", save(theirs, tmp_path / "source"))
    assert import_hf("org/tiny-gpt2", tmp_path / "out").exit_code == 0
    resolved = {request.rpartition("/")[2] for request in hub.requests if "/resolve/" in request}
    assert resolved == {"config.json", "generation_config.json", "model.safetensors"}


def test_a_revision_can_be_chosen(theirs: GPT2LMHeadModel, hub: HubServer, tmp_path: Path) -> None:
    first = hub.add_folder("org/tiny-gpt2", save(theirs, tmp_path / "source"))
    hub.add("org/tiny-gpt2", {"config.json": "{}"})
    assert import_hf("org/tiny-gpt2", tmp_path / "newest").exit_code == 2
    assert import_hf("org/tiny-gpt2", tmp_path / "first", "--revision", first).exit_code == 0


def test_a_download_is_imported_again_without_a_network(
    theirs: GPT2LMHeadModel, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub.add_folder("org/tiny-gpt2", save(theirs, tmp_path / "source"))
    assert import_hf("org/tiny-gpt2", tmp_path / "a", "--revision", commit).exit_code == 0
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    result = import_hf("org/tiny-gpt2", tmp_path / "b", "--revision", commit)
    assert result.exit_code == 0, result.output


def test_a_folder_comes_before_a_name_on_the_hub(
    theirs: GPT2LMHeadModel, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(theirs, tmp_path / "org" / "tiny-gpt2")
    monkeypatch.chdir(tmp_path)
    assert import_hf("org/tiny-gpt2", tmp_path / "out").exit_code == 0
    assert hub.requests == []
    result = import_hf("org/tiny-gpt2", tmp_path / "out2", "--revision", "main")
    assert result.exit_code == 2
    assert "--revision is for models on the Hugging Face Hub" in result.output


# ---------------------------------------------------------------------- errors


def test_without_a_network_the_command_says_what_to_do(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    result = import_hf("org/tiny-gpt2", tmp_path / "out")
    assert result.exit_code == 2
    assert "org/tiny-gpt2: HF_HUB_OFFLINE is set" in result.output
    assert "`hf download org/tiny-gpt2 --local-dir FOLDER`, and import that folder" in result.output


@pytest.mark.slow
def test_the_environment_variables_of_the_hub_are_used(theirs: GPT2LMHeadModel, hub: HubServer, tmp_path: Path) -> None:
    hub.add_folder("org/tiny-gpt2", save(theirs, tmp_path / "source"))

    def run(out: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0", **variables}
        command = [sys.executable, "-m", "gptzoo", "import-hf", "org/tiny-gpt2", str(out)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    offline = run(tmp_path / "a", HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="1")
    assert (offline.returncode, offline.stdout) == (2, "")
    assert "HF_HUB_OFFLINE is set" in offline.stderr
    assert hub.requests == []
    unreachable = run(tmp_path / "a", HF_ENDPOINT="http://127.0.0.1:9")
    assert unreachable.returncode == 2
    assert "org/tiny-gpt2: cannot reach http://127.0.0.1:9" in unreachable.stderr
    assert "Traceback" not in unreachable.stderr
    assert not (tmp_path / "a").exists()
    assert run(tmp_path / "a", HF_ENDPOINT=hub.url).returncode == 0


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (
            401,
            "RepoNotFound",
            "has no such repository, or it is private. Check the name; for a private one, log in with",
        ),
        (403, "GatedRepo", "the repository is gated: its authors grant access on request. Accept their conditions at"),
        (401, "GatedRepo", "the repository is gated"),
        (403, "", "refuses the request (HTTP 403): it needs access; log in with `hf auth login`, or set HF_TOKEN"),
    ],
)
def test_refusals_say_what_to_do(
    status: int, code: str, reason: str, theirs: GPT2LMHeadModel, hub: HubServer, tmp_path: Path
) -> None:
    hub.add_folder("org/tiny-gpt2", save(theirs, tmp_path / "source"))
    repository = hub.repositories["models/org/tiny-gpt2"]
    repository.status, repository.error_code = status, code
    result = import_hf("org/tiny-gpt2", tmp_path / "out")
    assert result.exit_code == 2
    assert f"org/tiny-gpt2: {reason}" in result.output.replace(f"{hub.url} ", "")
    assert not (tmp_path / "out").exists()


def test_unknown_repositories_and_revisions_are_reported(hub: HubServer, tmp_path: Path) -> None:
    hub.add("org/tiny-gpt2", {"README.md": "nothing"})
    for arguments, reason in (
        (["org/other"], "org/other: http.* has no such repository"),
        (["org/tiny-gpt2", "--revision", "v2"], "org/tiny-gpt2: has no such revision"),
        (["org/tiny-gpt2"], "has no config.json"),
        (["no-such-folder"], "no-such-folder: no such folder. Give a folder that transformers"),
        (["org/.."], "no such folder"),
    ):
        result = import_hf(arguments[0], tmp_path / "out", *arguments[1:])
        assert result.exit_code == 2
        assert re.search(reason, result.output), result.output


def test_out_is_checked_before_the_download(hub: HubServer, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").touch()
    result = import_hf("org/tiny-gpt2", tmp_path / "out")
    assert result.exit_code == 2
    assert "is not empty" in result.output
    assert hub.requests == []


# ---------------------------------------------------------------------- selection of files


def of_size(*paths: str, size: int = 10) -> list[HubFile]:
    return [HubFile(path, size, None) for path in paths]


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["config.json", "model.safetensors", "pytorch_model.bin", "x.py"], ["config.json", "model.safetensors"]),
        (["config.json", "pytorch_model.bin"], ["config.json", "pytorch_model.bin"]),
        (
            [
                "config.json",
                "model-1.safetensors",
                "model-2.safetensors",
                "model.safetensors.index.json",
                "a/model-3.bin",
            ],
            ["config.json", "model.safetensors.index.json", "model-1.safetensors", "model-2.safetensors"],
        ),
        (
            ["tokenizer.json", "config.json", "../config.json", "/etc/config.json", "model.safetensors"],
            ["config.json", "tokenizer.json", "model.safetensors"],
        ),
    ],
)
def test_only_files_at_the_root_that_an_import_reads_are_selected(paths: list[str], expected: list[str]) -> None:
    assert [file.path for file in select_files("org/name", of_size(*paths))] == expected


def test_a_repository_without_weights_or_with_huge_settings_is_refused() -> None:
    with pytest.raises(HubError, match=r"org/name: has no weights .*\(files: config.json, model.gguf\)"):
        select_files("org/name", of_size("config.json", "model.gguf", "onnx/model.safetensors"))
    huge = of_size("tokenizer.json", size=300_000_000)
    with pytest.raises(HubError, match=r"tokenizer\.json: has 300,000,000 bytes"):
        select_files("org/name", [*of_size("config.json", "model.safetensors"), *huge])


def test_names_of_repositories() -> None:
    assert all(map(is_repository_name, ["gpt2-org/gpt2", "HuggingFaceTB/SmolLM2-135M", "a/b_c.d"]))
    others = [
        "gpt2",
        "a/b/c",
        "../x",
        "a/..",
        "/a/b",
        "a/b.git",
        "a b/c",
        "a/-b",
        "./a",
        "a/b\n",
        "",
        "a/b:c",
        "a\\b/c",
    ]
    assert not any(map(is_repository_name, others))
