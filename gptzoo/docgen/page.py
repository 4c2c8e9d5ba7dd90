"""The Markdown page of a kind: its interface, and the registered components."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator

from gptzoo import registry
from gptzoo.component import Component
from gptzoo.docgen.describe import describe, docstring_of, select_components
from gptzoo.docgen.fields import describe_fields
from gptzoo.docgen.interface import (
    Method,
    component_bases,
    constructor_signature,
    declared_attributes,
    documented_methods,
    intermediate_bases,
    kind_base,
)
from gptzoo.docgen.markdown import GENERATED_MARK, field_sections, field_table, link_papers, markdown_table
from gptzoo.errors import InputError
from gptzoo.sampling.spec import SamplingSpec
from gptzoo.spec.model import PER_LAYER, ModelSpec
from gptzoo.spec.run import RunSpec
from gptzoo.spec.schema import config_schema, referenced_kind
from gptzoo.strict_model import StrictModel, did_you_mean

_SPECS: dict[str, type[StrictModel]] = {"model spec": ModelSpec, "run spec": RunSpec, "`SamplingSpec`": SamplingSpec}
_ARGUMENT_LINE = re.compile(r"^([a-z_]+): ", re.MULTILINE)  # of a docstring


def kinds_with_components(package: str | None = None) -> list[str]:
    """Return the kinds of which one package, or any, provides components. Raises InputError for an unknown package."""
    return list(dict.fromkeys(component.kind for component in components_of(None, package)))


def components_of(kind: str | None, package: str | None) -> list[type[Component]]:
    """Return the components of a kind, or of all kinds, that one package (a distribution), or any, provides.

    Raises InputError if the kind does not exist, or if the package provides no such component.
    """
    known = registry.current()
    components = select_components(kind)
    packages = {known.origin(component).distribution for component in components}
    if package is None:
        return components
    if package not in packages:
        wanted = f"{kind} components" if kind else "components"
        suggestion = did_you_mean(package, packages)
        raise InputError(
            f"no package {package!r} provides {wanted}{suggestion}  (known: {', '.join(sorted(packages))})"
        )
    return [component for component in components if known.origin(component).distribution == package]


def render_kind_page(kind: str, package: str | None = None) -> str:
    """Return the page of a kind.

    package: limit the page to the components of this package, and to the interface if the package defines the kind.
    """
    components = components_of(kind, package)
    base = kind_base(components[0])
    parts = [GENERATED_MARK, f"# `{kind}`"]
    if package is None or _top_module(base) in map(_top_module, components):
        parts += [
            docstring_of(base),
            *_spec_fields_of_kind(kind, components_of(None, package)),
            *_interface(base, components),
        ]
    pages = {each: f"{each}.md" for each in kinds_with_components(package)}
    for component in components:
        parts += _component_section(component, base, pages)
    return "\n\n".join(part for part in parts if part) + "\n"


def _top_module(component: type) -> str:
    return component.__module__.partition(".")[0]


# ---------------------------------------------------------------------- the interface


def _interface(base: type[Component], components: list[type[Component]]) -> Iterator[str]:
    yield "## Interface"
    yield f"Components derive from `{_public_name(base)}`."
    if (signature := constructor_signature(base)) is not None:
        yield _code_block(signature)
    unused = {name for name in ("requires", "supports") if not any(getattr(cls, name, ()) for cls in components)}
    yield from _members(component_bases(base), unused)
    for intermediate in intermediate_bases(components):
        yield f"## Base class `{_public_name(intermediate)}`"
        yield docstring_of(intermediate)
        yield from _members(component_bases(intermediate, until=base))


def _members(classes: list[type], unused: Collection[str] = ()) -> Iterator[str]:
    if attributes := [attribute for attribute in declared_attributes(classes) if attribute.name not in unused]:
        rows = [[f"`{attribute.declaration}`", link_papers(_one_line(attribute.meaning))] for attribute in attributes]
        yield markdown_table(["attribute", "meaning"], rows)
    for method in documented_methods(classes):
        yield from _method_section(method)


def _method_section(method: Method) -> Iterator[str]:
    yield f"### `{method.name}`"
    yield _code_block(method.signature)
    yield link_papers(_ARGUMENT_LINE.sub(r"- `\1`: ", method.documentation))


def _public_name(component: type[Component]) -> str:
    return f"{_top_module(component)}.{component.__name__}"


def _code_block(source: str) -> str:
    return f"```python\n{source}\n```"


def _spec_fields_of_kind(kind: str, components: list[type[Component]]) -> Iterator[str]:
    """Yield a list of the spec fields and component options that take a component of the kind."""
    fields = []
    for spec_name, spec in _SPECS.items():
        for field, info in spec.model_fields.items():
            if referenced_kind(info) == kind:
                per_layer = ": one, or a list that is cycled over the layers" if field in PER_LAYER else ""
                fields.append(f"`{field}` of a {spec_name}{per_layer}")
    options: dict[tuple[str, str], list[str]] = {}
    for component in components:
        for option, info in component.Config.model_fields.items():
            if referenced_kind(info) == kind:
                options.setdefault((option, component.kind), []).append(f"`{component.name}`")
    fields += [f"`{option}` of the {owner} {', '.join(names)}" for (option, owner), names in options.items()]
    if fields:
        yield "A spec gives a name, or an object with `type` and options, in these fields:\n\n" + "\n".join(
            f"- {field}" for field in fields
        )


# ---------------------------------------------------------------------- the components


def _component_section(component: type[Component], base: type[Component], pages: dict[str, str]) -> Iterator[str]:
    description = describe(component)
    yield f"## {description['name']}"
    yield link_papers(description["documentation"])
    yield link_papers(f"Paper: {description['paper']}") if description["paper"] else ""
    yield " ".join(
        f"It {verb} {_code_list(description[verb])}." for verb in ("requires", "supports") if description[verb]
    )
    yield f"```json\n{json.dumps(description['example'], ensure_ascii=False)}\n```"
    inherited = {
        method.name
        for ancestor in (base, *intermediate_bases([component]))
        for method in documented_methods(component_bases(ancestor))
    }
    for method in documented_methods([component]):
        if method.name not in inherited:
            yield from _method_section(method)
    schema = config_schema(component.Config)
    if fields := describe_fields(schema, component.name):
        yield field_table(fields, component.name)
        yield from field_sections(fields, component.name, 3, schema.get("$defs", {}), pages)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _code_list(words: list[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)
