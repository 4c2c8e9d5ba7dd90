"""Spec files as JSON with comments, YAML and TOML: the same values, and errors with the line and the path."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import gptzoo
from gptzoo.errors import SpecError
from gptzoo.spec.formats import json_text, toml_text, yaml_text
from gptzoo.spec.formats.document import read_document

MODEL = {
    "context_length": 64,
    "d_model": 32,
    "n_layers": 2,
    "n_heads": 4,
    "norm": {"type": "pre_ln", "layer": "rmsnorm"},
    "dropout": 1e-3,
    "bias": False,
}
TEXTS = {
    "model.json": """// a model
{
  "context_length": 64, /* tokens,
  not bytes */ "d_model": 32, "n_layers": 2, "n_heads": 4,
  "norm": {"type": "pre_ln", "layer": "rmsnorm"}, // not layernorm
  "dropout": 1e-3, "bias": false
}
""",
    "model.jsonc": """{
  "context_length": 64, "d_model": 32, "n_layers": 2, "n_heads": 4,
  "norm": {"type": "pre_ln", "layer": "rmsnorm",},
  "dropout": 1e-3, "bias": false,
  // "tie_embeddings": false
}
""",
    "model.yaml": """# a model
context_length: 64
d_model: 32
n_layers: 2
n_heads: 4
norm: {type: pre_ln, layer: rmsnorm}
dropout: 1e-3
bias: false
""",
    "model.yml": json.dumps(MODEL),  # JSON is YAML
    "model.toml": """context_length = 64  # tokens
d_model = 32
n_layers = 2
n_heads = 4
dropout = 1e-3
bias = false

