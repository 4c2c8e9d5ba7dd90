"""The registry: all components by kind and name, with the plugins that provide them.

Entry points are loaded one at a time, because pluggy's own loader fails as a whole if one plugin fails. A plugin is
admitted completely or refused; `gptzoo.plugin_checks` decides. Specs and checkpoints refer to components by
name, so reading one never imports code.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pluggy import HookRelay

from gptzoo import __version__, hooks
from gptzoo.component import Component
from gptzoo.component_hints import unknown_component
from gptzoo.errors import PluginError
from gptzoo.plugin_checks import check_component, check_hooks, kind_base, offered_components, one_line_reason
from gptzoo.strict_model import did_you_mean

BUILTIN = "gptzoo.builtin"  # entry point of the built-in components
FILE_MODULE_PREFIX = "gptzoo_plugin_"  # of the names of modules that `load_file` imports


@dataclass(frozen=True)
class Origin:
    """The provider of a component: a plugin, with the name and version of its distribution."""

    plugin: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}".strip()


@dataclass(frozen=True)
class RefusedPlugin:
    """A plugin that was refused, with the reason."""

    origin: Origin
    reason: str


class Registry:
    """Components by kind and name. `admit` is the only way to add them."""

    def __init__(self) -> None:
        self._classes: dict[str, dict[str, type[Component]]] = {}
        self._origins: dict[type[Component], Origin] = {}
        self._kind_bases: dict[str, type[Component]] = {}
        self.plugins: list[Origin] = []
        self.hook_relays: list[tuple[Origin, HookRelay]] = []  # the hooks of each plugin
        self.refused: list[RefusedPlugin] = []
        self.disabled: list[Origin] = []  # by GPTZOO_PLUGINS
        self.file_sources: dict[Path, bytes] = {}  # the source of each plugin file, as it was loaded

    @property
    def kinds(self) -> list[str]:
        """All kinds, sorted."""
        return sorted(self._classes)

    def of_kind(self, kind: str) -> dict[str, type[Component]]:
        """Return all components of a kind by name, sorted."""
        return dict(sorted(self._classes.get(kind, {}).items()))

    def origin(self, component: type[Component]) -> Origin:
        """Return the provider of a component."""
        return self._origins[component]

    def components_of(self, plugin: Origin) -> list[type[Component]]:
        """Return the components of a plugin."""
        return [component for component, origin in self._origins.items() if origin == plugin]

    @property
    def files(self) -> list[Path]:
        """The plugin files loaded by `load_file`, which worker processes must load as well."""
        return [Path(o.distribution.removeprefix("file ")) for o in self.plugins if o.distribution.startswith("file ")]

    def get(self, kind: str, name: str) -> type[Component]:
        """Return a component class. The LookupError for an unknown name lists known names and unavailable plugins.

        For a name that a plugin leaves out, it says why.
        """
        known = self.of_kind(kind)
        if name in known:
            return known[name]
        for origin, hook_relay in self.hook_relays:
            for left_out in hook_relay.gptzoo_left_out():
                if left_out_reason := left_out.get(f"{kind}:{name}"):
                    raise LookupError(f"{kind} {name!r} is left out of {origin}: {left_out_reason}")
        reason = unknown_component(kind, name, known, {origin.distribution for origin in self.disabled})
        for plugin in self.refused:
            reason += f"; plugin {plugin.origin.plugin!r} ({plugin.origin}) was refused: {plugin.reason}"
        if self.disabled:
            reason += f"; GPTZOO_PLUGINS disables {', '.join(repr(origin.plugin) for origin in self.disabled)}"
        raise LookupError(reason)

    def admit(self, plugin: object, origin: Origin) -> None:
        """Add all components and hooks of a plugin. If one is invalid, raise PluginError and add nothing."""
        hook_relay = check_hooks(plugin)
        admitted: dict[tuple[str, str], type[Component]] = {}
        for offer in offered_components(hook_relay):
            component = check_component(offer, self._kind_bases)
            key = (component.kind, component.name)
            existing = self._classes.get(component.kind, {}).get(component.name) or admitted.get(key)
            if existing is component and self._origins.get(component) == origin:
                continue  # the same plugin is registered twice
            if existing is not None:
                owner = self._origins.get(existing, origin)
                raise PluginError(
                    f"{component.kind} {component.name!r} is taken: registered by plugin {owner.plugin!r} ({owner}), "
                    f"and again by plugin {origin.plugin!r} ({origin})"
                )
            admitted[key] = component
        for (kind, name), component in admitted.items():
            self._kind_bases.setdefault(kind, kind_base(component))
            self._classes.setdefault(kind, {})[name] = component
            self._origins[component] = origin
        if origin not in self.plugins:
            self.plugins.append(origin)
            self.hook_relays.append((origin, hook_relay))

    def admit_or_refuse(self, load: Callable[[], object], origin: Origin) -> None:
        """Import and admit a plugin. If that raises, add the plugin to `refused`."""
        try:
            self.admit(load(), origin)
        except (Exception, SystemExit) as error:
            self.refused.append(RefusedPlugin(origin, one_line_reason(error)))

    def load_file(self, path: str | os.PathLike[str]) -> None:
        """Import and admit the plugin in a Python file. Raises PluginError."""
        file = Path(path)
        if not file.is_file():
            raise PluginError(f"{file}: no such file. --plugin takes a Python file with a gptzoo_components() hook.")
        file = file.resolve()
        origin = Origin(plugin=file.stem, distribution=f"file {file}", version="")
        if origin in self.plugins:
            return
        # The module name contains the path, because two files may have the same name.
        module_name = FILE_MODULE_PREFIX + re.sub(r"\W", "_", str(file))
        spec = importlib.util.spec_from_file_location(module_name, file)
        if spec is None or spec.loader is None:
            raise PluginError(f"{file}: not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses and pydantic look up the module of a class
        try:
            source = file.read_bytes()
            spec.loader.exec_module(module)
            self.admit(module, origin)
            self.file_sources[file] = source
        except (Exception, SystemExit) as error:
            del sys.modules[spec.name]
            raise PluginError(f"{file.name}: {one_line_reason(error)}") from error


def discover(selection: str | None = None) -> Registry:
    """Return a registry with the built-in components and the installed plugins.

    `selection` lists the plugins or distributions to load, or is "none". Default: GPTZOO_PLUGINS, or all if unset.
    """
    registry = Registry()
    if selection is None:
        selection = os.environ.get("GPTZOO_PLUGINS", "")
    selected = {name.strip() for name in selection.split(",") if name.strip()}
    entries = sorted(importlib.metadata.entry_points(group=hooks.ENTRY_POINT_GROUP), key=lambda entry: entry.name)
    builtin = next((entry for entry in entries if entry.value == BUILTIN), None)
    if builtin is None:
        raise PluginError(
            f"the built-in components are missing: the package metadata of gptzoo has no entry point {BUILTIN!r}. "
            "Reinstall gptzoo with pip; in a clone: pip install -e ."
        )
    registry.admit(builtin.load(), Origin("builtin", "gptzoo", __version__))
    entries = [entry for entry in entries if entry.value != BUILTIN]
    for entry in entries:
        origin = _origin_of(entry)
        if selected and entry.name not in selected and origin.distribution not in selected:
            registry.disabled.append(origin)
        else:
            registry.admit_or_refuse(entry.load, origin)
    installed = {entry.name for entry in entries} | {_origin_of(entry).distribution for entry in entries}
    for name in sorted(selected - installed - {"none"}):
        reason = f"GPTZOO_PLUGINS names it, but no installed package provides it{did_you_mean(name, installed)}"
        registry.refused.append(RefusedPlugin(Origin(name, "not installed", ""), reason))
    return registry


def _origin_of(entry: importlib.metadata.EntryPoint) -> Origin:
    """Return the provider of an entry point. The metadata of a partially removed package may lack its name."""
    try:
        name, version = (entry.dist.name, entry.dist.version) if entry.dist else ("", "")
    except (FileNotFoundError, KeyError):  # Python versions differ: some raise one of these, some return None
        name = version = ""
    return Origin(entry.name, name or "?", version or "")


_current: Registry | None = None


def current() -> Registry:
    """Return the registry in use. The first call discovers the installed plugins."""
    global _current
    if _current is None:
        _current = discover()
    return _current


@contextlib.contextmanager
def use(registry: Registry) -> Iterator[Registry]:
    """Use another registry inside a `with` block."""
    global _current
    previous, _current = _current, registry
    try:
        yield registry
    finally:
        _current = previous


def registered(kind: str) -> dict[str, type[Component]]:
    """Return the registered components of a kind by name."""
    return current().of_kind(kind)


def load_plugin(file: str | os.PathLike[str]) -> None:
    """Load the components in a local Python file, as `--plugin` does. Raises PluginError."""
    current().load_file(file)
