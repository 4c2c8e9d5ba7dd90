"""Differences between two specs and the models they build."""

from __future__ import annotations

from typing import Any

import pytest
from support import small

import gptzoo
from gptzoo.inspection.spec_diff import compare_specs


def model(**changes: Any) -> gptzoo.ModelSpec:
    return gptzoo.load_model_spec(small(**changes))


def run(*overrides: str) -> gptzoo.RunSpec:
    return gptzoo.load_run_spec({"model": small(), "steps": 1}, overrides)


def names(changes: Any) -> list[str]:
    return [change.name for change in changes]


def test_equal_specs_have_no_difference_however_they_are_written() -> None:
    same = compare_specs(model(), model(attention={"type": "sdpa", "dropout": 0.0}, positional=["learned", "learned"]))
    assert same.equal
    assert same.initial_values.compared > 20
    assert compare_specs(run(), run()).equal


def test_the_name_is_ignored() -> None:
    assert compare_specs(model(name="one"), model(name="other")).equal


def test_another_attention_changes_nothing_else() -> None:
    diff = compare_specs(model(), model(attention="naive"))
    assert [(change.name, change.a, change.b) for change in diff.spec] == [("$.attention.type", "sdpa", "naive")]
    assert names(diff.modules) == ["blocks.0.attention", "blocks.1.attention"]
    assert not diff.parameters
    assert not diff.initial_values.differ
    assert not diff.optimizer
    assert names(diff.costs) == ["training bytes, batch of 1"]  # naive keeps its scores


def test_added_removed_and_reshaped_parameters_are_named() -> None:
    diff = compare_specs(model(positional="learned"), model(positional="rope", d_model=64))
    by_name = {change.name: (change.a, change.b) for change in diff.parameters}
    assert by_name["positionals.0.table.weight"] == ("[16, 32]", None)
    assert by_name["embed.weight"] == ("[13, 32]", "[13, 64]")
    assert "parameters" in names(diff.costs)


def test_parameters_with_different_initial_values_are_named() -> None:
    diff = compare_specs(model(), model(architecture={"type": "decoder", "init_std": 0.1}))
    assert "embed.weight" in diff.initial_values.differ
    assert "exit.weight" not in diff.initial_values.differ  # ones in both
    assert not diff.equal
    reseeded = compare_specs(run(), run("seed=2"))
    assert names(reseeded.spec) == ["$.seed"]
    assert "embed.weight" in reseeded.initial_values.differ


def test_initial_values_are_skipped_on_request_and_for_large_models() -> None:
    assert compare_specs(model(), model(), values=False).initial_values.skipped == "not requested"
    large = compare_specs(model(d_model=4096, n_layers=4), model(d_model=4096, n_layers=4))
    assert large.initial_values.compared == 0
    assert "GiB" in str(large.initial_values.skipped)


def test_optimizer_options_are_compared_by_parameter_and_only_changed_ones_are_reported() -> None:
    diff = compare_specs(run(), run("optimizer.weight_decay=0.5"))
    assert "embed.weight" in names(diff.optimizer)
    assert "exit.weight" not in names(diff.optimizer)  # norms do not decay
    assert {(change.a["weight_decay"], change.b["weight_decay"]) for change in diff.optimizer} == {(0.1, 0.5)}
    assert all(set(change.a) == {"weight_decay"} for change in diff.optimizer)


def test_an_added_parameter_is_reported_with_its_group_options() -> None:
    diff = compare_specs(run(), run("model.bias=false"))
    by_name = {change.name: (change.a, change.b) for change in diff.optimizer}
    assert by_name["exit.bias"] == ({"weight_decay": 0.0}, None)


@pytest.mark.parametrize("field", ["n_layers", "vocab_size", "context_length"])
def test_every_size_changes_the_costs(field: str) -> None:
    assert compare_specs(model(), model(**{field: 17})).costs
