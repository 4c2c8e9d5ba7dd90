"""A repository on the Hugging Face Hub at one commit: its files, downloaded into the local cache or streamed."""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Literal

from gptzoo.errors import HubError
from gptzoo.hub.client import hub_api, import_hub, is_offline, report_hub_errors, require_connection
from gptzoo.terminal.activity import activity
from gptzoo.utils.atomic import write_json
from gptzoo.utils.cache_folder import cache_folder

_COMMIT = re.compile(r"[0-9a-f]{40}")
_STREAM_BYTES = 2**22  # of a streamed file, requested at a time


@dataclass(frozen=True)
class HubFile:
    """A file of a repository."""

    path: str  # in the repository, with "/"
    size: int  # bytes
    sha256: str | None  # of files in large file storage; None for small files


@dataclass(frozen=True)
class HubRepository:
    """A repository on the hub at a revision.

    A pinned commit that was read once is read again without a network: the list of its files is stored in the cache of
    gptzoo, the files in the cache of `huggingface_hub`.
    """

    name: str
    kind: Literal["model", "dataset"] = "model"
    revision: str = "main"  # a branch, a tag or a commit
    without_network: str = "Try again with a network"  # advice for errors

    @cached_property
    def commit(self) -> str:
        """The commit of the revision. A branch or tag is looked up on the hub. Raises HubError."""
        if _COMMIT.fullmatch(self.revision):
            return self.revision
        with self.report_errors():
            info = hub_api().repo_info(self.name, revision=self.revision, repo_type=self.kind)
        if not _COMMIT.fullmatch(info.sha or ""):
            raise HubError(f"{self.name}: the hub names no commit for the revision {self.revision!r}")
        return str(info.sha)

    def list_files(self) -> tuple[HubFile, ...]:
        """Return all files in the order of their paths. Raises HubError."""
        listing = cache_folder() / "hub" / f"{self.kind}--{self.name.replace('/', '--')}" / f"{self.commit}.json"
        known = _read_listing(listing)
        if known is not None:
            return known
        with self.report_errors():
            from huggingface_hub import hf_api

            tree = list(hub_api().list_repo_tree(self.name, recursive=True, revision=self.commit, repo_type=self.kind))
        files = [
            HubFile(entry.path, entry.size, entry.lfs.sha256 if entry.lfs else None)
            for entry in tree
            if isinstance(entry, hf_api.RepoFile)
        ]
        files.sort(key=lambda file: file.path)
        with suppress(OSError):  # without the listing, the next call needs the network again
            listing.parent.mkdir(parents=True, exist_ok=True)
            write_json(listing, [asdict(file) for file in files])
        return tuple(files)

    def download(self, file: HubFile) -> Path:
        """Return the file in the cache of `huggingface_hub`, downloaded and compared with its digest if it is new."""
        hub = import_hub()
        known = hub.try_to_load_from_cache(self.name, file.path, revision=self.commit, repo_type=self.kind)
        if isinstance(known, str):
            return Path(known)
        with self.report_errors():
            path = Path(hub_api().hf_hub_download(self.name, file.path, revision=self.commit, repo_type=self.kind))
        if (difference := _difference(path, file)) is not None:
            path.resolve().unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            raise HubError(f"{self.name}: {file.path}: the download is damaged: {difference}. Try again")
        return path

    def open_stream(self, file: HubFile) -> BinaryIO:
        """Open a file for reading over the network, in blocks, without storing it. Raises HubError."""
        hub = import_hub()
        if is_offline():
            raise HubError(f"{self.name}: HF_HUB_OFFLINE is set, so it cannot be streamed. {self.without_network}")
        files = hub.HfFileSystem(endpoint=hub.constants.ENDPOINT)
        folder = "datasets/" if self.kind == "dataset" else ""
        with self.report_errors():
            require_connection(hub.constants.ENDPOINT)
            stream: BinaryIO = files.open(
                f"{folder}{self.name}@{self.commit}/{file.path}", "rb", block_size=_STREAM_BYTES
            )
        return stream

    def report_errors(self) -> AbstractContextManager[None]:
        """Return a context that raises a HubError in place of an exception of `huggingface_hub`."""
        return report_hub_errors(self.name, without_network=self.without_network)


def _read_listing(file: Path) -> tuple[HubFile, ...] | None:
    """Return a stored list of files, or None if there is none or it is damaged."""
    try:
        return tuple(HubFile(**entry) for entry in json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _difference(path: Path, file: HubFile) -> str | None:
    """Describe how a download differs from the file on the hub, or return None."""
    if path.stat().st_size != file.size:
        return f"it has {path.stat().st_size:,} bytes, not {file.size:,}"
    if file.sha256 is None:
        return None
    with open(path, "rb") as stream, activity(f"verifying the download {path.name}"):
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return None if digest == file.sha256 else f"its SHA-256 is {digest}, not {file.sha256}"
