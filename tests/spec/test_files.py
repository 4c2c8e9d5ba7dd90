"""Spec files: strict JSON, `--set`, models by path, and errors that name file and place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import small

import gptzoo
from gptzoo.errors import SpecError
from gptzoo.spec.files import load_ablation_spec, load_run_spec

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A function `write(content, name)` that writes a text, bytes or JSON to a file."""

    def write(content: Any, name: str = "tiny.json") -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str | bytes) else json.dumps(content)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return write


def error(load: Callable[..., Any], *arguments: Any) -> str:
    with pytest.raises(SpecError) as caught:
        load(*arguments)
    return str(caught.value)


# ---------------------------------------------------------------------- JSON


def test_a_file_is_read(write: Write) -> None:
    assert gptzoo.load_model_spec(write(small())) == gptzoo.load_model_spec(small())
    assert gptzoo.load_model_spec(str(write(small()))) == gptzoo.load_model_spec(small())
    assert gptzoo.load_model_spec(write({"$schema": "https://example.org/schema.json", **small()}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"dropout": NaN}', "tiny.json: $.dropout: NaN is not valid JSON"),
        ("{} {}", "tiny.json: line 1 column 4: Extra data"),
        ("[]", "tiny.json: $: should be an object, with the fields of a spec"),
        ('"sdpa"', "tiny.json: $: should be an object, with the fields of a spec"),
        ("null", "tiny.json: $: should be an object, with the fields of a spec"),
    ],
)
def test_a_file_that_is_not_a_json_object_is_an_error(text: str, message: str, write: Write) -> None:
    assert error(gptzoo.load_model_spec, write(text)) == message
    assert error(gptzoo.load_run_spec, write(text)) == message


def test_a_number_too_large_for_a_float_is_not_finite(write: Write) -> None:
    file = write(json.dumps(small()).replace("{", '{"dropout": 1e999, ', 1))
    assert error(gptzoo.load_model_spec, file) == "tiny.json: $.dropout: should be a finite number"


def test_a_file_that_is_not_utf8_is_an_error(write: Write) -> None:
    file = write(b'{"name": "\xff"}')
    assert error(gptzoo.load_model_spec, file) == f"{file}: $: is not UTF-8 text"


def test_a_python_file_is_no_spec(tmp_path: Path) -> None:
    (tmp_path / "train_shakespeare_char.py").write_text("max_iters = 5000\n")
    with pytest.raises(SpecError, match=r"train_shakespeare_char\.py: \$: is a Python file\. A spec is JSON, YAML or"):
        gptzoo.load_run_spec(tmp_path / "train_shakespeare_char.py")


def test_a_file_that_cannot_be_read_is_an_error_with_the_reason(tmp_path: Path) -> None:
    missing = tmp_path / "missing.json"
    assert error(gptzoo.load_model_spec, missing) == f"{missing}: $: cannot be read: No such file or directory"
    assert error(gptzoo.load_model_spec, tmp_path) == f"{tmp_path}: $: is a folder. Give the path of a spec file."
    assert error(gptzoo.load_run_spec, missing) == f"{missing}: $: cannot be read: No such file or directory"
    assert error(gptzoo.load_model_spec, "a\0b").endswith("$: cannot be read: embedded null byte")
    assert error(gptzoo.load_model_spec, "x" * 5000).endswith("$: cannot be read: File name too long")


def test_the_error_for_a_misspelt_path_suggests_a_similar_one(tmp_path: Path) -> None:
    (tmp_path / "tiny.json").write_text("{}")
    assert error(gptzoo.load_model_spec, tmp_path / "tyni.json").endswith(f"; did you mean '{tmp_path / 'tiny.json'}'?")


