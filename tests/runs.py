"""What tests of runs share: their metrics without the clock, whether two are one, and a death at a chosen step."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gptzoo.training import trainer as trainer_module
from gptzoo.training.run.verify_resume import CLOCKED, differences
from gptzoo.training.step.train_step import Gradient, Update


class Killed(BaseException):
    """Ends a run as a SIGKILL would: nothing catches it, nothing is saved."""


def rows(run: Path) -> list[dict[str, Any]]:
    """The metrics of a run without what depends on the clock."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in CLOCKED} for line in lines]


def assert_same_run(a: Path, b: Path) -> None:
    """Weights, averages, optimizer state, how far it is and every metric, bit by bit."""
    assert list(differences(a, b)) == []


def before_update(patch: pytest.MonkeyPatch, act: Any) -> None:
    """Call `act(trainer)` before each update."""
    original = trainer_module.Trainer._update

    def update(self: Any, parts: Any) -> Any:
        act(self)
        return original(self, parts)

    patch.setattr(trainer_module.Trainer, "_update", update)


def die_at(patch: pytest.MonkeyPatch, step: int) -> None:
    """Make the next trainer die, without a chance to save, when it begins the update after `step`."""

    def act(trainer: Any) -> None:
        if trainer.standing.step == step:
            raise Killed

    before_update(patch, act)


def overflow_at(patch: pytest.MonkeyPatch, *steps: int) -> None:
    """Make the gradient of the updates after these steps infinite."""
    original = Update.gradient

    def gradient(self: Update, parts: Any, step: int) -> Gradient:
        found = original(self, parts, step)
        return replace(found, norm=float("inf")) if step in steps else found

    patch.setattr(Update, "gradient", gradient)
