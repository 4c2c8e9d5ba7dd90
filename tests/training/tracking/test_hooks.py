"""Hooks are called during a run, and can neither end it nor change it unnoticed."""

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
from gptzoo.training.run.metrics_file import read_metrics


class HookRecorder:
    """A plugin that records every hook call."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    @gptzoo.hookimpl
    def gptzoo_run_start(self, run: gptzoo.RunView, model: torch.nn.Module) -> None:
        assert sum(parameter.numel() for parameter in model.parameters()) > 0
        self.calls.append(("start", run.resume_step))

    @gptzoo.hookimpl
    def gptzoo_step(self, row: Mapping[str, Any]) -> None:
        self.calls.append(("step", dict(row)))

    @gptzoo.hookimpl
    def gptzoo_eval(self, row: Mapping[str, Any]) -> None:
        self.calls.append(("eval", row["step"]))

    @gptzoo.hookimpl
    def gptzoo_checkpoint(self, step: int, folder: Path) -> None:
        assert (folder / "manifest.json").is_file()
        self.calls.append(("checkpoint", step))

    @gptzoo.hookimpl
    def gptzoo_run_end(self, status: str, reason: str | None) -> None:
        self.calls.append(("end", (status, reason)))


def add_plugin(plugin: object, name: str = "example") -> None:
    registry.current().admit(plugin, Origin(name, f"gptzoo-{name}", "1.0"))


@pytest.fixture
def recorder(fresh_registry: registry.Registry) -> HookRecorder:
    recorder = HookRecorder()
    add_plugin(recorder)
    return recorder


def test_hooks_are_called_in_the_order_of_a_run(
    run_spec: dict[str, Any], tmp_path: Path, recorder: HookRecorder
) -> None:
    gptzoo.train({**run_spec, "steps": 5}, tmp_path / "run", quiet=True)
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    expected: list[tuple[str, Any]] = [("start", -1), ("eval", 0)]
    for step in range(1, 6):
        expected += [("step", rows[step])]
        expected += [("eval", 5)] if step == 5 else []
        expected += [("checkpoint", step)] if step in (4, 5) else []
    assert recorder.calls == [*expected, ("end", ("done", None))]


def test_a_resumed_run_has_the_step_of_its_checkpoint(
    run_spec: dict[str, Any], tmp_path: Path, recorder: HookRecorder
) -> None:
    gptzoo.train({**run_spec, "steps": 5}, tmp_path / "run", quiet=True)
    recorder.calls.clear()
    gptzoo.train({**run_spec, "steps": 6}, tmp_path / "run", extend=True, quiet=True)
    assert [name for name, _ in recorder.calls] == ["start", "step", "eval", "checkpoint", "end"]
    assert recorder.calls[0] == ("start", 5)


def test_hooks_get_the_status_and_reason_of_a_diverged_run(
    run_spec: dict[str, Any], tmp_path: Path, recorder: HookRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    overflow_at(monkeypatch, 2)
    with pytest.raises(Diverged):
        gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    name, (status, reason) = recorder.calls[-1]
    assert (name, status) == ("end", "diverged")
    assert "gradient norm" in reason


class FromStep3:
    """A plugin that calls a function after every step from step 3 on."""

    def __init__(self, call: Any):
        self.call = call

    @gptzoo.hookimpl
    def gptzoo_step(self, run: gptzoo.RunView, model: Any, row: Mapping[str, Any]) -> None:
        if row["step"] >= 3:
            self.call(run, model, row)


def _raise(run: Any, model: Any, row: Any) -> None:
    raise ValueError("a bug")


def _stop(run: Any, model: Any, row: Any) -> None:
    raise StopRun(f"stopped at step {row['step']}")


def _change_weights(run: Any, model: Any, row: Any) -> None:
    with torch.no_grad():
        next(model.parameters()).mul_(0.5)


def _inspect(run: Any, model: Any, row: Any) -> None:
    """Do everything that inspection may need, and restore nothing."""
    torch.manual_seed(row["step"])
    model.eval()
    tokens = torch.randint(model.spec.vocab_size, (2, 8))
    _, loss = model(tokens, tokens)
    loss.backward()


def test_a_hook_that_raises_is_reported_once_and_not_called_again(
    fresh_registry: Any,
    run_spec: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    recorder: HookRecorder,
) -> None:
    add_plugin(FromStep3(_raise), "faulty")
    gptzoo.train(run_spec, tmp_path / "run")
    said = capsys.readouterr().err
    assert said.count("plugin 'faulty': hook gptzoo_step raised ValueError: a bug") == 1
    assert recorder.calls[-1] == ("end", ("done", None))


def test_a_hook_that_raises_stop_run_ends_the_run(
    fresh_registry: Any, run_spec: dict[str, Any], tmp_path: Path
) -> None:
    add_plugin(FromStep3(_stop))
    with pytest.raises(StopRun, match="stopped at step 3"):
        gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status == {"status": "failed", "reason": "StopRun: stopped at step 3"}


def test_a_hook_that_inspects_the_model_changes_no_bit_of_a_run(
    run_spec: dict[str, Any], tmp_path: Path, fresh_registry: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    gptzoo.train(run_spec, tmp_path / "plain")
    add_plugin(FromStep3(_inspect))
    gptzoo.train(run_spec, tmp_path / "inspected")
    assert_same_run(tmp_path / "plain", tmp_path / "inspected")
    assert "plugin" not in capsys.readouterr().err


def test_a_hook_that_changes_weights_is_reported_once(
    run_spec: dict[str, Any], tmp_path: Path, fresh_registry: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    add_plugin(FromStep3(_change_weights))
    gptzoo.train(run_spec, tmp_path / "run")
    assert capsys.readouterr().err.count("plugin 'example': a hook has changed weights") == 1


def test_hooks_cannot_change_a_row(run_spec: dict[str, Any], tmp_path: Path, fresh_registry: Any, capsys: Any) -> None:
    add_plugin(FromStep3(lambda run, model, row: row.update({"train/loss": 0.0})), "faulty")
    gptzoo.train(run_spec, tmp_path / "run")
    assert "plugin 'faulty': hook gptzoo_step raised AttributeError" in capsys.readouterr().err


def test_an_unknown_hook_is_rejected_with_a_list_of_hooks(fresh_registry: Any) -> None:
    class Misspelt:
        @gptzoo.hookimpl
        def gptzoo_stepp(self, row: Any) -> None:
            pass

    with pytest.raises(PluginError, match=r"gptzoo_stepp.*known hooks: .*gptzoo_step.*gptzoo_run_end"):
        add_plugin(Misspelt())
    assert fresh_registry.hook_relays == [w for w in fresh_registry.hook_relays if w[0].plugin == "builtin"]
