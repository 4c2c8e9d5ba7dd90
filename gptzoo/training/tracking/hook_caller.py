"""The caller of plugin hooks during a run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from pluggy import HookRelay
from torch import nn

from gptzoo import hooks, registry
from gptzoo.errors import StopRun
from gptzoo.registry import Origin
from gptzoo.training.run.run_view import RunView

_OTHER_HOOKS = ("gptzoo_components", "gptzoo_left_out")
RUN_HOOKS = [name for name in vars(hooks) if name.startswith("gptzoo_") and name not in _OTHER_HOOKS]


class HookCaller:
    """The caller of plugin hooks. A plugin whose hook raises anything but `StopRun` is not called again."""

    def __init__(self, run: RunView, model: nn.Module, report: Callable[[str], None]):
        self.run, self.model, self.report = run, model, report
        self.plugins: dict[Origin, HookRelay] = dict(registry.current().hook_relays)
        self.reported_changes: set[Origin] = set()  # plugins that have changed the model
        self.tensors = [*model.parameters(), *model.buffers()]
        device = self.tensors[0].device
        self.device_type = device.type if device.type != "cpu" else "cuda"
        self.devices = [device] if device.type != "cpu" else []

    @property
    def has_hooks(self) -> bool:
        """True if any of the plugins implements a hook of a run."""
        return any(getattr(relay, name).get_hookimpls() for relay in self.plugins.values() for name in RUN_HOOKS)

    def call(self, name: str, **arguments: object) -> None:
        """Call the hook of this name in every plugin that implements it."""
        for origin, relay in tuple(self.plugins.items()):
            hook = getattr(relay, name)
            if not hook.get_hookimpls():
                continue
            try:
                with self._isolated(origin):
                    hook(run=self.run, model=self.model, **arguments)
            except StopRun:
                raise
            except Exception as error:
                del self.plugins[origin]
                self.report(
                    f"plugin {origin.plugin!r}: hook {name} raised {type(error).__name__}: {error}. "
                    "The run continues without the plugin's hooks"
                )

    @contextlib.contextmanager
    def _isolated(self, origin: Origin) -> Iterator[None]:
        """Restore torch's generators, training mode and gradients after a hook, and report changes of the model."""
        n_writes_before = self._n_writes()
        with torch.random.fork_rng(self.devices, device_type=self.device_type):
            try:
                yield
            finally:
                self.model.train()
                for tensor in self.tensors:
                    tensor.grad = None
        if self._n_writes() != n_writes_before and origin not in self.reported_changes:
            self.reported_changes.add(origin)
            self.report(
                f"plugin {origin.plugin!r}: a hook has changed weights or buffers of the model. The spec alone no "
                "longer describes this run"
            )

    def _n_writes(self) -> int:
        """Return how often the model's tensors were written in place, by torch's version counters."""
        return sum(tensor._version for tensor in self.tensors)
