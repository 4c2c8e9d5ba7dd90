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
from gptzoo.spec.files import load_ablation_spec

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`write(content, name)` makes a file of a text, of bytes or of JSON."""

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
    ("text", "told"),
    [
        ('{"dropout": NaN}', "tiny.json: $: NaN is not JSON"),
        ("{} {}", "tiny.json: line 1 column 4: Extra data"),
        ("[]", "tiny.json: $: a spec is a JSON object"),
        ('"sdpa"', "tiny.json: $: a spec is a JSON object"),
        ("null", "tiny.json: $: a spec is a JSON object"),
    ],
)
def test_what_is_no_json_object_is_told(text: str, told: str, write: Write) -> None:
    assert error(gptzoo.load_model_spec, write(text)) == told
    assert error(gptzoo.load_run_spec, write(text)) == told


def test_a_number_too_large_for_a_float_is_not_finite(write: Write) -> None:
    file = write(json.dumps(small()).replace("{", '{"dropout": 1e999, ', 1))
    assert error(gptzoo.load_model_spec, file) == "tiny.json: $.dropout: should be a finite number"


def test_what_is_not_utf8_is_told(write: Write) -> None:
    file = write(b'{"name": "\xff"}')
    assert error(gptzoo.load_model_spec, file) == f"{file}: $: is not UTF-8 text"


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    missing = tmp_path / "missing.json"
    assert error(gptzoo.load_model_spec, missing) == f"{missing}: $: cannot be read: No such file or directory"
    assert error(gptzoo.load_model_spec, tmp_path) == f"{tmp_path}: $: is a folder; give the file of a spec"
    assert error(gptzoo.load_run_spec, missing) == f"{missing}: $: cannot be read: No such file or directory"
    assert error(gptzoo.load_model_spec, "a\0b").endswith("$: cannot be read: embedded null byte")
    assert error(gptzoo.load_model_spec, "x" * 5000).endswith("$: cannot be read: File name too long")


def test_a_path_that_is_misspelt_is_told_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "tiny.json").write_text("{}")
    assert error(gptzoo.load_model_spec, tmp_path / "tyni.json").endswith(f"; did you mean '{tmp_path / 'tiny.json'}'?")


def test_the_folder_of_a_run_is_told_with_the_spec_in_it(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    assert error(gptzoo.load_run_spec, tmp_path).endswith(f"give the file of a spec, such as {tmp_path / 'run.json'}")


ABLATION = {"name": "x", "base": "run.json", "axes": {}}


@pytest.mark.parametrize(
    ("load", "spec", "reason"),
    [
        (gptzoo.load_run_spec, small(), "describes a model, and a run is wanted here"),
        (gptzoo.load_run_spec, ABLATION, "describes an ablation, and a run is wanted here"),
        (gptzoo.load_model_spec, {"model": small()}, "describes a run, and a model is wanted here"),
        (load_ablation_spec, {"model": small()}, "describes a run, and an ablation is wanted here"),
        (load_ablation_spec, small(), "describes a model, and an ablation is wanted here"),
    ],
)
def test_a_spec_of_another_kind_is_told_in_one_line(load: Any, spec: dict[str, Any], reason: str) -> None:
    assert error(load, spec).startswith(f"spec: $: {reason}; ")
    assert "\n" not in error(load, spec)


def test_objects_and_lists_are_called_so() -> None:
    run = {"model": small(), "steps": 3, "early_stopping": 3, "trackers": "csv"}
    assert error(gptzoo.load_run_spec, run).splitlines() == [
        "spec: $.early_stopping: should be an object",
        "spec: $.trackers: should be a list",
    ]


def test_sizes_that_no_tensor_can_have_are_refused() -> None:
    told = error(gptzoo.load_model_spec, small(d_model=10**12, n_layers=10**9, context_length=10**400))
    assert {line.split(": ")[1] for line in told.splitlines()} == {"$.d_model", "$.n_layers", "$.context_length"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from([*small(), "attention", "ffn", "norm", "positional", "architecture"]), json_values)
)
def test_whatever_json_comes_only_a_spec_error_goes(data: dict[str, Any]) -> None:
    with pytest.raises(SpecError) as caught:
        gptzoo.load_model_spec({**small(), **data, "n_heads": 0})
    assert all(problem.path.startswith("$") and problem.reason for problem in caught.value.problems)


# ---------------------------------------------------------------------- errors that look as designed


@pytest.mark.usefixtures("fresh_registry")
def test_errors_name_file_place_reason_and_what_to_try(write: Write) -> None:
    file = write(small(attention={"type": "sdpa", "droput": 0.1}, positional="roep", n_layers=0))
    first, second, third = error(gptzoo.load_model_spec, file).split("\n")
    assert first == "tiny.json: $.n_layers: should be greater than 0"
    assert second == "tiny.json: $.attention.droput: 'sdpa' has no option 'droput'; did you mean 'dropout'?"
    assert third.startswith(
        "tiny.json: $.positional: no positional named 'roep'; did you mean 'rope'?"
        "  (known: learned, none, rope, sinusoidal)"
    )


def test_a_spec_that_is_no_file_is_called_spec() -> None:
    assert error(gptzoo.load_model_spec, small(bias=3)) == "spec: $.bias: should be a valid boolean"


def test_the_data_that_was_given_is_left_as_it_was() -> None:
    data = small(attention="sdpa", norm={"type": "pre_ln"})
    before = json.dumps(data)
    gptzoo.load_model_spec(data, ["attention.window=3", "norm.layer=rmsnorm"])
    assert json.dumps(data) == before


# ---------------------------------------------------------------------- a run and its model


def test_the_model_of_a_run_is_found_beside_it_or_in_the_current_folder(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(small(name="beside"), "runs/models/tiny.json")
    write(small(name="current"), "models/tiny.json")
    write(small(name="only current"), "models/other.json")
    monkeypatch.chdir(tmp_path)

    def model_of(path: str) -> str:
        return gptzoo.load_run_spec(write({"model": path, "steps": 1}, "runs/run.json")).model.name

    assert model_of("models/tiny.json") == "beside"
    assert model_of("../models/tiny.json") == "current"
    assert model_of("models/other.json") == "only current"
    assert model_of(str(tmp_path / "models" / "tiny.json")) == "current"


def test_a_model_that_is_not_there_is_told_with_where_it_was_looked_for(write: Write, tmp_path: Path) -> None:
    file = write({"model": "models/tiny.json", "steps": 1}, "run.json")
    assert error(gptzoo.load_run_spec, file) == (
        f"run.json: $.model: no model spec at 'models/tiny.json' (looked in {tmp_path} and in the current folder)"
    )
    for strange in ("x" * 5000, "a\0b", "."):
        assert "no model spec at" in error(gptzoo.load_run_spec, {"model": strange, "steps": 1})


def test_errors_in_a_model_by_path_are_named_by_its_file(write: Write) -> None:
    write(small(attention={"type": "sdpa", "droput": 0.1}), "models/tiny.json")
    file = write({"model": "models/tiny.json", "steps": 0, "sede": 1}, "run.json")
    assert error(gptzoo.load_run_spec, file).split("\n") == [
        "run.json: $.sede: no field named 'sede'; did you mean 'seed'?",
        "tiny.json: $.attention.droput: 'sdpa' has no option 'droput'; did you mean 'dropout'?",
        "run.json: $.steps: should be greater than 0",
    ]


def test_errors_in_an_inline_model_are_named_by_the_file_of_the_run(write: Write) -> None:
    file = write({"model": small(d_model="x"), "steps": 1}, "run.json")
    assert error(gptzoo.load_run_spec, file) == "run.json: $.model.d_model: should be a valid integer"


def test_json_mistakes_in_a_model_by_path_are_named_by_its_file(write: Write) -> None:
    write("{", "tiny.json")
    file = write({"model": "tiny.json", "steps": 1}, "run.json")
    assert error(gptzoo.load_run_spec, file).startswith("tiny.json: line 1 column 2: ")


def test_set_reaches_into_a_model_by_path_and_may_name_another(write: Write) -> None:
    write(small(name="one", attention="naive"), "one.json")
    write(small(name="other", attention="naive"), "other.json")
    file = write({"model": "one.json", "steps": 1}, "run.json")
    spec = gptzoo.load_run_spec(file, ["model.attention.window=3", "model=other.json", "steps=7"])
    assert (spec.model.name, spec.model.attention.window, spec.steps) == ("other", 3, 7)
    assert error(gptzoo.load_run_spec, file, ["model=third.json"]).startswith(
        "run.json: $.model: no model spec at 'third.json'"
    )


def test_a_run_can_be_given_as_a_dict_with_its_model_inline_or_by_path(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(small(name="by path"))
    monkeypatch.chdir(tmp_path)
    assert gptzoo.load_run_spec({"model": small(), "steps": 1}).model.name == "model"
    assert gptzoo.load_run_spec({"model": "tiny.json", "steps": 1}).model.name == "by path"


def test_a_dict_may_hold_specs_configs_and_paths(write: Write) -> None:
    model = gptzoo.load_model_spec(small(vocab_size=None))
    assert gptzoo.load_run_spec({"model": model, "steps": 3}).model == model
    assert gptzoo.load_run_spec({"model": MappingProxyType(small(vocab_size=None)), "steps": 3}).model == model
    assert gptzoo.load_run_spec({"model": write(small(vocab_size=None), "model.json"), "steps": 3}).model == model
    assert gptzoo.load_model_spec(small(attention=model.attention)).attention == model.attention
    with pytest.raises(SpecError, match="a Tensor has no place in a spec, which is JSON"):
        gptzoo.load_model_spec(small(dropout=torch.zeros(())))


def test_a_file_that_was_read_as_json_is_as_good_as_the_file(write: Write) -> None:
    file = write({"$schema": "model.schema.json", **small()})
    assert gptzoo.load_model_spec(json.loads(file.read_text())) == gptzoo.load_model_spec(file)


def test_overrides_of_an_ablation_may_come_one_by_one() -> None:
    base = {"model": small(vocab_size=None), "steps": 3}
    told = (text for text in ("base.steps=7", "alpha=0.1"))
    found = gptzoo.load_ablation_spec({"base": base, "axes": {"model.norm": ["pre_ln"]}}, told)
    assert (found.base["steps"], found.alpha) == (7, 0.1)