[norm]
type = "pre_ln"
layer = "rmsnorm"
""",
}


def write(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text)
    return file


def error(file: Path, load: Any = gptzoo.load_model_spec, **options: Any) -> str:
    with pytest.raises(SpecError) as caught:
        load(file, **options)
    return str(caught.value)


@pytest.mark.parametrize("name", TEXTS)
def test_every_format_gives_the_same_spec(name: str, tmp_path: Path) -> None:
    assert gptzoo.load_model_spec(write(tmp_path, name, TEXTS[name])) == gptzoo.load_model_spec(MODEL)


def test_the_examples_of_the_page_about_specs_are_the_same_spec(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "specs.md").read_text(encoding="utf-8")
    texts = {
        language: re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.M)[0] for language in ("yaml", "toml")
    }
    of_yaml, of_toml = (gptzoo.load_run_spec(write(tmp_path, f"run.{name}", text)) for name, text in texts.items())
    assert of_yaml == of_toml
    assert of_yaml.optimizer.lr == 0.003


def test_files_of_several_formats_refer_to_each_other(tmp_path: Path) -> None:
    write(tmp_path, "model.toml", TEXTS["model.toml"])
    write(
        tmp_path,
        "run.yaml",
        "model: model.toml\ncorpus: stories\ntokenizer: byte\nsteps: 3\noptimizer: {type: adamw, lr: 1e-3}\n",
    )
    ablation = write(tmp_path, "ablation.jsonc", '{"base": "run.yaml", "axes": {"model.n_layers": [2, 3,]},}')
    spec = gptzoo.load_ablation_spec(ablation, ["base.steps=5", "base.model.d_model=16"])
    base = gptzoo.load_run_spec(spec.base)
    assert (base.model.d_model, base.steps, base.optimizer.lr) == (16, 5, 1e-3)
    assert base.model.norm.layer.type == "rmsnorm"
    assert gptzoo.load_run_spec(tmp_path / "run.yaml", ["model=model.toml"]).model.n_layers == 2


def test_plain_scalars_of_yaml_follow_version_1_2() -> None:
    text = "[1e-3, no, off, yes, 1_000, 2026-11-30, 12:30, 0o17, 017, 0x1F, ~, .5, +1, Null, TRUE, 1., '1', !!str 1, =]"
    expected = [0.001, "no", "off", "yes", "1_000", "2026-11-30", "12:30", 15, 17, 31, None, 0.5, 1, None, True, 1.0]
    value = yaml_text.parse(text, "a.yaml")
    assert value == [*expected, "1", "1", "="]
    assert list(map(type, value[:16])) == list(map(type, expected))


def test_aliases_of_yaml_are_independent_copies(tmp_path: Path) -> None:
    text = "axes: {a: &window {type: sdpa, window: 8}, b: *window}\n"
    value = yaml_text.parse(text, "a.yaml")
    assert value["axes"]["a"] == value["axes"]["b"] == {"type": "sdpa", "window": 8}
    assert value["axes"]["a"] is not value["axes"]["b"]
    assert value["axes"]["a"] is not yaml_text.parse(text, "a.yaml")["axes"]["a"]


def test_keys_of_yaml_are_the_text_as_written() -> None:
    assert yaml_text.parse("{1: a, no: b, 1e-3: c, null: d}", "a.yaml") == {
        "1": "a",
        "no": "b",
        "1e-3": "c",
        "null": "d",
    }


def test_dates_of_toml_are_their_json_form() -> None:
    assert toml_text.parse("a = 2026-11-30\nb = 07:32:00\n", "a.toml") == {"a": "2026-11-30", "b": "07:32:00"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", '{\n  "d_model": 1,\n  "d_model": 2\n}', "a.json:3: $.d_model: the key 'd_model' appears twice"),
        ("a.json", '{\n "norm": {"type": "a",\n"type": "a"}}', "a.json:3: $.norm.type: the key 'type' appears twice"),
        ("a.yaml", "norm:\n  type: a\n  type: b\n", "a.yaml:3: $.norm.type: the key 'type' appears twice"),
        ("a.yaml", "a: {b: 1, 'b': 2}\n", "a.yaml:1: $.a.b: the key 'b' appears twice in one object"),
        ("a.toml", "bias = true\nd_model = 1\nbias = false\n", "a.toml: line 3 column 13: a key appears twice"),
        ("a.toml", "[norm]\na = 1\n[norm]\n", "a.toml: line 3 column 6: Cannot declare ('norm',) twice"),
        ("a.json", '{\n  "dropout": NaN\n}', "a.json:2: $.dropout: NaN is not valid JSON"),
        ("a.yaml", "a: 1\nb: [1, .nan]\n", "a.yaml:2: $.b[1]: .nan is not a number that JSON has"),
        ("a.toml", "a = 1\nb = [\n  1,\n  -inf,\n]\n", "a.toml:2: $.b[1]: -inf is not a number that JSON has"),
        ("a.json", '{\n  "a": 1,\n}', "a.json: line 2 column 9: trailing comma before the closing bracket"),
        ("a.json", '{\n  "a": 1 /* no end\n}', "a.json: line 2 column 10: comment without its end, */"),
        ("a.jsonc", "{,}", "a.jsonc: line 1 column 2: trailing comma before the closing bracket"),
        ("a.yaml", "a: 1\n b: 2\n", "a.yaml: line 2 column 3: mapping values are not allowed here"),
        ("a.yaml", "a:\n\t- 1\n", "a.yaml: line 2 column 1: a tab. YAML is indented with spaces."),
        ("a.yaml", "a: [1\n", "a.yaml: line 2 column 1: expected"),
        ("a.yaml", "# nothing\n", "a.yaml: $: is empty; expected the fields of a spec"),
        ("a.yaml", "a: 1\n---\nb: 1\n", "a.yaml:2: $: a second document starts here. A spec file has one."),
        ("a.yaml", "a: 1\nb: !!python/object:os.system x\n", "a.yaml:2: $.b: the tag tag:yaml.org,2002:python/object"),
        ("a.yaml", "a: &x {b: 1}\nc:\n  <<: *x\n", 'a.yaml:3: $.c: YAML 1.2 has no merge key "<<".'),
        ("a.yaml", "a: *x\n", "a.yaml:1: $.a: the alias *x has no anchor &x before it"),
        ("a.yaml", "a: &x [1, *x]\n", "a.yaml:1: $.a[1]: the alias *x has no anchor &x before it"),
        ("a.yaml", "a: 1\n? [1]\n: 2\n", "a.yaml:2: $: a key should be a plain text"),
        ("a.yaml", "a: \x01\n", "a.yaml: $: is not YAML"),
        ("a.toml", "a = \n", "a.toml: line 1 column 5: Invalid value"),
        ("a.toml", "a = [1", "a.toml: line 1: "),
        ("a.yaml", "- 1\n", "a.yaml: $: should be an object, with the fields of a spec"),
        ("a.yaml", "\ufeffa: 1\n", "a.yaml: $: starts with a byte order mark"),
        ("a.toml", "\ufeffa = 1\n", "a.toml: $: starts with a byte order mark"),
        ("a.yaml", "a: " + "[\n " * 600, "a.yaml: $: is nested too deeply"),
        ("a.toml", "a = " + "[" * 3000, "a.toml: $: is nested too deeply"),
        ("a.yaml", "a: " + "9" * 5000, "a.yaml:1: $.a: contains an integer with thousands of digits"),
        ("a.toml", "a = " + "9" * 5000, "a.toml: $: contains an integer with thousands of digits"),
    ],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_a_text_that_no_spec_can_be_is_an_error_at_its_place(
    name: str, text: str, message: str, tmp_path: Path
) -> None:
    assert error(write(tmp_path, name, text)).startswith(message)


def test_aliases_cannot_fill_the_memory(tmp_path: Path) -> None:
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 12)]
    file = write(tmp_path, "bomb.yaml", "\n".join(["l0: &l0 [x]", *levels]))
    assert error(file).endswith("aliases expand to more than 100,000 values")


FAULTS = {
    "run.json": """{
  "model": {
    "d_model": 32,
    "norm": {
      "type": "pre_ln",
      "layr": 1 //
} },
  "stepz": 3
}""",
    "run.yaml": "model:\n  d_model: 32\n\n  norm:\n    type: pre_ln\n    layr: 1\n\nstepz: 3\n",
    "run.toml": "# a run\n\n\n\n\nmodel = {d_model = 32, norm = {type = 'pre_ln', layr = 1}}\n\nstepz = 3\n",
}


@pytest.mark.parametrize("name", FAULTS)
def test_errors_of_fields_have_line_and_path_in_every_format(name: str, tmp_path: Path) -> None:
    message = error(write(tmp_path, name, FAULTS[name]), gptzoo.load_run_spec)
    assert f"{name}:8: $.stepz: no field named 'stepz'; did you mean 'steps'?" in message
    assert f"{name}:6: $.model.norm.layr: 'pre_ln' has no option 'layr'; did you mean 'layer'?" in message
    missing = {"run.json": 2, "run.yaml": 1, "run.toml": 6}[name]  # a field that is missing has the line of its object
    assert f"{name}:{missing}: $.model.n_layers: is required" in message


def test_an_error_in_an_inlined_file_or_base_has_the_place_in_its_own_file(tmp_path: Path) -> None:
    write(tmp_path, "model.toml", TEXTS["model.toml"].replace("rmsnorm", "rmsnrm"))
    write(tmp_path, "run.yaml", "model: model.toml\ncorpus: stories\ntokenizer: byte\nsteps: 3\n")
    message = error(tmp_path / "run.yaml", gptzoo.load_run_spec)
    assert message.startswith("model.toml:10: $.norm.layer: no norm_layer named 'rmsnrm'")
    inline = write(tmp_path, "a.yaml", "axes: {model.n_layers: [2, 3]}\nbase:\n  model: model.toml\n  stepz: 3\n")
    assert "a.yaml:4: $.base.stepz: no field named 'stepz'" in error(inline, gptzoo.load_ablation_spec)


def test_an_overridden_value_has_no_line_of_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, "model.yaml", TEXTS["model.yaml"])
    assert error(file, overrides=["d_model=x"]) == "model.yaml: $.d_model: should be a valid integer"
    file.write_text(TEXTS["model.yaml"] + "attention: [{type: sdpa}, {type: sdpa}]\n")
    message = error(file, overrides=["attention.1.windw=2", "norm=pre_ln"])
    assert message.startswith("model.yaml: $.attention[1].windw: 'sdpa' has no option 'windw'")


def values_with(texts: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """Return a strategy for JSON values with strings and keys of another strategy."""
    numbers = st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
    return st.recursive(
        st.none() | st.booleans() | numbers | texts,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
        max_leaves=12,
    )


json_values = values_with(st.text())
words = st.text(alphabet="aenous \n:#-'\"[]{}&*!|>%@`,?~")  # no digits: PyYAML writes "1e3" without quotes


@settings(max_examples=40)
@given(json_values)
def test_yaml_reads_all_json(value: Any) -> None:
    assert yaml_text.parse(json.dumps(value), "a.yaml") == value


@settings(max_examples=40)
@given(values_with(words))
def test_yaml_reads_what_another_library_writes(value: Any) -> None:
    assert yaml_text.parse(yaml.safe_dump({"a": value}, allow_unicode=True), "a.yaml")["a"] == value


@settings(max_examples=40)
@given(json_values, st.sampled_from([' // "x": 1', " /* { */", "/**/ // /*"]))
def test_comments_between_tokens_change_nothing(value: Any, comment: str) -> None:
    lines = json.dumps(value, indent=1).split("\n")
    assert json_text.parse(f"{comment}\n".join(lines), "a.json") == value


@settings(max_examples=40)
@given(json_values)
def test_the_lines_of_json_are_those_of_the_text(value: Any) -> None:
    """With one value a line, the line of a key is found by counting the lines that the text before it has."""
    text = json.dumps({"before": value, "key": [1, value]}, indent=1)
    lines = text.splitlines()
    line = json_text.find_line(text, ("key",))
    assert line is not None
    assert lines[line - 1] == ' "key": ['
    assert json_text.find_line(text, ("key", 0)) == line + 1
    assert json_text.find_line(text, ("key", 2)) is None


@settings(max_examples=40)
@given(st.text(max_size=30) | st.text(alphabet="{}[]\",:0e1.-Nan \\u'&*!|>#%@`=\n\t/", max_size=30))
def test_any_text_raises_nothing_but_spec_errors(text: str) -> None:
    for parse in (json_text.parse, json_text.parse_jsonc, yaml_text.parse, toml_text.parse):
        try:
            parse(text, "text")
        except SpecError as caught:
            (problem,) = caught.problems
            assert problem.source == "text"


def test_the_lines_of_toml_are_those_of_the_statements() -> None:
    text = 'a = """\nb = 1\n"""\nb = [\n  1,\n  2\n]\n\n[[c]]\nd.e = 1\n[[c]]\nd.e = 2\n'
    assert tomllib.loads(text)["c"][1] == {"d": {"e": 2}}
    places = {("a",): 1, ("b",): 4, ("b", 1): 4, ("c",): 9, ("c", 0, "d", "e"): 10, ("c", 1): 11, ("c", 1, "d"): 12}
    assert {place: toml_text.find_line(text, place) for place in places} == places
    assert toml_text.find_line(text, ("b", 2)) is None


def test_a_suffix_that_is_not_known_is_read_as_json(tmp_path: Path) -> None:
    assert read_document(write(tmp_path, "spec.txt", "{} // nothing"))[0] == {}
