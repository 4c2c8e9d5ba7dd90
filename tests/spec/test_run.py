"""Run specs: lengths, batches, and the components of training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import small

import gptzoo
from gptzoo import RunSpec
from gptzoo.errors import SpecError


def run(**changes: Any) -> dict[str, Any]:
    """Return the JSON of a small run. A change to None omits the field."""
    fields = {"model": small(vocab_size=None), "steps": 10, **changes}
    return {key: value for key, value in fields.items() if value is not None}


def problems(spec: dict[str, Any]) -> list[str]:
    with pytest.raises(SpecError) as caught:
        gptzoo.load_run_spec(spec)
    return [f"{problem.path}: {problem.reason}" for problem in caught.value.problems]


@settings(max_examples=60)
@given(
    length=st.sampled_from([{"steps": 3}, {"tokens": 1000}, {"epochs": 0.5}, {"epochs": 2}]),
    rest=st.fixed_dictionaries(
        {},
        optional={
            "name": st.text(max_size=4),
            "tokenizer": st.sampled_from(["byte", "char", {"type": "byte"}]),
            "schedule": st.sampled_from(["cosine", "constant"]),
            "optimizer": st.sampled_from(["adamw", {"type": "adamw", "lr": 0.5, "betas": [0.5, 0.75]}]),
            "batch_size": st.sampled_from([4, 8]),
            "micro_batch_size": st.sampled_from([None, 1, 2, 4]),
            "clip_norm": st.none() | st.floats(0.1, 10),
            "seed": st.integers(0, 2**63),
            "precision": st.sampled_from(["auto", "fp32", "bf16"]),
            "eval": st.fixed_dictionaries({}, optional={"every": st.integers(1, 9)}),
            "checkpoint": st.fixed_dictionaries({}, optional={"every": st.integers(1, 9), "keep": st.integers(2, 9)}),
            "sample": st.fixed_dictionaries(
                {}, optional={"prompt": st.text(max_size=3), "temperature": st.floats(0, 2)}
            ),
        },
    ),
)
def test_a_resolved_run_reads_back_as_itself(length: dict[str, Any], rest: dict[str, Any]) -> None:
    spec = gptzoo.load_run_spec({"model": small(), **length, **rest})
    resolved = json.loads(json.dumps(spec.resolved()))
    assert RunSpec.model_validate(resolved) == spec
    assert gptzoo.load_run_spec(resolved).resolved() == resolved


@pytest.mark.parametrize(
    ("length", "messages"),
    [
        ({}, ["$: the length of the run is not set. Give one of steps, tokens and epochs."]),
        (
            {"steps": 1, "tokens": 1},
            ["$.tokens: steps sets the length of the run already. Give only one of steps, tokens and epochs."],
        ),
        (
            {"steps": 1, "tokens": 1, "epochs": 1},
            [
                "$.tokens: steps sets the length of the run already. Give only one of steps, tokens and epochs.",
                "$.epochs: steps sets the length of the run already. Give only one of steps, tokens and epochs.",
            ],
        ),
        (
            {"tokens": 1, "epochs": 0.5},
            ["$.epochs: tokens sets the length of the run already. Give only one of steps, tokens and epochs."],
        ),
        ({"steps": 0}, ["$.steps: should be greater than 0"]),
        ({"steps": 1.5}, ["$.steps: should be a valid integer"]),
        ({"epochs": -1.0}, ["$.epochs: should be greater than 0"]),
    ],
    ids=str,
)
def test_exactly_one_field_sets_the_length_of_a_run(length: dict[str, Any], messages: list[str]) -> None:
    assert problems(run(steps=None) | length) == messages


@pytest.mark.parametrize(
    "length", [{"steps": 3}, {"tokens": 3}, {"epochs": 0.1}, {"steps": 3, "tokens": None}], ids=str
)
def test_steps_tokens_or_epochs_set_the_length(length: dict[str, Any]) -> None:
    spec = gptzoo.load_run_spec(run(steps=None) | length)
    assert {name: getattr(spec, name) for name in length} == length


def test_micro_batches_divide_the_batch() -> None:
    assert problems(run(batch_size=6, micro_batch_size=4)) == ["$.micro_batch_size: must divide batch_size 6, got 4"]
    assert gptzoo.load_run_spec(run(batch_size=6, micro_batch_size=3)).micro_batch_size == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"checkpoint": {"keep": 1}}, "$.checkpoint.keep: should be greater than or equal to 2"),
        ({"eval": {"evry": 1}}, "$.eval.evry: no field named 'evry'; did you mean 'every'?"),
        ({"precision": "fp8"}, "$.precision: should be 'auto', 'fp32', 'tf32', 'bf16' or 'fp16'"),
        ({"seed": -1}, "$.seed: should be greater than or equal to 0"),
        ({"seed": True}, "$.seed: should be a valid integer"),
        ({"clip_norm": 0.0}, "$.clip_norm: should be greater than 0"),
        ({"optimizer": {"type": "adamw", "lr": float("inf")}}, "$.optimizer.lr: should be a finite number"),
        ({"optimizer": {"type": "adamw", "leraning_rate": 1}}, "$.optimizer.leraning_rate: 'adamw' has no option"),
        ({"schedule": "cosin"}, "$.schedule: no schedule named 'cosin'; did you mean 'cosine'?"),
        ({"tokenizer": "bite"}, "$.tokenizer: no tokenizer named 'bite'; did you mean 'byte'?"),
        ({"corpus": "gelu"}, "$.corpus: no corpus named 'gelu'"),
        ({"model": 3}, "$.model: should be"),
        ({"model": None}, "$.model: is required"),
        ({"stps": 3}, "$.stps: no field named 'stps'; did you mean 'steps'?"),
    ],
    ids=str,
)
def test_errors_name_the_field(change: dict[str, Any], message: str) -> None:
    (problem,) = problems(run(**change))
    assert problem.startswith(message)


def test_all_errors_in_a_run_and_its_model_are_reported_together() -> None:
    wrong = run(sed=1, model=small(d_model="32", attention={"type": "sdpa", "windw": 4}), batch_size=0)
    assert problems(wrong) == [
        "$.sed: no field named 'sed'; did you mean 'seed'?",
        "$.model.d_model: should be a valid integer",
        "$.model.attention.windw: 'sdpa' has no option 'windw'; did you mean 'window'?",
        "$.batch_size: should be greater than 0",
    ]


def test_a_model_spec_may_be_given_as_an_object() -> None:
    model = gptzoo.load_model_spec(small())
    assert RunSpec(model=model, steps=1).model == model


def test_a_corpus_path_is_relative_to_the_run_spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").mkdir()
    text = tmp_path / "runs" / "text.txt"
    text.write_text("hello")
    file = tmp_path / "runs" / "run.json"
    file.write_text(json.dumps(run(corpus={"type": "text", "path": "text.txt"})))
    monkeypatch.chdir(tmp_path)
    assert gptzoo.load_run_spec(file).corpus.path == str(text)