def test_the_error_for_a_run_folder_names_the_spec_file_in_it(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    assert error(gptzoo.load_run_spec, tmp_path).endswith(
        f"Give the path of a spec file, such as {tmp_path / 'run.json'}."
    )


ABLATION = {"name": "x", "base": "run.json", "axes": {}}


@pytest.mark.parametrize(
    ("load", "spec", "reason"),
    [
        (gptzoo.load_run_spec, small(), "expected the spec of a run, got that of a model"),
        (gptzoo.load_run_spec, ABLATION, "expected the spec of a run, got that of an ablation"),
        (gptzoo.load_model_spec, {"model": small()}, "expected the spec of a model, got that of a run"),
        (load_ablation_spec, {"model": small()}, "expected the spec of an ablation, got that of a run"),
        (load_ablation_spec, small(), "expected the spec of an ablation, got that of a model"),
    ],
)
def test_a_spec_of_another_kind_is_one_error(load: Any, spec: dict[str, Any], reason: str) -> None:
    assert error(load, spec).startswith(f"spec: $: {reason}. ")
    assert "\n" not in error(load, spec)


def test_errors_name_json_types_not_python_types() -> None:
    run = {"model": small(), "steps": 3, "early_stopping": 3, "trackers": "csv"}
    assert error(gptzoo.load_run_spec, run).splitlines() == [
        "spec: $.early_stopping: should be an object",
        "spec: $.trackers: should be a list",
    ]


def test_sizes_too_large_for_a_tensor_are_errors() -> None:
    message = error(gptzoo.load_model_spec, small(d_model=10**12, n_layers=10**9, context_length=10**400))
    assert {line.split(": ")[1] for line in message.splitlines()} == {"$.d_model", "$.n_layers", "$.context_length"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from([*small(), "attention", "ffn", "norm", "positional", "architecture"]), json_values)
)
def test_any_json_value_raises_nothing_but_spec_errors(data: dict[str, Any]) -> None:
    with pytest.raises(SpecError) as caught:
        gptzoo.load_model_spec({**small(), **data, "n_heads": 0})
    assert all(problem.path.startswith("$") and problem.reason for problem in caught.value.problems)


# ---------------------------------------------------------------------- error messages


@pytest.mark.usefixtures("fresh_registry")
def test_errors_name_the_file_the_place_the_reason_and_a_suggestion(write: Write) -> None:
    file = write(small(attention={"type": "sdpa", "droput": 0.1}, positional="roep", n_layers=0))
    first, second, third = error(gptzoo.load_model_spec, file).split("\n")
    assert first == "tiny.json: $.n_layers: should be greater than 0"
    assert second == "tiny.json: $.attention.droput: 'sdpa' has no option 'droput'; did you mean 'dropout'?"
    assert third.startswith(
        "tiny.json: $.positional: no positional named 'roep'; did you mean 'rope'?"
        "  (known: learned, none, rope, sinusoidal)"
    )


def test_a_dict_is_called_spec_in_errors() -> None:
    assert error(gptzoo.load_model_spec, small(bias=3)) == "spec: $.bias: should be a valid boolean"


def test_loading_does_not_modify_the_dict() -> None:
    data = small(attention="sdpa", norm={"type": "pre_ln"})
    before = json.dumps(data)
    gptzoo.load_model_spec(data, ["attention.window=3", "norm.layer=rmsnorm"])
    assert json.dumps(data) == before


# ---------------------------------------------------------------------- a run and its model


