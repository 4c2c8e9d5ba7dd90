"""Who made the parts of a spec that gptzoo wrote: kept in the file itself, and checked when it is read.

A written spec has beside its fields the key `$components`: for each component its place, its kind and type, the
distribution and version that it came from, and the version of its options. A spec written by hand needs none of it.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from gptzoo import registry
from gptzoo.component import Component, SpecModel, reason_of
from gptzoo.errors import Problem, SpecError, VersionWarning
from gptzoo.spec.named_components import named_parts

KEY = "$components"


class _Maker(SpecModel):
    """One entry of `$components`."""

    path: str
    kind: str
    type: str
    distribution: str
    version: str
    config_version: int


def stamped(spec: SpecModel) -> dict[str, Any]:
    """The resolved spec as JSON, with who made each of its components."""
    makers = []
    for part in named_parts(spec):
        component = part.config.component
        maker = _Maker(
            path=part.path,
            kind=component.kind,
            type=part.config.type,
            distribution=part.origin.distribution,
            version=part.origin.version,
            config_version=component.version,
        )
        makers.append(maker.model_dump())
    return {KEY: makers, **spec.model_dump(mode="json")}


def unstamped(data: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The spec without `$components`, its options migrated to the versions that are installed.

    Raises SpecError when a component is not there, naming the package that it is in, and when it is older here than
    the options in the spec. Warns, with VersionWarning, of what came from another version.
    """
    data = dict(data)
    if KEY not in data:
        return data
    makers = _read_makers(data.pop(KEY), source)
    problems, changes = [], []
    # From the inside out, so that a migration sees what it nests as it is now.
    for maker in sorted(makers, key=lambda maker: -maker.path.count(".")):
        holder, key = _place(data, maker.path)
        config = None if holder is None else holder[key]
        if not isinstance(config, dict) or config.get("type") != maker.type:
            continue  # somebody has put another component there since
        component = registry.current().of_kind(maker.kind).get(maker.type)
        if component is None:
            problems.append(Problem(source, maker.path, _missing(maker)))
        elif maker.config_version > component.version:
            problems.append(Problem(source, maker.path, _too_new(maker, component)))
        else:
            now = (
                component.migrate(config, maker.config_version) if maker.config_version < component.version else config
            )
            holder[key] = now
            changes += [(maker, component, change) for change in _changes(maker, component, config, now)]
    if problems:
        raise SpecError(sorted(problems, key=lambda problem: problem.path))
    _warn(source, makers, changes)
    return data


def _read_makers(entries: Any, source: str) -> list[_Maker]:
    if not isinstance(entries, list):
        raise SpecError([Problem(source, f"$.{KEY}", "should be a list; gptzoo writes it, leave it out in your own")])
    try:
        return [_Maker.model_validate(entry) for entry in entries]
    except ValidationError as error:
        reason = reason_of(error.errors(include_url=False)[0])
        raise SpecError(
            [Problem(source, f"$.{KEY}", f"{reason}; gptzoo writes it, leave it out in your own")]
        ) from None


def _place(data: Any, path: str) -> tuple[Any, Any]:
    """What holds the value at `path` (`$.ffn[0].activation`), and its key there; (None, None) if nothing does."""
    keys: list[Any] = [int(index) if index else name for name, index in re.findall(r"\.(\w+)|\[(\d+)\]", path)]
    holder: Any = None
    for key in keys:
        holder, data = data, _item(data, key)
        if data is None:
            return None, None
    return (holder, keys[-1]) if keys else (None, None)


def _item(data: Any, key: Any) -> Any:
    if isinstance(data, dict):
        return data.get(key)
    if isinstance(data, list) and isinstance(key, int) and key < len(data):
        return data[key]
    return None


def _missing(maker: _Maker) -> str:
    wanted = f"{maker.distribution} {maker.version}".strip()
    if maker.distribution.startswith("file "):
        return f"{maker.kind} {maker.type!r} came from {wanted}: give that file with --plugin"
    try:
        registry.current().get(maker.kind, maker.type)
    except LookupError as error:
        why = error.args[0]
    return f"{maker.kind} {maker.type!r} came from {wanted}: pip install {maker.distribution}  ({why})"


def _too_new(maker: _Maker, component: type[Component]) -> str:
    here = registry.current().origin(component)
    return (
        f"the options of {maker.kind} {maker.type!r} are of version {maker.config_version}, written by "
        f"{maker.distribution} {maker.version}; {here} knows version {component.version}: pip install -U "
        f"{maker.distribution}"
    )


def _changes(maker: _Maker, component: type[Component], before: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """What is different about a component's options since the spec was written."""
    if maker.config_version < component.version:
        yield f"its options were migrated from version {maker.config_version} to {component.version}"
    for name in component.Config.model_fields.keys() - now.keys() - {"type"}:
        yield f"{name!r} is new and takes its default"
    for name in before.keys() - component.Config.model_fields.keys():
        yield f"{name!r} is no longer an option"


def _warn(source: str, makers: list[_Maker], changes: list[tuple[_Maker, type[Component], str]]) -> None:
    """One warning for each distribution that is here in another version."""
    here = {maker.distribution: maker for maker in makers}
    for distribution, maker in sorted(here.items()):
        component = registry.current().of_kind(maker.kind).get(maker.type)
        if component is None:
            continue
        origin = registry.current().origin(component)
        if (origin.distribution, origin.version) == (distribution, maker.version):
            continue
        told = [
            f"{owner.kind} {owner.type!r}: {what}" for owner, _, what in changes if owner.distribution == distribution
        ]
        warnings.warn(
            f"{source}: written with {distribution} {maker.version}, read with {origin}"
            + (f"; {'; '.join(dict.fromkeys(told))}" if told else "; the options are the same"),
            VersionWarning,
            stacklevel=2,
        )
