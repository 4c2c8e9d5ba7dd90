"""Download of a transformers checkpoint from the Hugging Face Hub: only the files that an import reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from gptzoo.errors import HubError
from gptzoo.hub.client import printable, require_repository_name
from gptzoo.hub.repository import HubFile, HubRepository

_SETTINGS = frozenset(
    {
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "chat_template.jinja",
        "chat_template.json",
    }
)
_MAX_SETTINGS_BYTES = 2**28  # of one file that is not a weight file; the largest tokenizers have about 2**25

ReportDownload = Callable[[str, int, int], None]
"""Called with the commit, the number of files and their size in bytes before they are downloaded."""


def download_checkpoint(name: str, revision: str, report: ReportDownload) -> Path:
    """Return the folder of a checkpoint in the cache of `huggingface_hub`, downloaded if it is not there.

    Only settings, tokenizer and weights are downloaded, and of the weights only safetensors if there are any. Raises
    HubError if the hub or the network refuses, or if the repository has no checkpoint of transformers.
    """
    require_repository_name(name)
    command = f"hf download {name} --local-dir FOLDER"
    advice = f"Get a copy where there is a network, `{command}`, and import that folder"
    repository = HubRepository(name, "model", revision, advice)
    files = select_files(name, repository.list_files())
    report(repository.commit, len(files), sum(file.size for file in files))
    paths = {file.path: repository.download(file) for file in files}
    return paths["config.json"].parent


def select_files(name: str, files: Iterable[HubFile]) -> list[HubFile]:
    """Return the files that an import reads. Raises HubError if there is no config.json or there are no weights."""
    at_root = {file.path: file for file in files if "/" not in file.path}
    if "config.json" not in at_root:
        raise HubError(f"{name}: has no config.json; expected a model that transformers' save_pretrained wrote")
    settings = [file for path, file in sorted(at_root.items()) if path in _SETTINGS]
    for file in settings:
        if file.size > _MAX_SETTINGS_BYTES:
            raise HubError(f"{name}: {file.path}: has {file.size:,} bytes; no settings or tokenizer are so large")
    weights = _weights(at_root, "model", ".safetensors") or _weights(at_root, "pytorch_model", ".bin")
    if not weights:
        others = ", ".join(map(printable, sorted(at_root))) or "none"
        raise HubError(f"{name}: has no weights in model.safetensors or its shards  (files: {others})")
    return [*settings, *weights]


def _weights(at_root: dict[str, HubFile], stem: str, suffix: str) -> list[HubFile]:
    """Return the file of weights, or its shards with their index."""
    if f"{stem}{suffix}" in at_root:
        return [at_root[f"{stem}{suffix}"]]
    index = f"{stem}{suffix}.index.json"
    if index not in at_root:
        return []
    shards = [file for path, file in sorted(at_root.items()) if path.startswith(f"{stem}-") and path.endswith(suffix)]
    return [at_root[index], *shards]
