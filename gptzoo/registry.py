"""Which components there are, where each came from, and which plugins were refused and why.

Discovery walks the entry points one by one, because pluggy's own loader lets one broken plugin take all down. A plugin
is tried whole in a pluggy manager of its own; only when everything that it offers is admissible does the registry
change. Specs and checkpoints name components by type and can never cause an import.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pluggy

from gptzoo import __version__, hooks
from gptzoo.component import Component, did_you_mean
from gptzoo.errors import PluginError

BUILTIN = "gptzoo.builtin"  # entry point of the built-in components
_NAME = re.compile(r"[a-z][a-z0-9_.\-]*")
_HOOKS = [name for name in vars(hooks) if name.startswith("gptzoo_")]


@dataclass(frozen=True)
class Origin:
    """Who brought a component: the plugin's name and the distribution and version that it is part of."""

    plugin: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}".strip()


@dataclass(frozen=True)
class Quarantined:
    """A plugin that was refused whole, and why."""

    origin: Origin
    reason: str


class Registry:
    """Components by kind and name. `admit` is the only way in."""

    def __init__(self) -> None:
        self._classes: dict[str, dict[str, type[Component]]] = {}
        self._origins: dict[type[Component], Origin] = {}
        self._bases: dict[str, type[Component]] = {}
        self.plugins: list[Origin] = []
        self.watchers: list[tuple[Origin, Any]] = []  # the hooks of each plugin, to be called at the moments of a run
        self.quarantined: list[Quarantined] = []
        self.disabled: list[Origin] = []

    # ------------------------------------------------------------------ looking up

    @property
    def kinds(self) -> list[str]:
        return sorted(self._classes)

    def of_kind(self, kind: str) -> dict[str, type[Component]]:
        """All components of a kind by type name, sorted."""
        return dict(sorted(self._classes.get(kind, {}).items()))

    def origin(self, component: type[Component]) -> Origin:
        return self._origins[component]

    def components_of(self, plugin: Origin) -> list[type[Component]]:
        return [component for component, origin in self._origins.items() if origin == plugin]

    @property
    def files(self) -> list[Path]:
        """The Python files that plugins were loaded from on purpose: another process needs them too."""
        return [Path(o.distribution.removeprefix("file ")) for o in self.plugins if o.distribution.startswith("file ")]

    def get(self, kind: str, name: str) -> type[Component]:
        """The component class; raises LookupError whose text names the nearest match, all known, and who is missing."""
        known = self.of_kind(kind)
        if name in known:
            return known[name]
        reason = f"no {kind} named {name!r}{did_you_mean(name, known)}  (known: {', '.join(known) or 'none'})"
        for bad in self.quarantined:
            reason += f"; plugin {bad.origin.plugin!r} ({bad.origin}) is quarantined: {bad.reason}"
        if self.disabled:
            reason += f"; GPTZOO_PLUGINS disables {', '.join(repr(origin.plugin) for origin in self.disabled)}"
        raise LookupError(reason)

    # ------------------------------------------------------------------ coming in

    def admit(self, plugin: object, origin: Origin) -> None:
        """Take in all that a plugin offers, or raise PluginError and leave the registry as it was."""
        manager = _tried(plugin)
        offered = _offered(manager)
        admitted: dict[tuple[str, str], type[Component]] = {}
        for component in offered:
            self._check(component)
            key = (component.kind, component.name)
            owner = self._classes.get(component.kind, {}).get(component.name) or admitted.get(key)
            if owner is component and owner in self._origins and self._origins[owner] == origin:
                continue  # the same plugin, registered twice
            if owner is not None:
                holder = self._origins.get(owner, origin)
                raise PluginError(
                    f"{component.kind} {component.name!r} is taken: registered by plugin {holder.plugin!r} ({holder}), "
                    f"and again by plugin {origin.plugin!r} ({origin})"
                )
            admitted[key] = component
        for (kind, name), component in admitted.items():
            self._bases.setdefault(kind, _base_of(component))
            self._classes.setdefault(kind, {})[name] = component
            self._origins[component] = origin
        if origin not in self.plugins:
            self.plugins.append(origin)
            self.watchers.append((origin, manager.hook))

    def _check(self, component: Any) -> None:
        if not (isinstance(component, type) and issubclass(component, Component)):
            raise PluginError(f"gptzoo_components() offers {component!r}, which is not a subclass of a component class")
        title = component.__qualname__
        if not component.kind:
            raise PluginError(
                f"{title} has no kind; derive it from the base class of a kind, or set `kind` on a base of its own"
            )
        name = vars(component).get("name")
        if not (isinstance(name, str) and _NAME.fullmatch(name)):
            raise PluginError(
                f"{title} needs a class attribute `name`: lower-case letters, digits and _ . - ({component.name!r})"
            )
        base = self._bases.get(component.kind)
        if base is not None and not issubclass(component, base):
            raise PluginError(
                f"{title} says that its kind is {component.kind!r}, but does not derive from {base.__qualname__}"
            )

    def try_admit(self, load: Any, origin: Origin) -> None:
        """Import and admit a plugin; whatever it does, at worst it is quarantined."""
        try:
            self.admit(load(), origin)
        except (Exception, SystemExit) as error:
            self.quarantined.append(Quarantined(origin, _reason(error)))

    def load_file(self, path: str | os.PathLike[str]) -> None:
        """Import the plugin in a local Python file, because somebody asked for exactly that; raises PluginError."""
        file = Path(path)
        if not file.is_file():
            raise PluginError(f"{file}: no such file; --plugin takes a Python file with a gptzoo_components() hook")
        file = file.resolve()
        origin = Origin(plugin=file.stem, distribution=f"file {file}", version="")
        if origin in self.plugins:
            return
        module_name = "gptzoo_plugin_" + re.sub(r"\W", "_", str(file))  # two files may share a stem
        spec = importlib.util.spec_from_file_location(module_name, file)
        if spec is None or spec.loader is None:
            raise PluginError(f"{file}: not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses and pydantic look up the module of a class
        try:
            spec.loader.exec_module(module)
            self.admit(module, origin)
        except (Exception, SystemExit) as error:
            del sys.modules[spec.name]
            raise PluginError(f"{file.name}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """What went wrong, in one line."""
    if isinstance(error, PluginError):
        return " ".join(str(error).split())
    text = " ".join(f"{type(error).__name__}: {error}".split())
    own = (os.path.dirname(__file__), os.path.dirname(pluggy.__file__), "<")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(own)]
    return f"{text} ({os.path.basename(frames[-1].filename)}, line {frames[-1].lineno})" if frames else text


def _tried(plugin: object) -> pluggy.PluginManager:
    """The plugin in a manager of its own: pluggy keeps half of a registration that fails."""
    manager = pluggy.PluginManager("gptzoo")
    manager.add_hookspecs(hooks)
    try:
        manager.register(plugin)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        if unknown := [name for name in vars(manager.hook) if name.startswith("gptzoo_") and name not in _HOOKS]:
            raise PluginError(
                f"unknown hook {unknown[0]!r}{did_you_mean(unknown[0], _HOOKS)}  (known hooks: {', '.join(_HOOKS)})"
            ) from None
        raise PluginError(f"{error}  (known hooks: {', '.join(_HOOKS)})") from None
    if not any(getattr(manager.hook, name).get_hookimpls() for name in _HOOKS):
        raise PluginError(
            "it implements no gptzoo hook; is the function gptzoo_components marked with @gptzoo.hookimpl?"
        )
    return manager


def _offered(manager: pluggy.PluginManager) -> list[Any]:
    """The components that a plugin offers; none where it only watches runs."""
    if not manager.hook.gptzoo_components.get_hookimpls():
        return []
    offers = manager.hook.gptzoo_components()
    if not offers:  # pluggy leaves out what returns None
        raise PluginError("gptzoo_components() returns None; it should return a list of component classes")
    for offer in offers:
        if not isinstance(offer, Iterable):
            raise PluginError(f"gptzoo_components() returns {offer!r}; it should return a list of component classes")
    return [component for offer in offers for component in offer]


def _base_of(component: type[Component]) -> type[Component]:
    """The class that introduced the component's kind."""
    return [base for base in component.__mro__ if vars(base).get("kind") == component.kind][-1]


# ---------------------------------------------------------------------- the registry in use

_current: Registry | None = None


def discover(selection: str | None = None) -> Registry:
    """A registry with the built-ins and every installed plugin that `selection` (GPTZOO_PLUGINS) lets in."""
    registry = Registry()
    if selection is None:
        selection = os.environ.get("GPTZOO_PLUGINS", "")
    wanted = {name.strip() for name in selection.split(",") if name.strip()}
    entries = sorted(importlib.metadata.entry_points(group=hooks.ENTRY_POINT_GROUP), key=lambda entry: entry.name)
    builtin = next((entry for entry in entries if entry.value == BUILTIN), None)
    if builtin is None:
        raise PluginError(
            "the built-in components are not announced: the package metadata of gptzoo has no entry point "
            f"{BUILTIN!r}. Install gptzoo (again) with pip, also from a clone: pip install -e ."
        )
    registry.admit(builtin.load(), Origin("builtin", "gptzoo", __version__))
    entries = [entry for entry in entries if entry.value != BUILTIN]
    for entry in entries:
        origin = _origin(entry)
        if wanted and entry.name not in wanted and origin.distribution not in wanted:
            registry.disabled.append(origin)
        else:
            registry.try_admit(entry.load, origin)
    installed = {entry.name for entry in entries} | {_origin(entry).distribution for entry in entries}
    for name in sorted(wanted - installed - {"none"}):
        reason = f"GPTZOO_PLUGINS names it, but no installed package provides it{did_you_mean(name, installed)}"
        registry.quarantined.append(Quarantined(Origin(name, "not installed", ""), reason))
    return registry


def _origin(entry: importlib.metadata.EntryPoint) -> Origin:
    """Who announces an entry point; a package that is half removed may not know its own name."""
    try:
        name, version = (entry.dist.name, entry.dist.version) if entry.dist else ("", "")
    except (FileNotFoundError, KeyError):  # newer Pythons raise where older ones say None, each another
        name = version = ""
    return Origin(entry.name, name or "?", version or "")


def current() -> Registry:
    """The registry in use; the first call discovers what is installed."""
    global _current
    if _current is None:
        _current = discover()
    return _current


@contextlib.contextmanager
def use(registry: Registry) -> Iterator[Registry]:
    """Make another registry the current one inside a `with` block."""
    global _current
    before, _current = _current, registry
    try:
        yield registry
    finally:
        _current = before


def registered(kind: str) -> dict[str, type[Component]]:
    """The components of a kind by name: what an ablation script enumerates."""
    return current().of_kind(kind)


def load_plugin(file: str | os.PathLike[str]) -> None:
    """Load the components in a local Python file, as `--plugin` does. Raises PluginError."""
    current().load_file(file)
