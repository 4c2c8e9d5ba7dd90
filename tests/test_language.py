"""The language of docstrings, field descriptions and help texts: no text is a fragment, and none is missing."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from gptzoo import registry
from gptzoo.ablation.comparison.result import ComparisonResult
from gptzoo.ablation.scaling.ladder_spec import ladder_schema
from gptzoo.ablation.scaling.result import LadderResult
from gptzoo.cli import main
from gptzoo.sampling.spec import SamplingSpec
from gptzoo.spec.schema import ablation_schema, config_schema, file_schema, model_schema, output_schema, run_schema

ROOT = Path(__file__).parents[1]
SOURCES = [*(ROOT / "gptzoo").rglob("*.py"), *(ROOT / "plugins").glob("*/src/**/*.py")]

_FRAGMENT = re.compile(
    r"((the|an?) )?(what|how|of|whether|where|which|those|whose|left out|if left|why)\b", re.IGNORECASE
)
_RULES = r"D205|D401|ANN401"
_MAX_EXCEPTIONS = 24  # of these rules, in the whole project


def is_fragment(text: str) -> bool:
    """Return True if a text starts with a relative or interrogative word in place of a noun or verb."""
    return _FRAGMENT.match(text.strip().lstrip("`\"'(")) is not None


@pytest.mark.parametrize(
    "text", ["What is kept.", "Of this format.", "left out, all are read", "The what and why.", "Whether it is done."]
)
def test_a_fragment_is_recognised(text: str) -> None:
    assert is_fragment(text)


@pytest.mark.parametrize("text", ["Return what was read.", "Offset in tokens.", "A whole number.", "Whole words only."])
def test_other_texts_are_not_fragments(text: str) -> None:
    assert not is_fragment(text)


def test_a_base_class_names_the_method_that_is_not_implemented() -> None:
    wrong = []
    for file in SOURCES:
        methods = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)]
        for method in methods:
            for error in re.findall(r"__name__\} does not implement (\w+)", ast.unparse(method)):
                wrong += [] if error == method.name else [f"{file.name}: {method.name} says {error}"]
    assert wrong == []


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_docstring_is_a_fragment(file: Path) -> None:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, documented)]
    docstrings = [docstring for node in nodes if (docstring := ast.get_docstring(node))]
    assert [docstring for docstring in docstrings if is_fragment(docstring)] == []


def field_descriptions(schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the place and the description of each field in a JSON schema."""
    for title, definition in {"": schema, **schema.get("$defs", {})}.items():
        for name, field in definition.get("properties", {}).items():
            yield f"{title or definition.get('title', '')}.{name}", field.get("description", "")


SCHEMAS = {
    "model": model_schema,
    "run": run_schema,
    "ablation": ablation_schema,
    "sampling": lambda: file_schema(SamplingSpec),
    "comparison": lambda: output_schema(ComparisonResult),
    "ladder": ladder_schema,
    "ladder-result": lambda: output_schema(LadderResult),
}
COMPONENTS = [component for kind in registry.current().kinds for component in registry.current().of_kind(kind).values()]


def assert_described(schema: dict[str, Any]) -> None:
    descriptions = dict(field_descriptions(schema))
    assert [place for place, description in descriptions.items() if not description.strip()] == []
    assert {place: text for place, text in descriptions.items() if is_fragment(text)} == {}


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_spec_field_is_described(name: str) -> None:
    assert_described(SCHEMAS[name]())


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda component: f"{component.kind}:{component.name}")
def test_every_component_option_is_described(component: Any) -> None:
    assert_described(config_schema(component.Config))


_LEANS_ON_OTHERS = re.compile(
    r"((the )?same|as (above|before)|like|it|this|that|these|they|also|another|see|the (other|former|latter)s?)\b"
    r"|.*\b(the same,|likewise|(see|as) (above|below)|the (former|latter)\b|described (above|below)|its sibling)",
    re.IGNORECASE,
)
_MIN_SUMMARY_WORDS = 3


def cannot_be_read_alone(summary: str) -> bool:
    """Return True if the first line of a docstring refers to a text that a list does not show, or is not a sentence."""
    is_sentence = summary.endswith((".", "?")) and len(summary.split()) >= _MIN_SUMMARY_WORDS and ".," not in summary
    return not is_sentence or _LEANS_ON_OTHERS.match(summary) is not None or is_fragment(summary)


@pytest.mark.parametrize(
    "text",
    [
        "The same, by torch's fused kernels.",
        "As above, with a gate.",
        "It needs no warmup.",
        "Like `rope`, but scaled.",
        "Documents, which are cut and",
        "SwiGLU.",
        "Moore-Penrose inversion., as implemented there.",
        "Attention with a window; see below.",
    ],
)
def test_a_summary_that_cannot_be_read_alone_is_recognised(text: str) -> None:
    assert cannot_be_read_alone(text)


def test_the_summary_of_every_component_can_be_read_alone() -> None:
    """The registry of a new process has the packages that are installed, besides the built-in components."""
    environment = {name: value for name, value in os.environ.items() if name != "GPTZOO_PLUGINS"}
    command = [sys.executable, "-m", "gptzoo", "components", "--json"]
    listed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    summaries = {f"{row['kind']}:{row['name']}": row["summary"] for row in json.loads(listed)}
    assert len(summaries) >= len(COMPONENTS)
    assert {name: text for name, text in summaries.items() if cannot_be_read_alone(text)} == {}


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            if (child := command.get_command(context, name)) is not None:
                yield from commands(child, f"{path} {name}")


@pytest.mark.parametrize(("path", "command"), list(commands(main, "gptzoo")), ids=lambda value: str(value))
def test_every_command_and_option_has_help(path: str, command: click.Command) -> None:
    assert command.help, path
    assert not is_fragment(command.help)
    options = [
        parameter for parameter in command.params if isinstance(parameter, click.Option) and not parameter.hidden
    ]
    texts = {option.opts[-1]: option.help or "" for option in options}
    assert [name for name, text in texts.items() if not text.strip()] == []
    assert {name: text for name, text in texts.items() if is_fragment(text)} == {}


def test_exceptions_from_the_language_rules_are_few_and_have_a_reason() -> None:
    lines = [line for file in SOURCES for line in file.read_text().splitlines()]
    exceptions = [line for line in lines if re.search(rf"#\s*noqa:.*\b({_RULES})\b", line)]
    assert len(exceptions) <= _MAX_EXCEPTIONS
    assert [line for line in exceptions if not re.search(rf"noqa: (({_RULES}),? ?)+\s*\S+ \S+", line)] == []
    assert [line for line in lines if re.search(r"#\s*(noqa\s*$|ruff:\s*noqa)", line)] == []
