"""Damaged files of runs and ablations are named: they never give a traceback, nor another number without a word."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import gptzoo
from gptzoo.ablation.execution.trial_folder import TrialFolder
from gptzoo.ablation.planning.folder import read_outcome, write_plan
from gptzoo.ablation.planning.plan import make_plan
from gptzoo.ablation.terminal.print_outcome import outcome_as_dict
from gptzoo.errors import GptzooError
from gptzoo.spec.files import load_ablation_spec

OTHER_FORMS = [b"", b"[]", b"null", b"3", b'"x"', b"{}", b"[{}]", b"\xff\x00\x9f", b'{"step": 1}\n', b"[" * 5000]


@pytest.fixture(scope="module")
def ablation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of an ablation whose trials were trained for real."""
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "page.txt").write_text("the quick brown fox jumps over the lazy dog. " * 60)
    base = {
        "model": {"context_length": 16, "d_model": 16, "n_layers": 1, "n_heads": 2},
        "corpus": {"type": "text", "path": str(folder / "page.txt")},
        "batch_size": 4,
        "steps": 4,
        "eval": {"every": 2},
        "checkpoint": {"every": 2},
        "device": "cpu",
        "watch": {"every": None},
    }
    fields = {"name": "tiny", "base": base, "axes": {"optimizer.lr": [0.001, 0.01]}, "seeds": 2, "samples": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPTZOO_CACHE", str(folder / "cache"))
        (folder / "spec.json").write_text(json.dumps(fields))
        spec = load_ablation_spec(folder / "spec.json")
        out = folder / "out"
        plan = make_plan(spec, out)
        write_plan(out, plan)
        for trial in plan.trials:
            TrialFolder(out / "trials" / trial.name).create(trial.spec)
            gptzoo.train(trial.spec, out / "trials" / trial.name, resume=True, quiet=True)
        yield out


def results(folder: Path) -> dict[str, Any]:
    """Return the numbers of an ablation, and the state and reason of each trial."""
    found = outcome_as_dict(read_outcome(folder))
    return {(trial["variant"], trial["seed"]): trial for trial in found["trials"]} | {"verdicts": found["verdicts"]}


def first_trial(folder: Path) -> Path:
    return sorted((folder / "trials").iterdir())[0]


def damages(contents: bytes, n_cuts: int) -> Iterator[bytes]:
    """Yield damaged contents: of another form, and cut at any byte, at the end of a line among others."""
    yield from (form for form in OTHER_FORMS if form != contents)
    lines = contents.splitlines(keepends=True)
    cuts = {len(contents) - 1, len(contents) // 2, len(contents) - len(lines[-1]), len(b"".join(lines[:1]))}
    rng = random.Random(0)
    for cut in sorted(cuts | {rng.randrange(len(contents)) for _ in range(n_cuts)}):
        yield contents[:cut]


def files_of(folder: Path) -> list[Path]:
    """Return the text files of an ablation's folder and of its first trial."""
    files = [*folder.iterdir(), *first_trial(folder).iterdir()]
    return sorted(file for file in files if file.suffix in (".json", ".jsonl"))


def check(folder: Path, read: Callable[[], object], file: Path, n_cuts: int) -> None:
    """Damage a file in every way, and check that each result is the one before, or an error with the file's name."""
    before, contents = read(), file.read_bytes()
    for damaged in damages(contents, n_cuts):
        file.write_bytes(damaged)
        try:
            now: Any = read()
        except GptzooError as error:
            if file.name not in str(error):
                pytest.fail(f"{file}: {damaged[:60]!r}: {error}")
            continue
        finally:
            file.write_bytes(contents)
        if now != before:
            failed = [value for key, value in now.items() if key != "verdicts" and value["state"] == "failed"]
            assert failed, (file, damaged[:60])
            assert all(file.name in trial["reason"] for trial in failed), (file, damaged[:60])
            others = {key: value for key, value in now.items() if key != "verdicts" and value not in failed}
            assert all(before[key] == value for key, value in others.items())  # type: ignore[index]


def test_an_intact_ablation_is_verified(ablation: Path) -> None:
    outcome = read_outcome(ablation)
    assert [(trial.state, trial.verified) for trial in outcome.trials] == [("done", True)] * 4
    assert all(trial.last("val/loss") is not None for trial in outcome.trials)


def test_a_damaged_file_is_named_and_no_number_changes(ablation: Path) -> None:
    files = files_of(ablation)
    assert {file.name for file in files} >= {
        *("ablation.json", "variants.json", "status.json", "metrics.jsonl", "result.json", "spec.json", "run.json"),
        "environment.json",
    }
    for file in files:
        check(ablation, lambda: results(ablation), file, n_cuts=6)


def test_a_missing_last_line_is_found_without_a_checksum(ablation: Path, tmp_path: Path) -> None:
    """Older versions wrote no result.json: the checkpoint tells how far the metrics must reach."""
    folder = shutil.copytree(ablation, tmp_path / "old")
    for trial in (folder / "trials").iterdir():
        (trial / "result.json").unlink()
    outcome = read_outcome(folder)
    assert [(trial.state, trial.verified) for trial in outcome.trials] == [("done", False)] * 4
    (note,) = [note for note in outcome_as_dict(outcome)["notes"] if "checksum" in note]
    assert note.startswith("4 of 4 trials have no checksum")
    for name in ("metrics.jsonl", "status.json"):
        check(folder, lambda: results(folder), first_trial(folder) / name, n_cuts=6)
    metrics = first_trial(folder) / "metrics.jsonl"
    metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[:-1]))
    (failed,) = [trial for trial in read_outcome(folder).trials if trial.state == "failed"]
    assert "metrics.jsonl: ends at step 3, but a checkpoint is of step 4" in failed.reason


