"""The Markdown pages of spec files, with every field."""

from __future__ import annotations

from gptzoo.docgen.fields import Schema, describe_fields
from gptzoo.docgen.markdown import GENERATED_MARK, field_sections, field_table
from gptzoo.docgen.page import kinds_with_components

_PAGES_OF_DEFINITIONS = {"ModelSpec": "model.md", "RunSpec": "run.md"}
_WRITTEN_BY_GPTZOO = "$components"


def render_spec_page(name: str, schema: Schema) -> str:
    """Return the page of a spec file from its JSON Schema. `gptzoo schema NAME` prints that schema."""
    fields = [field for field in describe_fields(schema, name) if field.name != _WRITTEN_BY_GPTZOO]
    kinds = {kind: f"../{kind}.md" for kind in kinds_with_components()}
    sections = field_sections(fields, "", 2, schema.get("$defs", {}), {**kinds, **_PAGES_OF_DEFINITIONS})
    introduction = (
        f"{schema['description']}\n\n`gptzoo schema {name}` prints the JSON Schema of the file, with which editors "
        "complete and check it."
    )
    return "\n\n".join([GENERATED_MARK, f"# The {name} spec", introduction, field_table(fields, ""), *sections]) + "\n"
