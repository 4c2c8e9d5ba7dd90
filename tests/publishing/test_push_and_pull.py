"""Push and pull with the real client of the hub and a local server: contents, model card, hostile repositories."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from hub_server import TOKEN, HubServer

import gptzoo
from gptzoo.checkpoint.model_folder import save_model
from gptzoo.cli import main
from gptzoo.publishing.layout import belongs_to_gptzoo
from gptzoo.publishing.private_paths import shorten_paths

constants = pytest.importorskip("huggingface_hub.constants")

SPEC = {
    "name": "tiny",
    "model": {"name": "tiny", "context_length": 32, "d_model": 16, "n_layers": 2, "n_heads": 2},
    "tokenizer": "byte",
    "batch_size": 4,
    "steps": 6,
    "device": "cpu",
    "eval": {"every": 3},
    "checkpoint": {"every": 3},
    "sample": {"max_new_tokens": 0},
}


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


def train(folder: Path, out: Path, *arguments: str) -> Path:
    (folder / "private-folder").mkdir(exist_ok=True)
    (folder / "private-folder" / "books.txt").write_text("It was the best of times.\n" * 200)
    spec = {**SPEC, "corpus": {"type": "text", "path": str(folder / "private-folder" / "books.txt")}}
    (folder / "spec.json").write_text(json.dumps(spec))
    result = invoke("train", folder / "spec.json", "--out", out, *arguments)
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("GPTZOO_CACHE", str(folder / "cache"))
        return train(folder, folder / "run")


@pytest.fixture
def login(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return hub


def front_matter(card: str) -> dict[str, Any]:
    lines = card.split("---\n")[1].splitlines()
    return {key: json.loads(value) for key, _, value in (line.partition(": ") for line in lines)}


# ---------------------------------------------------------------------- there and back


@pytest.mark.parametrize("source", ["run", "checkpoint", "model folder"])
def test_a_pushed_model_is_pulled_with_the_same_weights(
    source: str, trained: Path, login: HubServer, tmp_path: Path
) -> None:
    ours = gptzoo.load(trained)
    if source == "model folder":
        save_model(tmp_path / "saved", ours.model, ours.tokenizer)
    path = {"run": trained, "checkpoint": ours.folder, "model folder": tmp_path / "saved"}[source]
    pushed = invoke("push", path, "ada/tiny")
    assert pushed.exit_code == 0, pushed.output
    assert pushed.stdout == f"{login.url}/ada/tiny\n"
    pulled = invoke("pull", "ada/tiny", tmp_path / "out")
    assert pulled.exit_code == 0, pulled.output
    theirs = gptzoo.load(tmp_path / "out")
    assert theirs.spec == ours.spec
    assert theirs.tokenizer is not None
    assert ours.tokenizer is not None
    assert theirs.tokenizer.fingerprint() == ours.tokenizer.fingerprint()
    for name, tensor in ours.model.state_dict().items():
        assert torch.equal(tensor, theirs.model.state_dict()[name]), name
    assert set(login.files("ada/tiny")) >= {"README.md", "model.json", "model.safetensors", "tokenizer.json"}
    assert ("run.json" in login.files("ada/tiny")) == (source != "model folder")


def test_the_checkpoint_can_be_chosen(trained: Path, login: HubServer, tmp_path: Path) -> None:
    assert invoke("push", trained, "ada/tiny", "--checkpoint", "3").exit_code == 0
    weights = trained / "checkpoints" / "step-00000003" / "model.safetensors"
    assert login.files("ada/tiny")["model.safetensors"] == weights.read_bytes()
    assert invoke("push", trained, "ada/tiny", "--checkpoint", "4").exit_code == 2


def test_a_pushed_run_is_resumed_with_the_same_weights(
    login: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = {**SPEC, "corpus": {"type": "stories", "n_stories": 60}}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    assert invoke("train", tmp_path / "spec.json", "--out", tmp_path / "whole").exit_code == 0
    assert invoke("train", tmp_path / "spec.json", "--out", tmp_path / "half", "--until", "3").exit_code in (0, 4)
    pushed = invoke("push", tmp_path / "half", "ada/half", "--state")
    assert pushed.exit_code == 0, pushed.output
    assert invoke("pull", "ada/half", tmp_path / "pulled").exit_code == 0
    resumed = invoke("train", tmp_path / "pulled" / "run.json", "--out", tmp_path / "pulled", "--resume")
    assert resumed.exit_code == 0, resumed.output
    whole, pulled = (gptzoo.load(tmp_path / name).model.state_dict() for name in ("whole", "pulled"))
    assert all(torch.equal(whole[name], pulled[name]) for name in whole)


def test_a_second_push_replaces_the_first_one(trained: Path, login: HubServer, tmp_path: Path) -> None:
    assert invoke("push", trained, "ada/tiny", "--state").exit_code == 0
    assert any(path.startswith("checkpoints/") for path in login.files("ada/tiny"))
    assert invoke("push", trained, "ada/tiny").exit_code == 0
    assert not any(path.startswith("checkpoints/") for path in login.files("ada/tiny"))
    assert ".gitattributes" in login.files("ada/tiny")
    first = list(login.repositories["models/ada/tiny"].commits)[1]
    assert invoke("pull", "ada/tiny", tmp_path / "first", "--revision", first).exit_code == 0
    assert (tmp_path / "first" / "checkpoints").is_dir()


@pytest.mark.parametrize("private", [True, False])
def test_a_new_repository_is_private_if_asked_for(private: bool, trained: Path, login: HubServer) -> None:
    assert invoke("push", trained, "ada/tiny", *(["--private"] if private else [])).exit_code == 0
    assert bool(login.repositories["models/ada/tiny"].private) == private


# ---------------------------------------------------------------------- the model card and privacy


def test_the_model_card_has_the_spec_the_data_and_the_loss(trained: Path, login: HubServer) -> None:
    assert invoke("push", trained, "ada/tiny", "--license", "apache-2.0").exit_code == 0
    card = login.files("ada/tiny")["README.md"].decode()
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    metadata = front_matter(card)
    assert (metadata["library_name"], metadata["license"]) == ("gptzoo", "apache-2.0")
    (result,) = metadata["model-index"][0]["results"]
    values = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert values["bits_per_byte"] == rows[-1]["val/bits_per_byte"]
    assert f"| Bits per byte | {rows[-1]['val/bits_per_byte']:.4f} |" in card
    assert f"| Loss, nats per token | {rows[-1]['val/loss']:.4f} |" in card
    n_parameters = sum(parameter.numel() for parameter in gptzoo.load(trained).model.parameters())
    assert f"{n_parameters:,} parameters" in card
    assert "gptzoo pull ada/tiny model" in card
    assert f"| gptzoo | `{gptzoo.__version__}` |" in card
    block = card.partition("```json\n")[2].partition("\n```")[0]
    assert json.loads(block) == json.loads(login.files("ada/tiny")["model.json"])


def test_the_card_of_a_preset_names_its_dataset_and_license(trained: Path, login: HubServer, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "run")
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    run["corpus"] = {"type": "train_val", "train": {"type": "fineweb_edu"}, "val": {"type": "wikitext"}}
    (tmp_path / "run" / "run.json").write_text(json.dumps(run))
    assert invoke("push", tmp_path / "run", "ada/tiny").exit_code == 0
    card = login.files("ada/tiny")["README.md"].decode()
    assert front_matter(card)["datasets"] == ["HuggingFaceFW/fineweb-edu", "Salesforce/wikitext"]
    assert "https://huggingface.co/datasets/HuggingFaceFW/fineweb-edu, license ODC-By-1.0" in card


def test_the_card_shows_the_values_of_the_checkpoint(trained: Path, login: HubServer) -> None:
    assert invoke("push", trained, "ada/tiny", "--checkpoint", "3").exit_code == 0
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    (value,) = [row["val/bits_per_byte"] for row in rows if row["step"] == 3]
    assert f"| Bits per byte | {value:.4f} |" in login.files("ada/tiny")["README.md"].decode()


@pytest.mark.parametrize("options", [[], ["--state"]])
def test_folder_names_and_the_host_stay_here(options: list[str], trained: Path, login: HubServer) -> None:
    assert invoke("push", trained, "ada/tiny", *options).exit_code == 0
    assert str(trained.parent) in (trained / "run.json").read_text()
    for path, content in login.files("ada/tiny").items():
        assert b"private-folder" not in content, path
        assert str(trained.parent).encode() not in content, path
    assert "host" not in json.loads(login.files("ada/tiny")["environment.json"])
    assert json.loads(login.files("ada/tiny")["run.json"])["corpus"]["path"] == "books.txt"


def test_a_card_that_was_edited_is_kept(trained: Path, login: HubServer) -> None:
    assert invoke("push", trained, "ada/tiny").exit_code == 0
    login.add("ada/tiny", {**login.files("ada/tiny"), "README.md": b"My own words.\n"})
    result = invoke("push", trained, "ada/tiny", "--checkpoint", "3")
    assert result.exit_code == 0, result.output
    assert "README.md on the hub is not a generated one, so it is kept" in result.stderr
    assert login.files("ada/tiny")["README.md"] == b"My own words.\n"


def test_absolute_paths_are_shortened() -> None:
    value = {
        "a": ["/home/ada/my books/x.txt", "C:\\Users\\ada\\y.txt", "~/z.txt"],
        "b": "file /tmp/ada/mish.py",
        "c": 1,
    }
    assert shorten_paths(value) == {"a": ["x.txt", "y.txt", "z.txt"], "b": "file mish.py", "c": 1}
    for text in ("https://example.org/a/b", "and/or", "a /b", "/", "", "two\n/lines/x"):
        assert shorten_paths(text) == text


# ---------------------------------------------------------------------- refusals of push


def test_a_repository_with_something_else_is_left_alone(trained: Path, login: HubServer) -> None:
    login.add("ada/other", {"config.json": "{}", "README.md": "A model of transformers."})
    result = invoke("push", trained, "ada/other")
    assert result.exit_code == 2
    assert "ada/other: the repository holds something else (config.json); choose another name" in result.output
    assert set(login.files("ada/other")) == {"config.json", "README.md"}


def test_without_a_login_the_command_says_how_to_log_in(trained: Path, hub: HubServer) -> None:
    result = invoke("push", trained, "ada/tiny")
    assert result.exit_code == 2
    assert "log in with `hf auth login`, or set HF_TOKEN" in result.output
    assert hub.repositories == {}


def test_a_token_that_may_not_write_is_reported(trained: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_" + "r" * 30)
    result = invoke("push", trained, "ada/tiny")
    assert result.exit_code == 2
    assert "(HTTP 403): it needs an access token that may write to it" in result.output


def test_push_without_a_network_says_that_nothing_was_pushed(
    trained: Path, login: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    result = invoke("push", trained, "ada/tiny")
    assert result.exit_code == 2
    assert "Nothing was pushed" in result.output


def test_push_needs_a_model_and_a_name(trained: Path, login: HubServer, tmp_path: Path) -> None:
    model = gptzoo.load(trained)
    save_model(tmp_path / "saved", model.model)
    for arguments, reason in (
        ((tmp_path / "missing", "ada/tiny"), "no such folder"),
        ((trained, "tiny"), "expected the name of a repository on the Hugging Face Hub, ORG/NAME"),
        ((tmp_path / "saved", "ada/tiny", "--state"), "has no training state to push"),
    ):
        result = invoke("push", *arguments)
        assert result.exit_code == 2
        assert reason in result.output
    assert login.requests == []


# ---------------------------------------------------------------------- hostile repositories


class Bomb:
    def __reduce__(self) -> Any:
        return (open, ("executed", "w"))


@pytest.fixture
def pushed(trained: Path, login: HubServer) -> HubServer:
    assert invoke("push", trained, "ada/tiny").exit_code == 0
    return login


def add(hub: HubServer, files: dict[str, bytes | str | None]) -> None:
    """Add a commit with other files; None removes one."""
    merged = {**hub.files("ada/tiny"), **files}
    hub.add("ada/tiny", {path: content for path, content in merged.items() if content is not None})


def test_nothing_of_a_stranger_is_executed_or_leaves_the_folder(
    pushed: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    hostile = ["../evil.json", "/tmp/evil.json", "..\\evil.json", "a/../../evil.json", "checkpoints/../model.json"]
    hostile += [
        "checkpoints/step-00000001/../../../model.json",
        "sub/model.json",
        "model.json/x",
        "modeling.py",
        "\x1b[2J.py",
    ]
    add(pushed, {**dict.fromkeys(hostile, b"evil"), "pytorch_model.bin": pickle.dumps(Bomb())})
    result = invoke("pull", "ada/tiny", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "left out, because loading them could run code: ?[2J.py, modeling.py, pytorch_model.bin" in result.stderr
    expected = {"README.md", "model.json", "model.safetensors", "tokenizer.json", "run.json", "environment.json"}
    written = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*")}
    assert written == {*expected, "metrics.jsonl", "result.json"}
    assert {path.name for path in tmp_path.iterdir()} == {"out", "cache", "huggingface"}


def test_weights_only_as_a_pickle_are_refused(pushed: HubServer, tmp_path: Path) -> None:
    add(pushed, {"model.safetensors": None, "model.pt": pickle.dumps(Bomb())})
    result = invoke("pull", "ada/tiny", tmp_path / "out")
    assert result.exit_code == 2
    assert "has no model.safetensors; model.pt could run code when it is loaded, so it is refused" in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"model.safetensors": pickle.dumps(Bomb())}, "model.safetensors: is no safetensors file"),
        ({"model.json": b"[]"}, "model.json: expected a JSON object"),
        ({"model.json": b"[" * 100_000}, "model.json: cannot be read"),
        ({"model.json": None, "config.json": b"{}"}, "is a model of transformers, not of gptzoo; run gptzoo import-hf"),
        ({"model.json": None}, "has no model of gptzoo"),
    ],
)
def test_a_damaged_or_other_model_is_refused_and_nothing_is_written(
    files: dict[str, bytes | str | None], reason: str, pushed: HubServer, tmp_path: Path
) -> None:
    add(pushed, files)
    result = invoke("pull", "ada/tiny", tmp_path / "out")
    assert result.exit_code == 2
    assert reason in result.output
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".incomplete*"))


def test_a_checkpoint_that_differs_from_its_manifest_is_refused(
    trained: Path, login: HubServer, tmp_path: Path
) -> None:
    assert invoke("push", trained, "ada/tiny", "--state").exit_code == 0
    add(login, {"checkpoints/step-00000006/state.json": b"{}"})
    result = invoke("pull", "ada/tiny", tmp_path / "out")
    assert result.exit_code == 2
    assert "state.json does not match manifest.json" in result.output
    assert not (tmp_path / "out").exists()


def test_packages_that_are_needed_are_named(pushed: HubServer, tmp_path: Path) -> None:
    spec = json.loads(pushed.files("ada/tiny")["model.json"])
    record = {"path": "$.ffn", "kind": "ffn", "type": "moe", "distribution": "gptzoo-moe", "version": "0.1.0"}
    hostile = {**record, "type": "x\x1b[2J", "distribution": "a; rm -rf ~ \x1b[2J"}
    spec["$components"] += [{**record, "config_version": 1}, hostile]
    add(pushed, {"model.json": json.dumps(spec)})
    result = invoke("pull", "ada/tiny", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "needs     ffn 'moe' of the package gptzoo-moe 0.1.0, which is not installed" in result.stderr
    assert "install it only if you trust them" in result.stderr
    assert "\x1b" not in result.output


def test_a_folder_that_is_not_empty_is_left_alone(pushed: HubServer, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("keep")
    n_requests = len(pushed.requests)
    result = invoke("pull", "ada/tiny", tmp_path / "out")
    assert result.exit_code == 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]
    assert len(pushed.requests) == n_requests


def test_paths_that_push_may_write() -> None:
    assert belongs_to_gptzoo("checkpoints/step-00001000/optimizer.safetensors")
    others = ["checkpoints/step-1/model.json", "checkpoints/step-00001000/x.json", "a/model.json", "./model.json"]
    others += ["model.json\n", "checkpoints/step-00001000/model.json/x", "checkpoints//model.json", "Model.json"]
    assert not any(map(belongs_to_gptzoo, others))
