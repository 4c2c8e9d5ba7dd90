"""Provenance of the components in a spec: recorded in files that gptzoo writes, checked when they are read.

A written spec has an extra key `$components`. For each component it holds the place, kind and type, the distribution
and version that provided it, and the version of its options. Specs written by hand do not need it.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from gptzoo import registry
from gptzoo.component import Component
from gptzoo.errors import Problem, SpecError, VersionWarning
from gptzoo.spec.components_in_spec import components_in
from gptzoo.spec.strict_json import Json
from gptzoo.strict_model import StrictModel, reason_of

COMPONENTS_KEY = "$components"

_OMIT = "gptzoo writes this key; omit it in your own files"


class _ComponentRecord(StrictModel):
    """One entry of `$components`."""

    path: str
    """Place of the component in the spec, such as `$.ffn.activation`."""
    kind: str
    """Kind of the component."""
    type: str
    """Name of the component."""
    distribution: str
    """Name of the distribution that provided it."""
    version: str
    """Version of the distribution."""
    config_version: int
    """Version of the component's options."""


def add_provenance(spec: StrictModel) -> dict[str, Any]:
    """Return the resolved spec as JSON, with `$components`."""
    records = []
    for named in components_in(spec):
        component = named.config.component
        record = _ComponentRecord(
            path=named.path,
            kind=component.kind,
            type=named.config.type,
            distribution=named.origin.distribution,
            version=named.origin.version,
            config_version=component.version,
        )
        records.append(record.model_dump())
    return {COMPONENTS_KEY: records, **spec.model_dump(mode="json")}


