"""The reason why a trial ended does not depend on the place of its folder."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from gptzoo.ablation.execution.trial_folder import TrialFolder

RAW_REASON = "Diverged: {run}: the loss of step 2 is nan. {run}/checkpoints has none. Look into {run}."
REASON = "diverged: the loss of step 2 is nan. checkpoints has none. Look into wild-seed1"


@pytest.mark.parametrize("place", ["short", "a/deeper one (copy)"])
@pytest.mark.parametrize("written", ["as given", "absolute", "resolved"])
def test_a_reason_does_not_depend_on_the_place_of_the_folder(
    place: str, written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    monkeypatch.chdir(tmp_path)
    trial = TrialFolder(Path("link", place, "trials", "wild-seed1"))
    trial.path.mkdir(parents=True)
    run = {"as given": trial.path, "absolute": trial.path.absolute(), "resolved": trial.path.resolve()}[written]
    trial.log.write_text(f"ValueError: {run}/page.txt is empty\n")
    assert trial.describe_exit(1) == "exited with code 1: ValueError: page.txt is empty"
    (trial.path / "status.json").write_text(json.dumps({"status": "diverged", "reason": RAW_REASON.format(run=run)}))
    assert trial.describe_exit(3) == REASON


def test_a_signal_without_a_name_is_described_by_its_number(tmp_path: Path) -> None:
    trial = TrialFolder(tmp_path)
    assert trial.describe_exit(-signal.SIGTERM) == "killed by SIGTERM"
    assert trial.describe_exit(-40) == "killed by signal 40"  # of a range without names, which some schedulers send


def test_a_path_that_only_starts_like_the_folder_is_not_changed(tmp_path: Path) -> None:
    trial = TrialFolder(tmp_path / "one")
    trial.path.mkdir()
    trial.log.write_text(f"FileNotFoundError: {tmp_path}/one-2/page.txt\n")
    assert trial.describe_exit(1) == f"exited with code 1: FileNotFoundError: {tmp_path}/one-2/page.txt"
