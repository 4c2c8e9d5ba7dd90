"""Checkpoints of a run: written whole with a manifest, verified before they are trusted, then older ones pruned.

    checkpoints/step-00001000/{model.json, model.safetensors, tokenizer.json,
                               optimizer.safetensors, state.json, manifest.json}

A folder without a manifest that fits its files does not count as a checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gptzoo.utils.atomic import new_folder, write_json

_NAME = re.compile(r"step-(\d{8,})")


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is."""
    return folder / f"step-{step:08d}"


def save_checkpoint(
    folder: Path, step: int, write: Callable[[Path], None], *, keep: int, best: int | None = None
) -> Path:
    """Let `write` fill a new checkpoint of `step` under `folder`, then drop all but the newest `keep` and `best`."""
    folder.mkdir(exist_ok=True)
    path = checkpoint_path(folder, step)
    if path.exists():  # a damaged one: resuming went back behind it
        shutil.rmtree(path)
    with new_folder(path) as temporary:
        write(temporary)
        write_json(temporary / "manifest.json", {"step": step, "files": _digests(temporary)})
    if why_invalid(path) is None:
        for old, place in sorted(checkpoints(folder).items())[:-keep]:
            if old != best:
                shutil.rmtree(place)
    return path


def checkpoints(folder: Path) -> dict[int, Path]:
    """Every checkpoint folder by its step, valid or not."""
    if not folder.is_dir():
        return {}
    return {int(match[1]): path for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))}


def newest_valid(folder: Path, report: Callable[[str], None] = lambda message: None) -> Path | None:
    """The newest checkpoint whose files are what its manifest says; `report` hears of each damaged one passed over."""
    for _, path in sorted(checkpoints(folder).items(), reverse=True):
        reason = why_invalid(path)
        if reason is None:
            return path
        report(f"{path}: passed over: {reason}")
    return None


def best_valid(folder: Path) -> Path | None:
    """The checkpoint with the lowest validation loss, as the newest one knows it, if it was kept and is whole."""
    newest = newest_valid(folder)
    if newest is None:
        return None
    step = json.loads((newest / "state.json").read_text(encoding="utf-8"))["standing"]["best_step"]
    path = checkpoints(folder).get(step)
    return path if path is not None and why_invalid(path) is None else None


def why_invalid(path: Path) -> str | None:
    """What is wrong with a checkpoint, or None."""
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        expected: dict[str, Any] = manifest["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return "manifest.json is missing or damaged"
    for name, digest in expected.items():
        if not (path / name).is_file():
            return f"{name} is missing"
        if _digest(path / name) != digest:
            return f"{name} is not what manifest.json says: it was damaged or changed"
    return None


def _digests(folder: Path) -> dict[str, Any]:
    return {file.name: _digest(file) for file in sorted(folder.iterdir())}


def _digest(file: Path) -> dict[str, Any]:
    with open(file, "rb") as stream:
        return {"bytes": file.stat().st_size, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}