def strip_provenance(data: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the spec without `$components`, with options migrated to the installed versions.

    Raises SpecError if a component is not installed, or if its installed version is older than the options in the spec.
    Issues a VersionWarning for each distribution whose version has changed.
    """
    data = dict(data)
    if COMPONENTS_KEY not in data:
        return data
    records = _read_records(data.pop(COMPONENTS_KEY), source)
    problems, changes = [], []
    # Nested components come first, so that a migration sees the current options of the components inside.
    for record in sorted(records, key=lambda record: -record.path.count(".")):
        parent, key = _find(data, record.path)
        config = None if parent is None else parent[key]
        if not isinstance(config, dict) or config.get("type") != record.type:
            continue  # the file was edited: another component has taken its place
        component = registry.current().of_kind(record.kind).get(record.type)
        if component is None:
            problems.append(Problem(source, record.path, _not_installed(record)))
        elif record.config_version > component.version:
            problems.append(Problem(source, record.path, _installed_too_old(record, component)))
        else:
            outdated = record.config_version < component.version
            migrated = component.migrate(config, record.config_version) if outdated else config
            parent[key] = migrated
            changes += [(record, change) for change in _changes(record, component, config, migrated)]
    if problems:
        raise SpecError(sorted(problems, key=lambda problem: problem.path))
    _warn_of_versions(source, records, changes)
    return data


def keep_recorded_options(
    spec: StrictModel, recorded: Mapping[str, Any], source: str
) -> tuple[dict[str, Any], list[str]]:
    """Return the JSON of a spec that continues what an older version recorded, and a note for each option it keeps.

    An option that is newer than the record has the value that `Component.migrate` gives the record, unless the spec
    sets another one than the default. So a spec that was written before the option existed keeps its meaning.

    recorded: the recorded spec, with `$components`.
    """
    data, notes = spec.model_dump(mode="json"), []
    for record in _read_records(recorded.get(COMPONENTS_KEY, []), source):
        component = registry.current().of_kind(record.kind).get(record.type)
        before, now = (parent and parent[key] for parent, key in (_find(of, record.path) for of in (recorded, data)))
        if component is None or record.config_version >= component.version:
            continue
        if not isinstance(before, dict) or not isinstance(now, dict) or now.get("type") != record.type:
            continue
        migrated = component.migrate(before, record.config_version)
        for name, field in component.Config.model_fields.items():
            is_new = name not in before and name in migrated
            if is_new and now[name] != migrated[name] and now[name] == field.get_default(call_default_factory=True):
                now[name] = migrated[name]
                notes.append(
                    f"{record.path}.{name}: stays {migrated[name]!r}, as in the older version that started this run"
                )
    return data, notes


def _read_records(entries: Json, source: str) -> list[_ComponentRecord]:
    if not isinstance(entries, list):
        raise SpecError([Problem(source, f"$.{COMPONENTS_KEY}", f"should be a list; {_OMIT}")])
    try:
        return [_ComponentRecord.model_validate(entry) for entry in entries]
    except ValidationError as error:
        reason = reason_of(error.errors(include_url=False)[0])
        raise SpecError([Problem(source, f"$.{COMPONENTS_KEY}", f"{reason}; {_OMIT}")]) from None


def _find(data: Json, path: str) -> tuple[Any, Any]:
    """Return the parent of the value at `path` (`$.ffn[0].activation`) and its key there, or (None, None)."""
    keys: list[Any] = [int(index) if index else name for name, index in re.findall(r"\.(\w+)|\[(\d+)\]", path)]
    parent: Json = None
    for key in keys:
        parent, data = data, _item(data, key)
        if data is None:
            return None, None
    return (parent, keys[-1]) if keys else (None, None)


def _item(data: Json, key: str | int) -> Json:
    if isinstance(data, dict):
        return data.get(key)
    if isinstance(data, list) and isinstance(key, int) and key < len(data):
        return data[key]
    return None


def _not_installed(record: _ComponentRecord) -> str:
    provider = f"{record.distribution} {record.version}".strip()
    if record.distribution.startswith("file "):
        return f"{record.kind} {record.type!r} was provided by {provider}. Load that file with --plugin."
    try:
        registry.current().get(record.kind, record.type)
    except LookupError as error:
        reason = error.args[0]
    return (
        f"{record.kind} {record.type!r} was provided by {provider}. Run pip install {record.distribution}.  ({reason})"
    )


def _installed_too_old(record: _ComponentRecord, component: type[Component]) -> str:
    installed = registry.current().origin(component)
    return (
        f"the options of {record.kind} {record.type!r} have version {record.config_version}, written by "
        f"{record.distribution} {record.version}; the installed {installed} supports version {component.version}. "
        f"Run pip install -U {record.distribution}."
    )


def _changes(
    record: _ComponentRecord, component: type[Component], recorded: dict[str, Any], migrated: dict[str, Any]
) -> Iterator[str]:
    """Describe the changes of a component's options since the spec was written."""
    label = f"{record.kind} {record.type!r}"
    if record.config_version < component.version:
        yield f"{label}: its options were migrated from version {record.config_version} to {component.version}"
    for name in component.Config.model_fields.keys() - migrated.keys() - {"type"}:
        yield f"{label}: {name!r} is new and takes its default"
    for name in recorded.keys() - component.Config.model_fields.keys():
        yield f"{label}: {name!r} is no longer an option"


def _warn_of_versions(
    source: str, records: list[_ComponentRecord], changes: list[tuple[_ComponentRecord, str]]
) -> None:
    """Issue one warning for each distribution whose installed version differs from the recorded one."""
    by_distribution = {record.distribution: record for record in records}
    for distribution, record in sorted(by_distribution.items()):
        component = registry.current().of_kind(record.kind).get(record.type)
        if component is None:
            continue
        origin = registry.current().origin(component)
        if (origin.distribution, origin.version) == (distribution, record.version):
            continue
        changed = dict.fromkeys(change for owner, change in changes if owner.distribution == distribution)
        warnings.warn(
            f"{source}: written with {distribution} {record.version}, read with {origin}; "
            + ("; ".join(changed) if changed else "the options are the same"),
            VersionWarning,
            stacklevel=2,
        )
