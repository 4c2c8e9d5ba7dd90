"""The hooks of plugins, called at the moments of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from gptzoo import hooks, registry
from gptzoo.errors import StopRun
from gptzoo.registry import Origin
from gptzoo.training.run.run_view import RunView

MOMENTS = [name for name in vars(hooks) if name.startswith("gptzoo_") and name != "gptzoo_components"]


class HookCaller:
    """The hooks that still work. One that raises anything but `StopRun` is told of, and its plugin left out."""

    def __init__(self, run: RunView, model: nn.Module, report: Callable[[str], None]):
        self.run, self.model, self.report = run, model, report
        self.plugins: dict[Origin, Any] = dict(registry.current().watchers)
        self.meddling: set[Origin] = set()  # whose hooks have changed the model
        self.tensors = [*model.parameters(), *model.buffers()]
        device = self.tensors[0].device
        self.devices = [device] if device.type == "cuda" else []

    @property
    def any(self) -> bool:
        """Whether a plugin that is left has a hook."""
        return any(getattr(own, name).get_hookimpls() for own in self.plugins.values() for name in MOMENTS)

    def tell(self, moment: str, **facts: Any) -> None:
        """Call the hook of this name of each plugin that has it."""
        for origin, own in tuple(self.plugins.items()):
            hook = getattr(own, moment)
            if not hook.get_hookimpls():
                continue
            try:
                with self._undisturbed(origin):
                    hook(run=self.run, model=self.model, **facts)
            except StopRun:
                raise
            except Exception as error:
                del self.plugins[origin]
                self.report(
                    f"plugin {origin.plugin!r}: its hook {moment} raised {type(error).__name__}: {error}; "
                    "the run goes on without its hooks"
                )

    @contextlib.contextmanager
    def _undisturbed(self, origin: Origin) -> Iterator[None]:
        """Put back what a hook may have touched in passing, and tell of what it has changed for good."""
        before = self._versions()
        with torch.random.fork_rng(self.devices):
            try:
                yield
            finally:
                self.model.train()
                for tensor in self.tensors:
                    tensor.grad = None
        if self._versions() != before and origin not in self.meddling:
            self.meddling.add(origin)
            self.report(
                f"plugin {origin.plugin!r}: a hook of it has changed weights or buffers of the model; from here on the "
                "run is not what its spec alone describes"
            )

    def _versions(self) -> int:
        """How often tensors of the model were written in place, all together; torch counts it."""
        return sum(tensor._version for tensor in self.tensors)
