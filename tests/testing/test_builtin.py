"""What ships with gptzoo has every property of its kind."""

from __future__ import annotations

from typing import Any

import pytest

from gptzoo import registry
from gptzoo.testing.properties.catalog import Property, properties_of
from gptzoo.testing.runner import find, subject_of, verdict

# Beside their defaults, for those whose options open other paths.
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "attention:naive": [{"n_kv_heads": 1, "window": 3}],
    "attention:sdpa": [{"n_kv_heads": 2, "window": 3, "qk_norm": "rmsnorm"}],
    "ffn:glu": [{"d_ff": 24, "activation": "silu"}],
    "norm:pre_ln": [{"layer": "rmsnorm"}],
}
NEEDS_OPTIONS: dict[str, list[dict[str, Any]]] = {
    "logits_processor:logit_bias": [{"biases": {"3": 2.0, "12": -1.5}}],
    "logits_processor:banned_tokens": [{"ids": [3, 12]}, {"ids": [1], "texts": ["ab", "[["]}],
    "logits_processor:forced_tokens": [{"ids": [7, 7]}, {"text": "ab"}],
    "logits_processor:regex": [{"pattern": "[\\[ab]{4}"}, {"pattern": "[ab]|\\[+2?"}],
}
NEEDS_A_FILE = ("corpus:text", "corpus:jsonl")
NEEDS_A_PLACE: dict[str, dict[str, Any]] = {
    "tracker:wandb": {"mode": "offline"},
    "tracker:mlflow": {"uri": "sqlite:///{folder}/mlflow.db"},
}
NEEDS_A_DOWNLOAD = ("tokenizer:tiktoken",)
WITH_DATA_OF_THEIR_OWN = ("corpus:parquet", "corpus:hf", "corpus:mixture", "tokenizer:saved")  # tests/data checks them


def cases() -> list[Any]:
    """Every built-in component, with each set of options and each property."""
    builtin = registry.discover("none")
    labels = [f"{kind}:{name}" for kind in builtin.kinds for name in builtin.of_kind(kind)]
    return [
        pytest.param(label, options, one, id="-".join([label, *options, one.name]), marks=_marks(one))
        for label in labels
        if label not in (*NEEDS_A_FILE, *NEEDS_A_PLACE, *NEEDS_A_DOWNLOAD, *WITH_DATA_OF_THEIR_OWN)
        for options in NEEDS_OPTIONS.get(label) or [{}, *OPTIONS.get(label, [])]
        for one in properties_of(label.partition(":")[0])
    ]


def _marks(one: Property) -> list[Any]:
    return [pytest.mark.slow] if one.slow else []


@pytest.mark.parametrize(("label", "options", "one"), cases())
def test_it_has_the_property(fresh_registry: Any, label: str, options: dict[str, Any], one: Property) -> None:
    found = verdict(one, subject_of(find(label), options))
    assert found.outcome != "failed", found.text
    assert "rounding" not in found.text


@pytest.mark.parametrize("label", NEEDS_A_FILE)
def test_a_corpus_of_files_has_the_properties(label: str, tmp_path: Any) -> None:
    lines = [f'{{"text": "line {index}", "title": "title {index}"}}\n' for index in range(50)]
    file = tmp_path / "corpus"
    file.write_text("".join(lines))
    subject = subject_of(find(label), {"path": str(file)})
    for one in properties_of("corpus"):
        assert str(verdict(one, subject)) == f"{one.name} passed"


@pytest.mark.slow
@pytest.mark.parametrize("label", NEEDS_A_PLACE)
def test_a_tracker_that_is_a_service_has_the_properties(label: str, tmp_path: Any) -> None:
    options = {name: value.format(folder=tmp_path) for name, value in NEEDS_A_PLACE[label].items()}
    for one in properties_of("tracker"):
        # wandb's process lives on here, and holds the run; tests/training/test_trackers.py kills it for real.
        if (label, one.name) == ("tracker:wandb", "resuming"):
            continue
        assert str(verdict(one, subject_of(find(label), options))) == f"{one.name} passed"


def test_all_kinds_are_checked_but_those_that_the_page_leaves_out() -> None:
    without = {kind for kind in registry.discover("none").kinds if not properties_of(kind)}
    assert without == {"batching", "importer"}
