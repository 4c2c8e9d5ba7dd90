"""Why a trial ended, in words that say nothing of where its folder is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gptzoo.ablation.execution.trial import TrialFolder

SAID = "Diverged: {run}: the loss of step 2 is nan. {run}/checkpoints has none. Look into {run}."
TOLD = "diverged: the loss of step 2 is nan. checkpoints has none. Look into wild-seed1"


@pytest.mark.parametrize("place", ["short", "a/deeper one (copy)"])
@pytest.mark.parametrize("written", ["as given", "absolute", "resolved"])
def test_a_reason_is_the_same_wherever_the_folder_is(
    place: str, written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    monkeypatch.chdir(tmp_path)
    trial = TrialFolder(Path("link", place, "trials", "wild-seed1"))
    trial.path.mkdir(parents=True)
    run = {"as given": trial.path, "absolute": trial.path.absolute(), "resolved": trial.path.resolve()}[written]
    trial.log.write_text(f"ValueError: {run}/page.txt is empty\n")
    assert trial.why_ended(1) == "ended with code 1: ValueError: page.txt is empty"
    (trial.path / "status.json").write_text(json.dumps({"status": "diverged", "reason": SAID.format(run=run)}))
    assert trial.why_ended(3) == TOLD


def test_a_path_that_only_begins_as_the_folder_does_is_left_alone(tmp_path: Path) -> None:
    trial = TrialFolder(tmp_path / "one")
    trial.path.mkdir()
    trial.log.write_text(f"FileNotFoundError: {tmp_path}/one-2/page.txt\n")
    assert trial.why_ended(1) == f"ended with code 1: FileNotFoundError: {tmp_path}/one-2/page.txt"
