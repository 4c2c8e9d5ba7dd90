"""The passes of the ejector, each on small snippets of code."""

from __future__ import annotations

import ast
from typing import Any

import pytest
from eject_variants import BASE

import gptzoo
from gptzoo.eject.passes.fold import fold
from gptzoo.eject.passes.program import Program
from gptzoo.eject.passes.prune import drop_parameters
from gptzoo.eject.passes.scope import Scope
from gptzoo.eject.passes.unit import Unit
from gptzoo.eject.syntax.annotations import annotate
from gptzoo.eject.syntax.clean import clean
from gptzoo.eject.syntax.docstrings import filtered
from gptzoo.eject.syntax.merge import Substitute, Unsupported, arguments_of, merged_methods
from gptzoo.spec.files import load_model_spec


def function(text: str) -> ast.FunctionDef:
    node = ast.parse(text).body[0]
    assert isinstance(node, ast.FunctionDef)
    for child in ast.walk(node):
        if isinstance(child, ast.stmt):
            child.before, child.after = [], None  # type: ignore[attr-defined]
    return node


def body(node: ast.FunctionDef) -> str:
    return "\n".join(ast.unparse(ast.fix_missing_locations(statement)) for statement in node.body)


@pytest.fixture(scope="module")
def program() -> Program:
    return Program(gptzoo.build(load_model_spec(BASE)), padding=False, plain=True)  # type: ignore[arg-type]


FOLDED = {
    "a branch that is taken": ("if flag:\n  y = x\nelse:\n  y = 0\nreturn y", {"flag": True}, "y = x\nreturn y"),
    "a branch that is not taken": ("if flag:\n  x = x + 1\nreturn x", {"flag": False}, "return x"),
    "nothing after a return": ("if flag:\n  return x\nreturn x + 1", {"flag": True}, "return x"),
    "an unknown branch stays": ("if flag:\n  x = x + 1\nreturn x", {}, "if flag:\n    x = x + 1\nreturn x"),
    "an expression with a test": ("return x if limit is None else min(x, limit)", {"limit": None}, "return x"),
    "0 is not None": ("return x if limit is None else x - limit", {"limit": 0}, "return x - limit"),
    "one operand of and": ("return flag and x", {"flag": True}, "return x"),
    "one operand of or": ("return x if flag or other else y", {"flag": False}, "return x if other else y"),
    "a factor of one": ("return x * scale", {"scale": 1.0}, "return x"),
    "another factor stays": ("return x * scale", {"scale": 2.0}, "return x * scale"),
    "a known name": ("cap = None\nif cap is not None:\n  return y\nreturn x", {}, "return x"),
    "a name with two values stays": (
        "a = None\nfor i in x:\n  a = i\nreturn a", {},
        "a = None\nfor i in x:\n    a = i\nreturn a",
    ),
    "an assertion": ("assert x is not None\nreturn x", {}, "return x"),
    "a default of torch": ("return F.gelu(x, approximate='none')", {}, "return F.gelu(x)"),
    "another value": ("return F.gelu(x, approximate='tanh')", {}, "return F.gelu(x, approximate='tanh')"),
}  # fmt: skip


@pytest.mark.parametrize("case", FOLDED)
def test_folding(case: str, program: Program) -> None:
    text, names, expected = FOLDED[case]
    indented = "\n".join(f"  {line}" for line in text.splitlines())
    node = function(f"def f(x, y, flag, other, limit, scale):\n{indented}")
    assert body(fold(node, Scope(program, Unit("f", None), dict(names)))) == expected


def test_numbers_that_a_method_of_the_configuration_returns_become_constants(program: Program) -> None:
    class Split(gptzoo.RotaryPositional.Config):
        def widths(self, total: int) -> tuple[int, int]:
            return total - 2, 2

    node = function("def f(self, config, dims):\n  self.a, self.b = config.widths(8)")
    config = Split.model_construct()
    assert body(fold(node, Scope(program, Unit("f", None), {"config": config}))) == "self.a = 6\nself.b = 2"


def test_folding_leaves_the_original_as_it_is(program: Program) -> None:
    node = function("def f(x, flag):\n  return x if flag else 0")
    before = ast.dump(node)
    fold(node, Scope(program, Unit("f", None), {"flag": True}))
    assert ast.dump(node) == before


