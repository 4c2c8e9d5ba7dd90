"""The checks that a plugin must pass before the registry admits its components."""

from __future__ import annotations

import inspect
import os
import re
import traceback
from collections.abc import Iterable
from typing import Any

import pluggy
from pluggy import HookRelay

from gptzoo import hooks
from gptzoo.component import Component
from gptzoo.errors import PluginError
from gptzoo.json_forms import children_of, type_without_json
from gptzoo.strict_model import did_you_mean

_HOOKS = [name for name in vars(hooks) if name.startswith("gptzoo_")]
_COMPONENT_NAME = re.compile(r"[a-z][a-z0-9_.\-]*")


def check_hooks(plugin: object) -> HookRelay:
    """Return the plugin's hooks. Raises PluginError if it implements none or an unknown one.

    The plugin is registered in a pluggy manager of its own, because pluggy keeps half of a failed registration.
    """
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
            "it implements no gptzoo hook. To register components, write: @gptzoo.hookimpl, and below it "
            "def gptzoo_components(): return [MyComponent]"
        )
    return manager.hook


def offered_components(hook_relay: HookRelay) -> list[object]:
    """Call the plugin's `gptzoo_components` and return its unchecked result. Raises PluginError if it is not a list."""
    if not hook_relay.gptzoo_components.get_hookimpls():
        return []
    results = hook_relay.gptzoo_components()
    if not results:  # pluggy drops a result of None
        raise PluginError("gptzoo_components() returned None; expected a list of component classes")
    for result in results:
        if not isinstance(result, Iterable):
            raise PluginError(f"gptzoo_components() returned {result!r}; expected a list of component classes")
    return [component for result in results for component in result]


def check_component(component: object, kind_bases: dict[str, type[Component]]) -> type[Component]:
    """Return a valid component class. Raises PluginError for any other object.

    `kind_bases` is the base class of each known kind.
    """
    if not (isinstance(component, type) and issubclass(component, Component)):
        raise PluginError(f"gptzoo_components() returned {component!r}, which is not a component class")
    title = component.__qualname__
    if not component.kind:
        raise PluginError(
            f"{title} has no kind. Derive it from the base class of a kind, or set `kind` on your own base class."
        )
    name = vars(component).get("name")
    if not (isinstance(name, str) and _COMPONENT_NAME.fullmatch(name)):
        raise PluginError(
            f"{title} needs a class attribute `name` of lower-case letters, digits and _ . -, got {component.name!r}"
        )
    base = kind_bases.get(component.kind)
    if base is not None and not issubclass(component, base):
        raise PluginError(f"{title} has kind {component.kind!r}, but does not derive from {base.__qualname__}")
    _check_options(component)
    if base is not None:
        _check_constructor(component, base)
        _check_methods(component, base)
    return component


def _check_constructor(component: type[Component], base: type[Component]) -> None:
    """Raise PluginError for a constructor that does not take the arguments of its kind."""
    if component.Config.build is not base.Config.build:
        return  # it has a way of its own to construct the component
    expected = list(inspect.signature(base.__init__).parameters.values())
    names = [p.name for p in expected if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty]
    if len(names) < 2:  # the kind leaves the constructor to its components
        return
    signature = inspect.signature(component.__init__)
    try:
        signature.bind(*names)
    except TypeError:
        arguments = ", ".join(names)
        raise PluginError(
            f"{component.__qualname__}.__init__ takes {signature}, and components of the kind {component.kind!r} are "
            f"constructed with ({arguments}). Write: def __init__({arguments}): "
            f"super().__init__({', '.join(names[1:])}); …"
        ) from None


def _check_methods(component: type[Component], base: type[Component]) -> None:
    """Raise PluginError for a method that cannot take the positional arguments of gptzoo's method of that name."""
    classes = [cls for cls in component.__mro__ if issubclass(cls, base)]
    ours = [cls for cls in reversed(classes) if cls.__module__.partition(".")[0] == "gptzoo"]
    for cls in classes:
        for name, method in vars(cls).items():
            first = next((other for other in ours if name in vars(other)), cls)
            if cls is first or name.startswith("_") or not inspect.isfunction(method):
                continue
            original, signature = inspect.signature(vars(first)[name]), inspect.signature(method)
            parameters = original.parameters.values()
            positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
            keywords = {p.name: None for p in parameters if p.kind is p.KEYWORD_ONLY and p.name in signature.parameters}
            try:
                signature.bind(*positional, **keywords)
            except TypeError:
                expected = inspect.Signature([p.replace(annotation=p.empty) for p in parameters])
                raise PluginError(
                    f"{cls.__qualname__}.{name} takes {signature}, and gptzoo calls it with the arguments of "
                    f"{first.__qualname__}.{name}. Write: def {name}{expected}"
                ) from None


def _check_options(component: type[Component]) -> None:
    """Raise PluginError for an option whose type has no JSON form: a run with it could not be read again."""
    schema: dict[str, Any] = {**component.Config.__pydantic_core_schema__}
    definitions: dict[str, Any] = {}
    if schema["type"] == "definitions":
        definitions = {definition["ref"]: definition for definition in schema["definitions"]}
        schema = schema["schema"]

    def resolve(node: dict[str, Any]) -> dict[str, Any]:
        resolved: dict[str, Any] = definitions.get(node["schema_ref"], node)
        return resolved

    while schema["type"] != "model-fields":
        if schema["type"] == "definition-ref":
            schema = resolve(schema)
        else:
            _, schema = next(iter(children_of(schema)))
    for option, field in schema["fields"].items():
        if found := type_without_json(field["schema"], resolve):
            raise PluginError(
                f"{component.kind} {component.name!r} ({component.__qualname__}): the option {option!r} has the type "
                f"{found}, which has no JSON form, so no spec could contain it. Use a type that JSON can hold, such as "
                "str or a list of numbers, and convert it in the component"
            )


def kind_base(component: type[Component]) -> type[Component]:
    """Return the base class that introduced the component's kind."""
    return [base for base in component.__mro__ if vars(base).get("kind") == component.kind][-1]


def one_line_reason(error: BaseException) -> str:
    """Describe an error of a plugin in one line, with the innermost line of code outside gptzoo and pluggy."""
    if isinstance(error, PluginError):
        return " ".join(str(error).split())
    text = " ".join(f"{type(error).__name__}: {error}".split())
    not_plugin = (os.path.dirname(__file__), os.path.dirname(pluggy.__file__), "<")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(not_plugin)]
    return f"{text} ({os.path.basename(frames[-1].filename)}, line {frames[-1].lineno})" if frames else text
