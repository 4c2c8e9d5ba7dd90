"""Every built-in component has the properties of its kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gptzoo import registry
from gptzoo.testing.at_size.effort import QUICK, SAMPLE
from gptzoo.testing.component_under_test import MODEL_KINDS
from gptzoo.testing.properties.catalog import Property, properties_of
from gptzoo.testing.runner import check_property, find_component, put_under_test

# Checked in addition to the defaults, because these options select other code.
MORE_OPTIONS: dict[str, list[dict[str, Any]]] = {
    "attention:naive": [{"n_kv_heads": 1, "window": 3}],
    "attention:sdpa": [{"n_kv_heads": 2, "window": 3, "qk_norm": "rmsnorm"}],
    "ffn:glu": [{"d_ff": 24, "activation": "silu"}],
    "norm:pre_ln": [{"layer": "rmsnorm"}],
}
REQUIRED_OPTIONS: dict[str, list[dict[str, Any]]] = {
    "logits_processor:logit_bias": [{"biases": {"3": 2.0, "12": -1.5}}],
    "logits_processor:banned_tokens": [{"ids": [3, 12]}, {"ids": [1], "texts": ["ab", "[["]}],
    "logits_processor:forced_tokens": [{"ids": [7, 7]}, {"text": "ab"}],
    "logits_processor:regex": [{"pattern": "[\\[ab]{4}"}, {"pattern": "[ab]|\\[+2?"}],
}
NEEDS_A_FILE = ("corpus:text", "corpus:jsonl")
NEEDS_A_SERVICE: dict[str, dict[str, Any]] = {
    "tracker:wandb": {"mode": "offline"},
    "tracker:mlflow": {"uri": "sqlite:///{folder}/mlflow.db"},
}
NEEDS_A_DOWNLOAD = ("tokenizer:tiktoken",)
STRATEGIES = ("strategy:sampling", "strategy:speculative", "strategy:contrastive", "strategy:beams")
SLOW_STRATEGIES = ("strategy:speculative", "strategy:contrastive")
SLOW_PROPERTIES = (("executor:local", "stopping"), ("executor:local", "leaving"))
CHECKED_IN_TESTS_DATA = (
    *("corpus:parquet", "corpus:hf", "corpus:mixture", "corpus:train_val", "tokenizer:saved"),
    *("corpus:tinystories", "corpus:openwebtext", "corpus:fineweb_edu", "corpus:wikitext", "corpus:tinyshakespeare"),
)


def cases() -> list[Any]:
    """Return every built-in component with each set of options and each property."""
    builtin = registry.discover("none")
    labels = [f"{kind}:{name}" for kind in builtin.kinds for name in builtin.of_kind(kind)]
    return [
        pytest.param(label, options, prop, id="-".join([label, *options, prop.name]), marks=_marks(label, prop))
        for label in (*labels, *STRATEGIES)
        if label not in (*NEEDS_A_FILE, *NEEDS_A_SERVICE, *NEEDS_A_DOWNLOAD, *CHECKED_IN_TESTS_DATA)
        for options in REQUIRED_OPTIONS.get(label) or [{}, *MORE_OPTIONS.get(label, [])]
        for prop in properties_of(label.partition(":")[0])
    ]


def cases_at_size() -> list[Any]:
    """Return every built-in part of a model with each property that is checked beyond toy sizes."""
    builtin = registry.discover("none")
    return [
        pytest.param(f"{kind}:{name}", prop, id=f"{kind}:{name}-{prop.name}")
        for kind in MODEL_KINDS
        for name in builtin.of_kind(kind)
        for prop in properties_of(kind)
        if prop.at_size is not None
    ]


def cases_with_draws() -> list[Any]:
    """Return every built-in component that is no part of a model with each property that draws examples."""
    return [
        pytest.param(*case.values[:2], case.values[2], id=case.id)
        for case in cases()
        if case.values[2].is_sampled and case.values[0].partition(":")[0] not in MODEL_KINDS
    ]


def _marks(label: str, prop: Property) -> list[pytest.MarkDecorator]:
    is_slow = prop.slow or label in SLOW_STRATEGIES or (label, prop.name) in SLOW_PROPERTIES
    return [pytest.mark.slow] if is_slow else []


@pytest.mark.parametrize(("label", "options", "prop"), cases())
def test_a_builtin_component_has_the_property(
    fresh_registry: object, label: str, options: dict[str, Any], prop: Property
) -> None:
    verdict = check_property(prop, put_under_test(find_component(label), options), SAMPLE)
    assert verdict.outcome != "failed", verdict.text
    assert "rounding" not in verdict.text


@pytest.mark.slow
@pytest.mark.parametrize(("label", "prop"), cases_at_size())
def test_a_builtin_component_has_the_property_at_size(fresh_registry: object, label: str, prop: Property) -> None:
    verdict = check_property(prop, put_under_test(find_component(label), {}), QUICK)
    assert verdict.outcome != "failed", verdict.text


@pytest.mark.slow
@pytest.mark.parametrize(("label", "options", "prop"), cases_with_draws())
def test_a_builtin_component_has_the_property_in_drawn_cases(
    fresh_registry: object, label: str, options: dict[str, Any], prop: Property
) -> None:
    verdict = check_property(prop, put_under_test(find_component(label), options), QUICK)
    assert verdict.outcome != "failed", verdict.text


@pytest.mark.parametrize("label", NEEDS_A_FILE)
def test_a_corpus_of_files_has_the_properties(label: str, tmp_path: Path) -> None:
    lines = [f'{{"text": "line {index}", "title": "title {index}"}}\n' for index in range(50)]
    file = tmp_path / "corpus"
    file.write_text("".join(lines))
    subject = put_under_test(find_component(label), {"path": str(file)})
    for prop in properties_of("corpus"):
        assert str(check_property(prop, subject)) == f"{prop.name} passed"


@pytest.mark.slow
@pytest.mark.parametrize("label", NEEDS_A_SERVICE)
def test_a_tracker_of_a_service_has_the_properties(label: str, tmp_path: Path) -> None:
    options = {name: value.format(folder=tmp_path) for name, value in NEEDS_A_SERVICE[label].items()}
    for prop in properties_of("tracker"):
        # wandb's process survives in this test and holds the run; tests/training/test_trackers.py kills it for real.
        if (label, prop.name) == ("tracker:wandb", "resuming"):
            continue
        assert str(check_property(prop, put_under_test(find_component(label), options))) == f"{prop.name} passed"


def test_every_kind_has_properties_except_those_that_the_page_names() -> None:
    without = {kind for kind in registry.discover("none").kinds if not properties_of(kind)}
    assert without == {"importer", "rope_scaling"}
