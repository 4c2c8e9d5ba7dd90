"""Upload of a model or a run to the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gptzoo.checkpoint.records import read_record
from gptzoo.errors import FolderError, HubError
from gptzoo.hub.client import hub_api, import_hub, printable, report_hub_errors, require_repository_name
from gptzoo.hub.repository import HubRepository
from gptzoo.publishing import layout
from gptzoo.publishing.model_card import GENERATED_MARK, model_card
from gptzoo.publishing.private_paths import public_json
from gptzoo.publishing.published_run import PublishedRun

_JSON_FILES = (layout.SPEC, layout.RUN_SPEC, layout.ENVIRONMENT, "status.json", "result.json", "warnings.json")
_NO_NETWORK = "Nothing was pushed; push again where there is a network"
_OWN_FILES = ("README.md", ".gitattributes", ".gitignore", "LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE")
"""Files of a repository that `push` leaves alone, apart from a model card that it wrote."""

Upload = Mapping[str, Path | bytes]
"""The files to upload by their paths in the repository: a file, or its content."""


@dataclass(frozen=True)
class PushResult:
    """The result of a push."""

    url: str
    commit: str
    n_files: int
    n_bytes: int
    notes: tuple[str, ...]


def push(
    path: Path,
    name: str,
    *,
    best: bool = False,
    step: int | None = None,
    with_state: bool = False,
    private: bool = False,
    license: str | None = None,
    message: str | None = None,
) -> PushResult:
    """Upload the model of a run, a checkpoint or a model folder as ORG/NAME, in one commit, with a model card.

    A repository that does not exist is created. Files of an earlier push that are not part of this one are deleted. A
    model card without `GENERATED_MARK` is kept. Folder names and the host are left out of the records.

    best, step: the checkpoint of a run. Default: the newest one.
    with_state: upload the run with the optimizer state of the checkpoint, so that it can be resumed.
    private: create a private repository. An existing one keeps its visibility.
    license: identifier of the model's license for the card, such as "apache-2.0".
    message: the commit message.

    Raises FolderError for a folder without a valid model, HubError if the hub refuses, or if the repository holds
    something else.
    """
    require_repository_name(name)
    hub = import_hub()
    published = PublishedRun.find(path, best=best, step=step)
    files = _run_files(published) if with_state else _model_files(published)
    card = model_card(published, name, license=license).encode()  # before anything is created on the hub
    with report_hub_errors(name, without_network=_NO_NETWORK, to_write=True):
        url = hub_api().create_repo(name, private=private or None, exist_ok=True)
    repository = HubRepository(name, "model", "main", _NO_NETWORK)
    present = {file.path: file for file in repository.list_files()}
    _require_own_repository(name, present)
    notes = []
    if layout.CARD in present and GENERATED_MARK.encode() not in repository.download(present[layout.CARD]).read_bytes():
        notes.append(f"{layout.CARD} on the hub is not a generated one, so it is kept")
    else:
        files = {**files, layout.CARD: card}
    outdated = [old for old in present if layout.belongs_to_gptzoo(old) and old not in files]
    operations = [hub.CommitOperationAdd(path, content) for path, content in files.items()]
    operations += [hub.CommitOperationDelete(old) for old in outdated]
    with report_hub_errors(name, without_network=_NO_NETWORK, to_write=True):
        commit = hub_api().create_commit(
            name,
            operations,
            commit_message=message or _default_message(published),
            parent_commit=repository.commit,  # so that a push at the same time is not overwritten
        )
    n_bytes = sum(len(content) if isinstance(content, bytes) else content.stat().st_size for content in files.values())
    return PushResult(str(url), commit.oid, len(files), n_bytes, tuple(notes))


def _default_message(published: PublishedRun) -> str:
    at_step = "" if published.step is None else f" at step {published.step}"
    return f"Push {printable(published.spec.name)}{at_step}"


def _model_files(published: PublishedRun) -> Upload:
    """Return the files of the layout `model`."""
    files = {name: _content(published.folder / name) for name in layout.MODEL_FILES}
    if published.run is not None:
        files |= {name: _content(published.run / name) for name in layout.RECORD_FILES if name != "status.json"}
    return {name: content for name, content in files.items() if content is not None}


def _run_files(published: PublishedRun) -> Upload:
    """Return the files of the layout `run`. Raises FolderError for a model without its run."""
    run, checkpoint = published.run, published.folder
    if run is None or checkpoint.parent != run / "checkpoints":
        raise FolderError(f"{checkpoint}: has no training state to push; give the folder of a run")
    files = {name: _content(run / name) for name in layout.RECORD_FILES}
    # The manifest of a checkpoint lists the digests of its files, so that none of them may change.
    inside = f"checkpoints/{checkpoint.name}"
    files |= {
        f"{inside}/{name}": checkpoint / name for name in layout.CHECKPOINT_FILES if (checkpoint / name).is_file()
    }
    return {name: content for name, content in files.items() if content is not None}


def _content(file: Path) -> Path | bytes | None:
    """Return the content of a record without private details, another file itself, or None if there is none."""
    if not file.is_file():
        return None
    return public_json(read_record(file)).encode() if file.name in _JSON_FILES else file


def _require_own_repository(name: str, present: Mapping[str, object]) -> None:
    """Raise HubError if a repository holds something other than a model of gptzoo."""
    others = [path for path in present if path not in _OWN_FILES and not layout.belongs_to_gptzoo(path)]
    if others and not any(map(layout.belongs_to_gptzoo, present)):
        listed = ", ".join(map(printable, others[:5]))
        raise HubError(f"{name}: the repository holds something else ({listed}); choose another name")
