"""Helpers for tests of runs: metrics without timings, comparison of two runs, and faults at a chosen step."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gptzoo.training.run.verify_resume import MACHINE_METRICS, differences
from gptzoo.training.step.train_step import Gradient, TrainStep
from gptzoo.training.trainer import Trainer


class Killed(BaseException):
    """Ends a run like a SIGKILL: nothing catches it, and nothing is saved."""


def rows(run: Path) -> list[dict[str, Any]]:
    """Return the metrics of a run, without those that depend on the clock or the machine."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in MACHINE_METRICS} for line in lines]


def assert_same_run(a: Path, b: Path) -> None:
    """Compare weights, averages, optimizer state, train state and metrics bit by bit."""
    assert list(differences(a, b)) == []


def before_step(patch: pytest.MonkeyPatch, call: Callable[[Trainer], object]) -> None:
    """Call `call(trainer)` before each training step."""
    original = Trainer._train_on

    def train_on(self: Trainer, micro_batches: Any) -> Any:
        call(self)
        return original(self, micro_batches)

    patch.setattr(Trainer, "_train_on", train_on)


def die_at(patch: pytest.MonkeyPatch, step: int) -> None:
    """Make the next run die without saving, when it begins the training step after `step`."""

    def die(trainer: Trainer) -> None:
        if trainer.train_state.step == step:
            raise Killed

    before_step(patch, die)


def overflow_at(patch: pytest.MonkeyPatch, *steps: int) -> None:
    """Make the gradient infinite in the training steps after these steps."""
    original = TrainStep.accumulate_gradients

    def accumulate_gradients(self: TrainStep, micro_batches: Any, step: int) -> Gradient:
        gradient = original(self, micro_batches, step)
        return replace(gradient, norm=float("inf")) if step in steps else gradient

    patch.setattr(TrainStep, "accumulate_gradients", accumulate_gradients)
