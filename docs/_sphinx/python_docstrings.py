"""A Sphinx extension that turns our docstrings into reStructuredText.

In them, a line `name: text` may describe an argument, and an indented block after a colon is code.
"""

from __future__ import annotations

import inspect
import re

from sphinx.application import Sphinx

_ARGUMENTS = re.compile(r"^([a-z_]\w*(?:, [a-z_]\w*)*): ")
_LITERAL = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_CODE_AFTER_COLON = re.compile(r"(?<=[^:]):$(?=\n\n {4})", re.MULTILINE)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.connect("autodoc-process-docstring", _process, priority=400)  # before napoleon, which reads `Args:`
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _process(app: Sphinx, what: str, name: str, documented: object, options: object, lines: list[str]) -> None:
    try:
        parameters = set(inspect.signature(documented).parameters)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        parameters = set()
    text = _LITERAL.sub(r"``\1``", "\n".join(lines))
    paragraphs = _CODE_AFTER_COLON.sub("::", text).split("\n\n")
    text = "\n\n".join(_describe_arguments(paragraph, parameters) for paragraph in paragraphs)
    lines[:] = text.split("\n")


def _describe_arguments(paragraph: str, parameters: set[str]) -> str:
    """Return a paragraph of descriptions of arguments as a list of fields, and other paragraphs as they are."""
    lines = paragraph.split("\n")
    match = _ARGUMENTS.match(lines[0])
    if match is None or not parameters.issuperset(match[1].split(", ")):
        return paragraph
    fields = []
    for line in lines:
        match = _ARGUMENTS.match(line)
        fields.append(f":param {match[1]}: {line[match.end() :]}" if match else f"    {line}")
    return "\n".join(fields)
