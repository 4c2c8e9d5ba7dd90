"""gptzoo components: what is registered, and what one of them takes."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Any

import click

from gptzoo.cli.options import json_option, plugin_option

if TYPE_CHECKING:
    from gptzoo.component import Component


@click.command()
@click.argument("kind", required=False)
@click.argument("name", required=False)
@json_option
@plugin_option
def components(kind: str | None, name: str | None, as_json: bool) -> None:
    """List the components that are registered, those of one KIND, or all about the one of this KIND and NAME."""
    found = _find(kind, name)
    if name is not None:
        one = _all_about(found[0])
        click.echo(json.dumps(one, indent=2)) if as_json else _print_one(one)
        return
    rows = [_summary(component) for component in found]
    click.echo(json.dumps(rows, indent=2)) if as_json else _print_list(rows)


def _find(kind: str | None, name: str | None) -> list[type[Component]]:
    """The components asked for; raises InputError for a kind or a name that there is not."""
    from gptzoo import registry
    from gptzoo.component import nearest
    from gptzoo.errors import InputError

    known = registry.current()
    if kind is not None and kind not in known.kinds:
        raise InputError(f"no kind named {kind!r}{nearest(kind, known.kinds)}  (known: {', '.join(known.kinds)})")
    if kind is not None and name is not None:
        try:
            return [known.get(kind, name)]
        except LookupError as error:
            raise InputError(error.args[0]) from None
    return [part for each in ([kind] if kind else known.kinds) for part in known.of_kind(each).values()]


# ---------------------------------------------------------------------- as data


def _summary(component: type[Component]) -> dict[str, str]:
    from gptzoo import registry

    return {
        "kind": component.kind,
        "name": component.name,
        "summary": _documentation(component).partition("\n")[0],
        "origin": str(registry.current().origin(component)),
    }


def _all_about(component: type[Component]) -> dict[str, Any]:
    options = _options(component)
    example = {"type": component.name} | {
        option["name"]: option["example"] for option in options if "inherits" not in option
    }
    return {
        **_summary(component),
        "documentation": _documentation(component),
        "paper": component.paper,
        "options": [{key: value for key, value in option.items() if key != "example"} for option in options],
        "needs": sorted(getattr(component, "needs", ())),
        "honours": sorted(getattr(component, "honours", ())),
        "example": example,
    }


def _options(component: type[Component]) -> list[dict[str, Any]]:
    from gptzoo.spec.schema import config_schema, describe_fields, kind_of

    described = describe_fields(component.Config)
    properties = _object_schema(config_schema(component.Config))["properties"]
    options = []
    for name, field in component.Config.model_fields.items():
        if name == "type":
            continue
        words = _words(properties[name])
        if (kind := kind_of(field)) is not None:
            words = kind + (" | null" if field.default is None and "inherits" not in properties[name] else "")
        option = {"name": name, "type": words, "description": described[name]}
        option["example"] = _placeholder(properties[name])
        if "inherits" in properties[name]:
            option["inherits"] = properties[name]["inherits"]
        elif not field.is_required():
            option["default"] = option["example"] = properties[name].get("default")
        options.append(option)
    return options


def _object_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of the object itself; a component that may nest its own kind is behind a reference."""
    while "$ref" in schema:
        schema = schema["$defs"][schema["$ref"].rpartition("/")[2]]
    return schema


def _documentation(component: type[Component]) -> str:
    return inspect.cleandoc(component.__doc__ or "")


def _words(schema: dict[str, Any]) -> str:
    """A JSON schema in a few words: `integer > 0 | null`."""
    if "anyOf" in schema:
        return " | ".join(
            _words(one) for one in schema["anyOf"] if one.get("type") != "null" or "inherits" not in schema
        )
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    if "const" in schema:
        return json.dumps(schema["const"])
    if schema.get("type") == "array" and "items" in schema:
        return f"list of {_words(schema['items'])}"
    bounds = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
    limits = [f"{sign} {schema[key]:g}" for key, sign in bounds.items() if key in schema]
    return f"{schema.get('type', 'anything')} {', '.join(limits)}".strip()


def _placeholder(schema: dict[str, Any]) -> Any:
    """A value of the right type, for an option that has no default."""
    for one in schema.get("anyOf", [schema]):
        if "enum" in one:
            return one["enum"][0]
        if (kind := one.get("type")) in ("integer", "number"):
            return max(one.get("minimum", 0), 1)
        if kind in ("string", "boolean", "array", "object"):
            return {"string": "…", "boolean": True, "array": [], "object": {}}[kind]
    return None


# ---------------------------------------------------------------------- for people


def _print_list(rows: list[dict[str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("kind", "name", "from", ""):
        table.add_column(column, no_wrap=bool(column))
    before = ""
    for row in rows:
        kind = "" if row["kind"] == before else row["kind"]
        before = row["kind"]
        table.add_row(Text(kind, "dim"), Text(row["name"], "bold"), Text(row["origin"], "dim"), Text(row["summary"]))
    Console(highlight=False).print(table)


def _print_one(one: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    console.print(Text.assemble((one["name"], "bold"), f"  {one['kind']}, from {one['origin']}"))
    console.print(Text(f"\n{one['documentation']}"))
    for label in ("paper", "needs", "honours"):
        value = one[label] if isinstance(one[label], str) else ", ".join(one[label])
        if value:
            console.print(Text.assemble((f"\n{label}: ", "dim"), value), end="")
    console.print()
    if one["options"]:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for column in ("option", "type", "default", ""):
            table.add_column(column)
        for option in one["options"]:
            row = (option["type"], _default(option), option["description"])
            table.add_row(Text(option["name"], "bold"), *map(Text, row))
        console.print(table)
        console.print()
    console.print(Text(json.dumps({one["kind"]: one["example"]}, ensure_ascii=False), "cyan"), soft_wrap=True)


def _default(option: dict[str, Any]) -> str:
    if "inherits" in option:
        return f"model's {option['inherits']}"
    return json.dumps(option["default"]) if "default" in option else "required"