def test_a_model_path_is_relative_to_the_run_spec_or_else_to_the_current_folder(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(small(name="next to it"), "runs/models/tiny.json")
    write(small(name="current"), "models/tiny.json")
    write(small(name="only current"), "models/other.json")
    monkeypatch.chdir(tmp_path)

    def model_of(path: str) -> str:
        return gptzoo.load_run_spec(write({"model": path, "steps": 1}, "runs/run.json")).model.name

    assert model_of("models/tiny.json") == "next to it"
    assert model_of("../models/tiny.json") == "current"
    assert model_of("models/other.json") == "only current"
    assert model_of(str(tmp_path / "models" / "tiny.json")) == "current"


def test_the_error_for_a_missing_model_names_the_searched_folders(write: Write, tmp_path: Path) -> None:
    file = write({"model": "models/tiny.json", "steps": 1}, "run.json")
    assert error(gptzoo.load_run_spec, file) == (
        f"run.json: $.model: no model spec at 'models/tiny.json' (looked in {tmp_path} and in the current folder)"
    )
    for path in ("x" * 5000, "a\0b", "."):
        assert "no model spec at" in error(gptzoo.load_run_spec, {"model": path, "steps": 1})


def test_errors_in_a_model_file_name_that_file(write: Write) -> None:
    write(small(attention={"type": "sdpa", "droput": 0.1}), "models/tiny.json")
    file = write({"model": "models/tiny.json", "steps": 0, "sede": 1}, "run.json")
    assert error(gptzoo.load_run_spec, file).split("\n") == [
        "run.json: $.sede: no field named 'sede'; did you mean 'seed'?",
        "tiny.json: $.attention.droput: 'sdpa' has no option 'droput'; did you mean 'dropout'?",
        "run.json: $.steps: should be greater than 0",
    ]


def test_errors_in_an_inline_model_name_the_file_of_the_run(write: Write) -> None:
    file = write({"model": small(d_model="x"), "steps": 1}, "run.json")
    assert error(gptzoo.load_run_spec, file) == "run.json: $.model.d_model: should be a valid integer"


def test_json_syntax_errors_in_a_model_file_name_that_file(write: Write) -> None:
    write("{", "tiny.json")
    file = write({"model": "tiny.json", "steps": 1}, "run.json")
    assert error(gptzoo.load_run_spec, file).startswith("tiny.json: line 1 column 2: ")


def test_set_changes_fields_of_a_model_file_or_chooses_another(write: Write) -> None:
    write(small(name="one", attention="naive"), "one.json")
    write(small(name="other", attention="naive"), "other.json")
    file = write({"model": "one.json", "steps": 1}, "run.json")
    spec = gptzoo.load_run_spec(file, ["model.attention.window=3", "model=other.json", "steps=7"])
    assert (spec.model.name, spec.model.attention.window, spec.steps) == ("other", 3, 7)
    assert error(gptzoo.load_run_spec, file, ["model=third.json"]).startswith(
        "run.json: $.model: no model spec at 'third.json'"
    )


def test_a_run_as_a_dict_has_an_inline_model_or_a_path(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(small(name="by path"))
    monkeypatch.chdir(tmp_path)
    assert gptzoo.load_run_spec({"model": small(), "steps": 1}).model.name == "model"
    assert gptzoo.load_run_spec({"model": "tiny.json", "steps": 1}).model.name == "by path"


def test_a_dict_may_contain_specs_configs_and_paths(write: Write) -> None:
    model = gptzoo.load_model_spec(small(vocab_size=None))
    assert gptzoo.load_run_spec({"model": model, "steps": 3}).model == model
    assert gptzoo.load_run_spec({"model": MappingProxyType(small(vocab_size=None)), "steps": 3}).model == model
    assert gptzoo.load_run_spec({"model": write(small(vocab_size=None), "model.json"), "steps": 3}).model == model
    assert gptzoo.load_model_spec(small(attention=model.attention)).attention == model.attention
    with pytest.raises(SpecError, match="a spec is JSON and cannot contain a Tensor"):
        gptzoo.load_model_spec(small(dropout=torch.zeros(())))


def test_a_file_and_its_json_give_equal_specs(write: Write) -> None:
    file = write({"$schema": "model.schema.json", **small()})
    assert gptzoo.load_model_spec(json.loads(file.read_text())) == gptzoo.load_model_spec(file)


def test_overrides_may_be_an_iterator() -> None:
    base = {"model": small(vocab_size=None), "steps": 3}
    overrides = (text for text in ("base.steps=7", "alpha=0.1"))
    spec = gptzoo.load_ablation_spec({"base": base, "axes": {"model.norm": ["pre_ln"]}}, overrides)
    assert (spec.base["steps"], spec.alpha) == (7, 0.1)


@pytest.mark.parametrize(
    ("patch", "path"),
    [
        ({"name": "a\ud800"}, "$.name"),
        ({"model": {"vocab_size": 9, "context_length": 8, "name": "\udcff"}}, "$.model.name"),
        ({"corpus": {"type": "text", "path": "\udcff"}}, "$.corpus.path"),
        ({"\ud800": 1}, "$.\\ud800"),
    ],
)
def test_a_lone_surrogate_is_refused_by_its_path(patch: dict[str, Any], path: str, tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_text(json.dumps({"steps": 1, "model": {"vocab_size": 9, "context_length": 8}, **patch}))
    with pytest.raises(gptzoo.SpecError) as caught:
        load_run_spec(file)
    assert str(caught.value) == f"run.json: {path}: has a lone surrogate, which UTF-8 cannot represent. Remove it."
