"""JSON Schema (draft 2020-12) of specs with all installed components, for editors and other tools."""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import textwrap
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from gptzoo.component import Config
from gptzoo.reference import Reference, reference_description
from gptzoo.spec import provenance
from gptzoo.spec.ablation import AblationSpec
from gptzoo.spec.model import ModelSpec
from gptzoo.spec.run import RunSpec


def output_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the schema of JSON that a command prints."""
    schema = model.model_json_schema(schema_generator=SchemaGenerator, mode="serialization")
    return {"$schema": SchemaGenerator.schema_dialect, **schema}


def file_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the schema of a file that contains a spec of class `model`."""
    schema = {"$schema": SchemaGenerator.schema_dialect, **model.model_json_schema(schema_generator=SchemaGenerator)}
    schema_url = {
        "type": "string",
        "description": "Path or URL of the JSON Schema that editors use to check this file.",
    }
    components = {
        "type": "array",
        "description": "Packages and versions that provide the components. Written by gptzoo; do not set it yourself.",
    }
    added = {"$schema": schema_url, provenance.COMPONENTS_KEY: components}
    return {**schema, "properties": {**added, **schema["properties"]}}


def model_schema() -> dict[str, Any]:
    """Return the schema of a model spec file."""
    return file_schema(ModelSpec)


def run_schema() -> dict[str, Any]:
    """Return the schema of a run spec file, in which `model` may be a path."""
    return allow_path(file_schema(RunSpec), "model", "Path of a model spec, relative to this file.")


def ablation_schema() -> dict[str, Any]:
    """Return the schema of an ablation spec file, in which `base` may be a path."""
    return allow_path(file_schema(AblationSpec), "base", "Path of a run spec, relative to this file.")


def allow_path(schema: dict[str, Any], field: str, description: str) -> dict[str, Any]:
    """Return the schema of a spec file in which a field may also be a path."""
    inline = schema["properties"][field]
    path = {"type": "string", "description": description}
    schema["properties"][field] = {"anyOf": [inline, path], "description": inline.get("description", "")}
    return schema


def config_schema(config: type[Config]) -> dict[str, Any]:
    """Return the schema of the options of one component."""
    return config.model_json_schema(schema_generator=SchemaGenerator)


def field_descriptions(model: type[BaseModel]) -> dict[str, str]:
    """Return the description of each field: the string below it, which a subclass may leave to its base class.

    A field that refers to a component has a general description if it has none of its own.
    """
    docstrings: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            docstrings |= _attribute_docstrings(base)
    descriptions = {}
    for name, field in model.model_fields.items():
        kind = referenced_kind(field)
        default = reference_description(kind) if kind else ""
        descriptions[name] = field.description or docstrings.get(name, default)
    if issubclass(model, Config):
        descriptions["type"] = f"Name of the {model.component.kind.replace('_', ' ')} component."
    return descriptions


@functools.cache  # parsing the source takes milliseconds, and the schema of a run describes each class many times
def _attribute_docstrings(model: type[BaseModel]) -> dict[str, str]:
    """Return the strings below the fields in the source of a class; none if its source is not available."""
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(model))).body[0]
    except (OSError, TypeError):
        return {}
    docstrings = {}
    for statement, following in itertools.pairwise(getattr(body, "body", [])):
        match statement, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                docstrings[name] = inspect.cleandoc(text)
    return docstrings


def referenced_kind(field: FieldInfo) -> str | None:
    """Return the kind of component that a field refers to, or None."""
    alternatives = getattr(field.annotation, "__args__", ())  # of a union or a tuple
    metadata = itertools.chain(field.metadata, *(getattr(a, "__metadata__", ()) for a in alternatives))
    return next((item.kind for item in metadata if isinstance(item, Reference)), None)


class SchemaGenerator(GenerateJsonSchema):
    """pydantic's generator, with our descriptions and without titles, which would only repeat the field names."""

    def model_schema(self, schema: core_schema.ModelSchema) -> dict[str, Any]:
        generated = super().model_schema(schema)
        for name, description in field_descriptions(schema["cls"]).items():
            field = generated["properties"][name]
            if "inherits" in field and "Default:" not in description:
                description = f"{description} Default: the model's `{field['inherits']}`.".strip()
            if description:
                field["description"] = description
        return generated

    def nullable_schema(self, schema: core_schema.NullableSchema) -> dict[str, Any]:
        """Add null to the choices of a component, so that an editor shows one list."""
        inner = self.generate_inner(schema["schema"])
        if "oneOf" in inner:
            null = {"type": "null", "title": "none", "description": "No component."}
            return {**inner, "oneOf": [*inner["oneOf"], null]}
        return super().nullable_schema(schema)

    def field_title_should_be_set(self, schema: object) -> bool:
        return False
