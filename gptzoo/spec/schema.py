"""JSON Schema (draft 2020-12) of specs, with every component that is installed, for editors and other tools."""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from gptzoo.component import Config
from gptzoo.reference import Reference
from gptzoo.spec import provenance
from gptzoo.spec.ablation import AblationSpec
from gptzoo.spec.model import ModelSpec
from gptzoo.spec.run import RunSpec


def file_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of a file that holds a spec of this class."""
    schema = {"$schema": _Generator.schema_dialect, **model.model_json_schema(schema_generator=_Generator)}
    own = {"type": "string", "description": "The JSON Schema that an editor checks this file with."}
    makers = {"type": "array", "description": "Who made each part; gptzoo writes it, leave it out in your own."}
    return {**schema, "properties": {"$schema": own, provenance.KEY: makers, **schema["properties"]}}


def model_schema() -> dict[str, Any]:
    """The schema of a model spec's file."""
    return file_schema(ModelSpec)


def run_schema() -> dict[str, Any]:
    """The schema of a run spec's file, whose model may be the path of another."""
    schema = file_schema(RunSpec)
    inline = schema["properties"]["model"]
    path = {"type": "string", "description": "The path of a model spec, relative to this file."}
    schema["properties"]["model"] = {"anyOf": [inline, path], "description": inline.get("description", "")}
    return schema


def ablation_schema() -> dict[str, Any]:
    """The schema of an ablation's file, whose base may be the path of a run spec."""
    schema = file_schema(AblationSpec)
    inline = schema["properties"]["base"]
    path = {"type": "string", "description": "The path of a run spec, relative to this file."}
    schema["properties"]["base"] = {"anyOf": [inline, path], "description": inline.get("description", "")}
    return schema


def config_schema(config: type[Config]) -> dict[str, Any]:
    """The schema of one component's options."""
    return config.model_json_schema(schema_generator=_Generator)


def describe_fields(model: type[BaseModel]) -> dict[str, str]:
    """What each field is for: its own description, else the string below it in the source, else its kind."""
    described: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            described |= _strings_below_fields(base)
    for name, field in model.model_fields.items():
        described[name] = field.description or described.get(name, "")
        if not described[name] and (kind := kind_of(field)):
            described[name] = f"A component of kind {kind}: its name, or an object with its type and options."
    if issubclass(model, Config):
        described["type"] = f"Which {model.component.kind}."
    return described


def kind_of(field: Any) -> str | None:
    """The kind of component that a field refers to, if it does."""
    metadata = itertools.chain(field.metadata, *(getattr(a, "__metadata__", ()) for a in _arguments(field.annotation)))
    return next((item.kind for item in metadata if isinstance(item, Reference)), None)


def _arguments(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of a union."""
    return getattr(annotation, "__args__", ())


class _Generator(GenerateJsonSchema):
    """pydantic's, with a description for each property and no titles, which would say its name once more."""

    def model_schema(self, schema: Any) -> dict[str, Any]:
        generated = super().model_schema(schema)
        for name, description in describe_fields(schema["cls"]).items():
            field = generated["properties"][name]
            if "inherits" in field:
                description = f"{description} Left out: the model's {field['inherits']}.".strip()
            if description:
                field["description"] = description
        return generated

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _strings_below_fields(model: type[BaseModel]) -> dict[str, str]:
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(model))).body[0]
    except (OSError, TypeError):  # a model that is not written down in a file
        return {}
    found = {}
    for statement, below in itertools.pairwise(getattr(body, "body", [])):
        match statement, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = inspect.cleandoc(text)
    return found