def test_a_damaged_run_is_not_resumed_and_nothing_is_lost(ablation: Path, tmp_path: Path) -> None:
    run = shutil.copytree(first_trial(ablation), tmp_path / "run")
    spec = json.loads((run / "run.json").read_text())
    for file in [*sorted(run.glob("*.json*")), run / "checkpoints" / "step-00000004" / "state.json"]:
        if file.name in ("spec.json", "attempts.json", "status.json", "result.json"):  # are written, or for trials only
            continue
        for damaged in list(damages(file.read_bytes(), 0))[:: 4 if file.name != "metrics.jsonl" else 2]:
            copy = shutil.copytree(run, tmp_path / "copy", dirs_exist_ok=False)
            (copy / file.relative_to(run)).write_bytes(damaged)
            try:
                result = gptzoo.train(spec, copy, resume=True, extend=True, quiet=True)
            except GptzooError as error:
                if file.name not in str(error):
                    pytest.fail(f"{file}: {damaged[:60]!r}: {error}")
                assert (copy / file.relative_to(run)).read_bytes() == damaged
            else:
                assert result.steps == 4
                assert (copy / "metrics.jsonl").read_text().count("\n") == 5, (file, damaged[:60])
            shutil.rmtree(copy)


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(ablation: Path, tmp_path: Path) -> None:
    run = shutil.copytree(first_trial(ablation), tmp_path / "run")
    newest = run / "checkpoints" / "step-00000004"
    for file in sorted(newest.iterdir()):
        contents = file.read_bytes()
        for damaged in (b"", b"[]", b"null", contents[: len(contents) // 2], contents[:-2]):
            file.write_bytes(damaged)
            found = gptzoo.checkpoint.checkpoints.newest_valid_checkpoint(run / "checkpoints")
            assert found == run / "checkpoints" / "step-00000002", (file, damaged[:20])
        file.write_bytes(contents)


@pytest.mark.slow
def test_retry_failed_runs_a_damaged_trial_again_with_the_same_result(ablation: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(ablation, tmp_path / "out")
    spec = load_ablation_spec(ablation.parent / "spec.json", ['executor={"type": "local", "n_workers": 1}'])
    before = results(folder)
    for name, damaged in [("metrics.jsonl", b""), ("status.json", b"[]"), ("result.json", b"{}")]:
        (first_trial(folder) / name).write_bytes(damaged)
        outcome = gptzoo.ablate(spec, folder)
        assert [trial.state for trial in outcome.trials].count("failed") == 1
        again = gptzoo.ablate(spec, folder, retry_failed=True)
        assert [trial.state for trial in again.trials] == ["done"] * 4
        assert results(folder) == before
    kept = sorted(folder.glob("trials/*/damaged-*/metrics.jsonl"))
    assert len(kept) == 3  # nothing on disk is lost
