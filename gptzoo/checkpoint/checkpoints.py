"""Checkpoints of a run: written atomically with a manifest, verified before use, pruned after each save.

    checkpoints/step-00001000/{model.json, model.safetensors, tokenizer.json,
                               optimizer.safetensors, state.json, manifest.json}

A checkpoint is valid if manifest.json lists the size and SHA-256 of its other files, and they match.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gptzoo.checkpoint.records import read_record
from gptzoo.errors import FolderError
from gptzoo.terminal.activity import each
from gptzoo.utils.atomic import new_folder, write_json

_FOLDER_NAME = re.compile(r"step-(\d{8,})")


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return the path of the checkpoint of a step."""
    return folder / f"step-{step:08d}"


def save_checkpoint(
    folder: Path, step: int, write: Callable[[Path], None], *, keep: int, best: int | None = None
) -> Path:
    """Create the checkpoint of `step` under `folder`, then delete all but the newest `keep` and the `best` step.

    `write` fills the new folder with files; the manifest is added afterwards. Old checkpoints are deleted only if the
    new one is valid.
    """
    folder.mkdir(exist_ok=True)
    path = checkpoint_path(folder, step)
    if path.exists():  # It must be damaged, because the run was resumed from an earlier one.
        shutil.rmtree(path)
    with new_folder(path) as temporary:
        write(temporary)
        write_json(temporary / "manifest.json", {"step": step, "files": _digests(temporary)})
    if find_damage(path) is None:
        for old_step, old_path in sorted(list_checkpoints(folder).items())[:-keep]:
            if old_step != best:
                shutil.rmtree(old_path)
    return path


def list_checkpoints(folder: Path) -> dict[int, Path]:
    """Return all checkpoint folders by step, damaged ones included."""
    if not folder.is_dir():
        return {}
    return {int(match[1]): path for path in folder.iterdir() if (match := _FOLDER_NAME.fullmatch(path.name))}


def newest_valid_checkpoint(folder: Path, report: Callable[[str], None] = lambda message: None) -> Path | None:
    """Return the newest valid checkpoint, or None. Call `report` with a message for each damaged one skipped."""
    for _, path in sorted(list_checkpoints(folder).items(), reverse=True):
        damage = find_damage(path)
        if damage is None:
            return path
        report(f"{path}: skipped: {damage}")
    return None


def best_valid_checkpoint(folder: Path) -> Path | None:
    """Return the checkpoint with the lowest validation loss, or None if it was pruned or is damaged.

    The newest valid checkpoint records which step that is.
    """
    newest = newest_valid_checkpoint(folder)
    if newest is None:
        return None
    standing = read_record(newest / "state.json").get("standing")
    step = standing.get("best_step") if isinstance(standing, dict) else None
    path = list_checkpoints(folder).get(step) if isinstance(step, int) else None
    return path if path is not None and find_damage(path) is None else None


def find_damage(path: Path) -> str | None:
    """Return a description of the first defect of a checkpoint, or None if it is valid."""
    try:
        expected = read_record(path / "manifest.json")["files"]
        if not isinstance(expected, dict) or not expected:
            raise KeyError("files")
    except (FolderError, KeyError):
        return "manifest.json is missing or damaged"
    for name, digest in each(expected.items(), f"verifying the files of {path.name}"):
        if not (path / name).is_file():
            return f"{name} is missing"
        if _digest(path / name) != digest:
            return f"{name} does not match manifest.json: it was damaged or changed"
    return None


def _digests(folder: Path) -> dict[str, dict[str, Any]]:
    files = each(sorted(folder.iterdir()), f"computing checksums of {folder.name}")
    return {file.name: _digest(file) for file in files}


def _digest(file: Path) -> dict[str, Any]:
    with open(file, "rb") as stream:
        return {"bytes": file.stat().st_size, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}
