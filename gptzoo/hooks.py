"""The one door: what a plugin implements. Built-in components come in through it too (`gptzoo.builtin`).

A plugin offers components, watches runs, or both; docs/watching.md says how to watch.

A package announces its plugin, a module or an object with hook implementations, as an entry point:

    [project.entry-points.gptzoo]
    alibi = "gptzoo_alibi"

and in `gptzoo_alibi/__init__.py`:

    @gptzoo.hookimpl
    def gptzoo_components():
        return [Alibi]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import gptzoo

ENTRY_POINT_GROUP = "gptzoo"

hookspec = pluggy.HookspecMarker("gptzoo")
hookimpl = pluggy.HookimplMarker("gptzoo")


@hookspec
def gptzoo_components() -> Iterable[type[gptzoo.Component]]:
    """Return the component classes that this plugin offers.

    They are admitted together or not at all: when one is refused (its name is taken, it is no component, it does not
    derive from the base class of its kind), none is, and `gptzoo plugins` says why.
    """
    return ()


# The moments of a run, in its main process; a hook takes of these arguments what it wants. It may read the
# model, and run it. What it does to torch's random numbers, to gradients and to the training mode is undone; that it
# changes weights is told. One that raises is told of and its plugin left out; `gptzoo.StopRun` ends the run.


@hookspec
def gptzoo_run_start(run: gptzoo.RunView, model: gptzoo.Architecture) -> None:
    """A run begins, or goes on: `run.kept` is -1, or the step that it goes on from."""


@hookspec
def gptzoo_step(run: gptzoo.RunView, model: gptzoo.Architecture, row: Mapping[str, Any]) -> None:
    """An update was made; `row` is what metrics.jsonl has of it: `step`, `train/loss`, `lr`, `grad_norm`, …"""


@hookspec
def gptzoo_eval(run: gptzoo.RunView, model: gptzoo.Architecture, row: Mapping[str, Any]) -> None:
    """The model was evaluated, after `gptzoo_step` of the same row; at step 0 without one. `row` has `val/loss`, …"""


@hookspec
def gptzoo_checkpoint(run: gptzoo.RunView, model: gptzoo.Architecture, step: int, folder: Path) -> None:
    """A checkpoint of `step` was written; `folder` is whole."""


@hookspec
def gptzoo_run_end(run: gptzoo.RunView, model: gptzoo.Architecture, status: str, reason: str | None) -> None:
    """The run has ended: `done` or `paused`, or `interrupted`, `diverged` or `failed` for a `reason`."""
