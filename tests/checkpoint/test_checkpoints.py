"""Checkpoints: atomic writes, detection of damage, and pruning."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gptzoo.checkpoint.checkpoints import find_damage, list_checkpoints, newest_valid_checkpoint, save_checkpoint


def write(content: str) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        (folder / "weights").write_text(content)
        (folder / "state").write_text(content * 2)

    return fill


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3, 10):
        save_checkpoint(tmp_path / "c", step, write(str(step)), keep=2)
    assert sorted(list_checkpoints(tmp_path / "c")) == [3, 10]
    newest = newest_valid_checkpoint(tmp_path / "c")
    assert newest is not None
    assert newest.name == "step-00000010"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: (path / "weights").write_text("2x"), "weights does not match"),
        (lambda path: (path / "weights").write_text("3"), "weights does not match"),  # same length
        (lambda path: (path / "state").unlink(), "state is missing"),
        (lambda path: (path / "manifest.json").unlink(), "manifest.json is missing"),
        (lambda path: (path / "manifest.json").write_text('{"files": '), "manifest.json is missing or damaged"),
        (lambda path: (path / "manifest.json").write_text("[]"), "manifest.json is missing or damaged"),
    ],
)
def test_a_damaged_checkpoint_is_skipped_and_the_damage_is_reported(
    tmp_path: Path, damage: Callable[[Path], Any], reason: str
) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path / "c", step, write(str(step)), keep=2)
    damage(tmp_path / "c" / "step-00000002")
    messages: list[str] = []
    newest = newest_valid_checkpoint(tmp_path / "c", messages.append)
    assert newest is not None
    assert newest.name == "step-00000001"
    assert len(messages) == 1
    assert "step-00000002: skipped" in messages[0]
    assert reason in messages[0]


def test_a_save_killed_at_any_file_operation_leaves_a_valid_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The save is killed at its n-th fsync or rename, for every n."""

    class Killed(BaseException):
        pass

    def kill_at(n: int, patch: pytest.MonkeyPatch) -> None:
        count = iter(range(1, 10**6))
        for name in ("fsync", "replace"):
            original = getattr(os, name)

            def operation(*args: Any, original: Any = original) -> Any:
                if next(count) == n:
                    raise Killed
                return original(*args)

            patch.setattr(os, name, operation)

    kills = 0
    for n in range(1, 100):
        folder = tmp_path / str(n)
        save_checkpoint(folder, 1, write("one"), keep=2)
        with monkeypatch.context() as patch:
            kill_at(n, patch)
            try:
                save_checkpoint(folder, 2, write("two"), keep=2)
            except Killed:
                kills += 1
            else:
                break
        newest = newest_valid_checkpoint(folder)
        assert newest is not None
        content = (newest / "weights").read_text()
        assert (newest.name, content) in (("step-00000001", "one"), ("step-00000002", "two"))
    assert kills >= 5


def test_a_failed_write_leaves_no_files(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "weights").write_text("half")
        raise OSError(28, "No space left on device")

    save_checkpoint(tmp_path / "c", 1, write("one"), keep=2)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(tmp_path / "c", 2, fail, keep=2)
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["step-00000001"]


def test_a_damaged_checkpoint_of_the_same_step_is_replaced(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "c", 5, write("first"), keep=2)
    (path / "weights").write_text("damaged")
    save_checkpoint(tmp_path / "c", 5, write("second"), keep=2)
    assert find_damage(path) is None
    assert (path / "weights").read_text() == "second"


def test_the_manifest_lists_every_file_except_itself(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "c", 1, write("one"), keep=2)
    manifest = json.loads((path / "manifest.json").read_text())
    assert set(manifest["files"]) == {"weights", "state"}
