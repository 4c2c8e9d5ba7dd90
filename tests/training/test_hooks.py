"""Hooks are called at the moments of a run; whatever they do, they neither end it nor change it unnoticed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import assert_same_run, overflow_at

import gptzoo
from gptzoo import registry
from gptzoo.errors import Diverged, PluginError, StopRun
from gptzoo.registry import Origin
from gptzoo.training.run.metrics_file import read


class Diary:
    """Writes down every moment."""

    def __init__(self) -> None:
        self.moments: list[tuple[str, Any]] = []

    @gptzoo.hookimpl
    def gptzoo_run_start(self, run: gptzoo.RunView, model: torch.nn.Module) -> None:
        assert sum(parameter.numel() for parameter in model.parameters()) > 0
        self.moments.append(("start", run.kept))

    @gptzoo.hookimpl
    def gptzoo_step(self, row: Mapping[str, Any]) -> None:
        self.moments.append(("step", dict(row)))

    @gptzoo.hookimpl
    def gptzoo_eval(self, row: Mapping[str, Any]) -> None:
        self.moments.append(("eval", row["step"]))

    @gptzoo.hookimpl
    def gptzoo_checkpoint(self, step: int, folder: Path) -> None:
        assert (folder / "manifest.json").is_file()
        self.moments.append(("checkpoint", step))

    @gptzoo.hookimpl
    def gptzoo_run_end(self, status: str, reason: str | None) -> None:
        self.moments.append(("end", (status, reason)))


def watch(plugin: object, name: str = "theirs") -> None:
    registry.current().admit(plugin, Origin(name, f"gptzoo-{name}", "1.0"))


@pytest.fixture
def diary(fresh_registry: registry.Registry) -> Diary:
    diary = Diary()
    watch(diary)
    return diary


def test_every_moment_of_a_run_is_told_in_order(run_spec: dict[str, Any], tmp_path: Path, diary: Diary) -> None:
    gptzoo.train({**run_spec, "steps": 5}, tmp_path / "run", quiet=True)
    rows = read(tmp_path / "run" / "metrics.jsonl")
    expected: list[tuple[str, Any]] = [("start", -1), ("eval", 0)]
    for step in range(1, 6):
        expected += [("step", rows[step])]
        expected += [("eval", 5)] if step == 5 else []
        expected += [("checkpoint", step)] if step in (4, 5) else []
    assert diary.moments == [*expected, ("end", ("done", None))]


def test_a_run_that_goes_on_says_from_where(run_spec: dict[str, Any], tmp_path: Path, diary: Diary) -> None:
    gptzoo.train({**run_spec, "steps": 5}, tmp_path / "run", quiet=True)
    diary.moments.clear()
    gptzoo.train({**run_spec, "steps": 6}, tmp_path / "run", extend=True, quiet=True)
    assert [moment for moment, _ in diary.moments] == ["start", "step", "eval", "checkpoint", "end"]
    assert diary.moments[0] == ("start", 5)


def test_a_run_that_diverges_ends_so_for_hooks(
    run_spec: dict[str, Any], tmp_path: Path, diary: Diary, monkeypatch: pytest.MonkeyPatch
) -> None:
    overflow_at(monkeypatch, 2)
    with pytest.raises(Diverged):
        gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    moment, (status, reason) = diary.moments[-1]
    assert (moment, status) == ("end", "diverged")
    assert "gradient norm" in reason


class Rude:
    """Does in a step whatever it is told to."""

    def __init__(self, act: Any):
        self.act = act

    @gptzoo.hookimpl
    def gptzoo_step(self, run: gptzoo.RunView, model: Any, row: Mapping[str, Any]) -> None:
        if row["step"] >= 3:
            self.act(run, model, row)


def _raise(run: Any, model: Any, row: Any) -> None:
    raise ValueError("no idea")


def _stop(run: Any, model: Any, row: Any) -> None:
    raise StopRun(f"enough at step {row['step']}")


def _meddle(run: Any, model: Any, row: Any) -> None:
    with torch.no_grad():
        next(model.parameters()).mul_(0.5)


def _look_around(run: Any, model: Any, row: Any) -> None:
    """All that a hook may do to look inside, and then some: it leaves a mess that must not matter."""
    torch.manual_seed(row["step"])
    model.eval()
    tokens = torch.randint(model.spec.vocab_size, (2, 8))
    _, loss = model(tokens, tokens)
    loss.backward()


def test_a_hook_that_raises_is_told_of_once_and_is_not_called_again(
    fresh_registry: Any, run_spec: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], diary: Diary
) -> None:
    watch(Rude(_raise), "rude")
    gptzoo.train(run_spec, tmp_path / "run")
    said = capsys.readouterr().err
    assert said.count("plugin 'rude': its hook gptzoo_step raised ValueError: no idea") == 1
    assert diary.moments[-1] == ("end", ("done", None))


def test_a_hook_that_asks_for_it_ends_the_run(fresh_registry: Any, run_spec: dict[str, Any], tmp_path: Path) -> None:
    watch(Rude(_stop))
    with pytest.raises(StopRun, match="enough at step 3"):
        gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status == {"status": "failed", "reason": "StopRun: enough at step 3"}


def test_looking_inside_changes_no_bit_of_a_run(
    run_spec: dict[str, Any], tmp_path: Path, fresh_registry: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    gptzoo.train(run_spec, tmp_path / "plain")
    watch(Rude(_look_around))
    gptzoo.train(run_spec, tmp_path / "watched")
    assert_same_run(tmp_path / "plain", tmp_path / "watched")
    assert "plugin" not in capsys.readouterr().err


def test_a_hook_that_changes_weights_is_told_of_once(
    run_spec: dict[str, Any], tmp_path: Path, fresh_registry: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    watch(Rude(_meddle))
    gptzoo.train(run_spec, tmp_path / "run")
    assert capsys.readouterr().err.count("plugin 'theirs': a hook of it has changed weights") == 1


def test_a_row_cannot_be_changed(run_spec: dict[str, Any], tmp_path: Path, fresh_registry: Any, capsys: Any) -> None:
    watch(Rude(lambda run, model, row: row.update({"train/loss": 0.0})), "rude")
    gptzoo.train(run_spec, tmp_path / "run")
    assert "plugin 'rude': its hook gptzoo_step raised AttributeError" in capsys.readouterr().err


def test_a_hook_that_is_misspelt_is_refused_with_the_hooks_that_there_are(fresh_registry: Any) -> None:
    class Misspelt:
        @gptzoo.hookimpl
        def gptzoo_stepp(self, row: Any) -> None:
            pass

    with pytest.raises(PluginError, match=r"gptzoo_stepp.*known hooks: .*gptzoo_step.*gptzoo_run_end"):
        watch(Misspelt())
    assert fresh_registry.watchers == [w for w in fresh_registry.watchers if w[0].plugin == "builtin"]
