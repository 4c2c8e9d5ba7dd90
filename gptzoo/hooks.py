"""The one door: what a plugin implements. Built-in components come in through it too (`gptzoo.builtin`).

A package announces its plugin, a module or an object with hook implementations, as an entry point:

    [project.entry-points.gptzoo]
    alibi = "gptzoo_alibi"

and in `gptzoo_alibi/__init__.py`:

    @gptzoo.hookimpl
    def gptzoo_components():
        return [Alibi]
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from gptzoo.component import Component

ENTRY_POINT_GROUP = "gptzoo"

hookspec = pluggy.HookspecMarker("gptzoo")
hookimpl = pluggy.HookimplMarker("gptzoo")


@hookspec
def gptzoo_components() -> Iterable[type[Component]]:
    """Return the component classes that this plugin offers.

    They are admitted together or not at all: when one is refused (its name is taken, it is no component, it does not
    derive from the base class of its kind), none is, and `gptzoo plugins` says why.
    """
    return ()
