"""The hooks that a plugin can implement, and the marker `hookimpl`.

A plugin offers components, observes runs, or both. Built-in components use the same hook (`gptzoo.builtin`).
docs/watching.md describes the hooks of a run.

A package announces its plugin, a module or object with hook implementations, as an entry point:

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

    They are admitted together or not at all. If one is invalid, the whole plugin is refused, and `gptzoo plugins`
    shows the reason: its name is taken, it is not a component, or it does not derive from the base class of its kind.
    """
    return ()


@hookspec
def gptzoo_left_out() -> Mapping[str, str]:
    """Return components that this plugin does not offer although users may expect them, as `kind:type`, with reasons.

    A spec that names one gets the reason in its error message. A package that offers the components of a library, for
    example, leaves out those that cannot work here.
    """
    return {}


# The hooks of a run are called in its main process. An implementation declares only the arguments that it uses. It may
# read the model and run it: torch's random state, gradients and training mode are restored afterwards, and a change of
# weights is reported. If a hook raises, the error is reported and the plugin's hooks are not called again, except that
# `gptzoo.StopRun` ends the run.


@hookspec
def gptzoo_run_start(run: gptzoo.RunView, model: gptzoo.Architecture) -> None:
    """Observe the start of a run. `run.resume_step` is -1 for a new run, else the step from which it resumes."""


@hookspec
def gptzoo_step(run: gptzoo.RunView, model: gptzoo.Architecture, row: Mapping[str, Any]) -> None:
    """Observe an optimizer step. `row` is its row of metrics.jsonl: `step`, `train/loss`, `lr`, `grad_norm`, …"""


@hookspec
def gptzoo_eval(run: gptzoo.RunView, model: gptzoo.Architecture, row: Mapping[str, Any]) -> None:
    """Observe an evaluation. `row` has `val/loss`, …

    It is called after `gptzoo_step` with the same row; before step 1 there is no `gptzoo_step`.
    """


@hookspec
def gptzoo_checkpoint(run: gptzoo.RunView, model: gptzoo.Architecture, step: int, folder: Path) -> None:
    """Observe a checkpoint of `step`. `folder` is complete."""


@hookspec
def gptzoo_run_end(run: gptzoo.RunView, model: gptzoo.Architecture, status: str, reason: str | None) -> None:
    """Observe the end of a run.

    `status` is `done` or `paused`, or with a `reason` `interrupted`, `diverged` or `failed`.
    """
