"""Download of a model or a run that `push` uploaded. Its author may be a stranger, so nothing in it is executed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from gptzoo import registry
from gptzoo.checkpoint.checkpoints import find_damage
from gptzoo.checkpoint.model_folder import require_empty_folder
from gptzoo.checkpoint.records import read_record
from gptzoo.errors import FolderError, HubError
from gptzoo.hub.client import printable, require_repository_name
from gptzoo.hub.repository import HubFile, HubRepository
from gptzoo.publishing import layout
from gptzoo.spec.provenance import COMPONENTS_KEY
from gptzoo.utils.atomic import new_folder

_CODE = (".py", ".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".so", ".sh")  # could run code when it is loaded
_MAX_RECORD_BYTES = 2**28  # of one file other than tensors and metrics
_MAX_LISTED = 5  # files named in one message

ReportDownload = Callable[[str, int, int], None]
"""Called with the commit, the number of files and their size in bytes before they are downloaded."""


@dataclass(frozen=True)
class PullResult:
    """The result of a pull."""

    commit: str
    n_files: int
    needed: tuple[str, ...]  # components that are not installed, with their packages
    skipped: tuple[str, ...]  # files of the repository that were not downloaded


def pull(
    name: str,
    out: Path,
    *,
    revision: str = "main",
    report: ReportDownload = lambda commit, n_files, n_bytes: None,
) -> PullResult:
    """Download the model or run ORG/NAME into the folder `out`, atomically.

    Only the files that gptzoo writes are downloaded, each to its place in `out`. Pickles and code are not. Raises
    FolderError if `out` is not empty or a file is damaged, and HubError if the hub refuses or the repository holds no
    model of gptzoo.
    """
    require_repository_name(name)
    out = out.absolute()
    require_empty_folder(out)
    repository = HubRepository(name, "model", revision, "Pull where there is a network, and copy the folder")
    listed = repository.list_files()
    files = select_files(name, listed)
    report(repository.commit, len(files), sum(file.size for file in files))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with new_folder(out) as temporary:
            for file in files:
                place = temporary / file.path
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(repository.download(file), place)
            needed = _verify(temporary, [file.path for file in files])
    except OSError as error:
        raise FolderError(f"{out}: cannot be written: {error.strerror or error}") from None
    skipped = tuple(sorted({file.path for file in listed} - {file.path for file in files} - {".gitattributes"}))
    return PullResult(repository.commit, len(files), tuple(needed), skipped)


def select_files(name: str, files: Iterable[HubFile]) -> list[HubFile]:
    """Return the files of a model or a run. Raises HubError if there is none."""
    by_path = {file.path: file for file in files}
    selected = [file for path, file in by_path.items() if layout.belongs_to_gptzoo(path) or path == layout.CARD]
    paths = {file.path for file in selected}
    is_run = layout.RUN_SPEC in paths and bool(layout.checkpoints_in(paths))
    if not is_run and not {layout.SPEC, layout.WEIGHTS} <= paths:
        raise HubError(f"{name}: {_no_model_message(name, by_path)}")
    for file in selected:
        if file.size > _MAX_RECORD_BYTES and not file.path.endswith((".safetensors", ".jsonl")):
            raise HubError(f"{name}: {file.path}: has {file.size:,} bytes; no record or tokenizer is so large")
    return selected


def _no_model_message(name: str, by_path: Mapping[str, HubFile]) -> str:
    if "config.json" in by_path:
        return f"is a model of transformers, not of gptzoo; run gptzoo import-hf {name} OUT"
    if layout.SPEC in by_path and (pickles := [path for path in by_path if path.endswith(_CODE)]):
        return f"has no {layout.WEIGHTS}; {list_files(pickles)} could run code when it is loaded, so it is refused"
    others = list_files(sorted(by_path)) or "none"
    return f"has no model of gptzoo: no {layout.SPEC} with {layout.WEIGHTS}, and no run  (files: {others})"


def list_files(paths: Iterable[str]) -> str:
    """Return file names of a stranger as one short text."""
    names = list(map(printable, paths))
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(names[:_MAX_LISTED]) + more


def code_in(paths: Iterable[str]) -> list[str]:
    """Return the files that could run code when they are loaded."""
    return [path for path in paths if path.endswith(_CODE)]


def _verify(folder: Path, paths: list[str]) -> list[str]:
    """Check the files of a download. Return the components that are not installed. Raises FolderError."""
    checkpoints = layout.checkpoints_in(paths)
    for path in paths:
        if path.endswith(".safetensors"):
            try:
                with safe_open(folder / path, framework="pt"):
                    pass
            except (SafetensorError, OSError) as error:
                raise FolderError(f"{path}: is no safetensors file: {error}. Nothing was written") from None
    for checkpoint in checkpoints:
        if (damage := find_damage(folder / checkpoint)) is not None:
            raise FolderError(f"{checkpoint}: damaged checkpoint: {damage}. Nothing was written")
    specs = [
        path for path in (layout.SPEC, layout.RUN_SPEC, *(f"{c}/{layout.SPEC}" for c in checkpoints)) if path in paths
    ]
    needed: dict[str, None] = {}
    for spec in specs:
        needed |= dict.fromkeys(_missing_components(_read(folder / spec, spec)))
    return list(needed)


def _read(file: Path, path: str) -> dict[str, Any]:
    try:
        return read_record(file)
    except FolderError as error:
        raise FolderError(f"{str(error).replace(str(file), path)}. Nothing was written") from None


def _missing_components(spec: Mapping[str, Any]) -> Iterable[str]:
    """Yield the components that a spec names and that are not installed, each with its package."""
    records = spec.get(COMPONENTS_KEY)
    for record in records if isinstance(records, list) else []:
        kind, name, package = (str(record.get(key, "")) for key in ("kind", "type", "distribution"))
        if name in registry.current().of_kind(kind):
            continue
        version = str(record.get("version", ""))
        is_package = re.fullmatch(r"[A-Za-z0-9][\w.-]{0,80}", package, re.ASCII) is not None
        source = f"the package {package} {printable(version)[:40]}".strip() if is_package else printable(package)[:80]
        yield f"{printable(kind)[:40]} {printable(name)[:80]!r} of {source}"