CLEANED = {
    "an unused name": ("a = x + 1\nreturn x", "return x"),
    "an unused chain": ("a = x + 1\nb = a + 1\nreturn x", "return x"),
    "a detour to return": ("y = x + 1\nreturn y", "return x + 1"),
    "another name of an argument": ("z = x\nreturn z + z", "return x + x"),
    "a name of a changed argument stays": ("z = x\nx = x + 1\nreturn x + z", "z = x\nx = x + 1\nreturn x + z"),
    "an effect stays": ("a = x.add_(1)\nreturn x", "a = x.add_(1)\nreturn x"),
    "equal returns": ("if x:\n  return y\nreturn y", "return y"),
    "an empty branch": ("if x:\n  a = 1\nreturn y", "return y"),
}


@pytest.mark.parametrize("case", CLEANED)
def test_cleaning(case: str) -> None:
    text, expected = CLEANED[case]
    indented = "\n".join(f"  {line}" for line in text.splitlines())
    assert body(clean(function(f"def f(x, y):\n{indented}"))) == expected


class Grandparent:
    def run(self, x: Any) -> Any:
        x = x + 1
        return x  # noqa: RET504


class Parent(Grandparent):
    def run(self, x: Any) -> Any:
        y = super().run(x)
        return y * 2


class Child(Parent):
    def run(self, value: Any) -> Any:
        return super().run(value)


class InSum(Parent):
    def run(self, x: Any) -> Any:
        x += super().run(x)
        return x


def is_here(cls: type) -> bool:
    return cls.__module__ == __name__


def test_super_is_replaced_by_the_bodies_of_the_bases() -> None:
    (method,) = merged_methods(Child, is_here).values()
    assert "super" not in ast.unparse(ast.fix_missing_locations(method))
    names: dict[str, Any] = {"Any": Any}
    exec(ast.unparse(ast.fix_missing_locations(method)), names)
    assert names["run"](None, 5) == Child().run(5) == 12


def test_a_use_of_super_that_cannot_be_replaced_is_refused() -> None:
    with pytest.raises(Unsupported, match="super"):
        merged_methods(InSum, is_here)


def test_arguments_are_matched_with_parameters_and_defaults() -> None:
    call = ast.parse("f(1, c=3)", mode="eval").body
    assert isinstance(call, ast.Call)
    given = arguments_of(function("def f(self, a, b=2, *, c, d=4): pass"), call, skip_first=True)
    assert {name: None if value is None else ast.unparse(value) for name, value in (given or {}).items()} == {
        "a": "1", "b": "2", "c": "3", "d": "4"
    }  # fmt: skip


def test_starred_arguments_are_not_matched() -> None:
    call = ast.parse("f(*x)", mode="eval").body
    assert isinstance(call, ast.Call)
    assert arguments_of(function("def f(a, b): pass"), call, skip_first=False) is None


def test_names_are_replaced_where_they_are_read_only() -> None:
    node = function("def f(x):\n  a = a + 1\n  return a")
    Substitute({"a": ast.Name("b", ast.Load())}).visit(node)
    assert body(node) == "a = b + 1\nreturn b"


def test_parameters_are_dropped_with_their_defaults() -> None:
    node = function("def f(a, b=1, c=2, *, d, e=3): pass")
    drop_parameters(node, {"b", "d"})
    assert ast.unparse(node.args) == "a, c=2, *, e=3"


def test_sentences_about_what_is_gone_are_dropped() -> None:
    text = "Return `x` after it. With `window`, keys are fewer. All else stays."
    assert filtered(text, "x = 1") == "Return `x` after it. All else stays."
    assert filtered(text, "x = window") == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def f(x: State) -> tuple[Tensor, Tensor | None]:\n  return x", "Tensor"),
        ("def f(x) -> Tensor | None:\n  return x", "Tensor"),
        ("def f(x) -> Tensor | None:\n  return None", "Tensor | None"),
        ("def f(x) -> Mapping[str, Special]:\n  return x", None),
    ],
)
def test_annotations_fit_what_is_returned(text: str, expected: str | None) -> None:
    node = function(text)
    annotate(node)
    assert (None if node.returns is None else ast.unparse(node.returns)) == expected
