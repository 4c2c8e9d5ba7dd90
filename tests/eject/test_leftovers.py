"""What must not be left in an ejected file: names of gptzoo, unused definitions, and wrong annotations."""

from __future__ import annotations

import subprocess
import sys
import types
import typing
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from eject_variants import VARIANTS, change, spec_of
from ejected_files import absent_subjects, module_of, text_of, unused_names

QUICK = {
    "rope": {},
    "no positions": {"positional": "none"},
    "learned positions": {"positional": "learned", "norm": {"type": "pre_ln", "layer": "layernorm"}, "ffn": "mlp"},
    "window": change("attention:sdpa", {"n_kv_heads": 2, "window": 5}),
}
FRAMEWORK = ("config.", "config)", "dims.", "ForwardContext", "SublayerOutput", "gptzoo.", "Inherited", "pydantic")
ALLOWED = {"new_state(max_length)", "rotate(tables)", "prepare(positions)"}
"""Parameters of methods that the frame calls in one way for all parts."""


@pytest.fixture(scope="module", params=QUICK)
def text(request: pytest.FixtureRequest) -> str:
    return text_of(spec_of(QUICK[request.param]))


@pytest.mark.slow
def test_nothing_is_unused(text: str) -> None:
    assert unused_names(text) == []


def test_docstrings_and_comments_are_about_code_that_is_there(text: str) -> None:
    assert absent_subjects(text) == []


def test_no_name_of_the_framework_is_left(text: str) -> None:
    code = text.partition('"""\n\nfrom')[2]
    assert [word for word in FRAMEWORK if word in code] == []


def test_results_are_what_their_annotations_say(text: str) -> None:
    module = module_of(text)
    assert list(wrong_results(module)) == []


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]])
def test_ruff_finds_nothing(text: str, command: list[str]) -> None:
    pytest.importorskip("ruff")
    options = ["--isolated", "--line-length", "100", "--stdin-filename", "model.py", "-"]
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, *options], input=text, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_docstring_about_code_that_is_gone_is_found() -> None:
    glu = 'class GLU:\n    """Gated; SwiGLU with silu.\n\n    A, arXiv:1."""\n'
    function = 'def f(x):\n    """Return x or None."""\n    return x  # in one document\n'
    assert absent_subjects(glu + function) == [
        "GLU: SwiGLU",
        "f: or None|`None`|if there is one",
        r"comments: \bdocuments?\b",
    ]


def test_unused_definitions_are_found() -> None:
    code = "A = 1\ndef f(x, y):\n    z = x\n    return x\nclass C:\n    def g(self):\n        self.a = f(1, 2)\n"
    assert unused_names(code) == ["A", "C", "g", "a", "f(y)", "f(z)"]


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_is_unused_in_any_variant(variant: str) -> None:
    text = text_of(spec_of(VARIANTS[variant]))
    assert set(unused_names(text)) <= ALLOWED
    assert absent_subjects(text) == []
    assert not any(word in text.partition('"""\n\nfrom')[2] for word in FRAMEWORK)


def wrong_results(module: types.ModuleType) -> Iterator[str]:
    """Yield the functions whose result is not of the annotated type, when the model generates."""
    results: dict[Any, Any] = {}

    def note(frame: types.FrameType, event: str, result: object) -> None:
        if event == "return" and frame.f_code.co_filename == f"{module.__name__}.py":
            results[frame.f_code] = result

    model, tokens = module.GPT().eval(), torch.zeros(1, 5, dtype=torch.long)
    sys.setprofile(note)
    try:
        model.generate(tokens, 3)
    finally:
        sys.setprofile(None)
    classes = [value for value in vars(module).values() if getattr(value, "__module__", "") == module.__name__]
    functions = [f for c in classes for f in (vars(c).values() if isinstance(c, type) else [c])]
    checked = 0
    for function in functions:
        code = getattr(function, "__code__", None)
        expected = typing.get_type_hints(function).get("return") if code in results else None
        if expected is not None and code.co_name != "__init__":
            checked += 1
            if not fits(results[code], expected):
                yield f"{function.__qualname__} returns {type(results[code]).__name__}, not {expected}"
    assert checked > 4


def fits(result: object, expected: Any) -> bool:
    if expected is type(None):
        return result is None
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin in (types.UnionType, typing.Union):
        return any(fits(result, each) for each in arguments)
    if origin is tuple:
        return isinstance(result, tuple) and len(result) == len(arguments) and all(map(fits, result, arguments))
    return isinstance(result, origin or expected)
