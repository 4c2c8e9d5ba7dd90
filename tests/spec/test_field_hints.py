"""Words of other projects and misplaced fields are refused, and the error has the line to write instead."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

import gptzoo
from gptzoo.errors import SpecError
from gptzoo.field_words import FIELD_WORDS, OTHER_MEANINGS
from gptzoo.spec.files import load_model_spec, load_run_spec

MODEL: dict[str, Any] = {"context_length": 16, "d_model": 16, "n_layers": 2, "n_heads": 2}
RUN: dict[str, Any] = {"model": MODEL, "steps": 10}


def reason(spec: Mapping[str, Any], *, model: bool = False) -> str:
    """Return the reason why a spec is refused."""
    with pytest.raises(SpecError) as error:
        (load_model_spec if model else load_run_spec)(spec)
    (problem,) = error.value.problems
    return problem.reason


def merged(spec: Any, change: Any) -> Any:
    if not isinstance(spec, dict) or not isinstance(change, dict):
        return change
    return {**spec, **{key: merged(spec.get(key), value) for key, value in change.items()}}


def field(spec: Any, path: str) -> Any:
    for part in path.split("."):
        spec = spec[part]
    return spec


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("lr", 1e-3, 'write "optimizer": {"type": "adamw", "lr": 0.001} (--set optimizer.lr=0.001)'),
        ("learning_rate", 3e-4, 'write "optimizer": {"type": "adamw", "lr": 0.0003} (--set optimizer.lr=0.0003)'),
        ("n_layer", 6, 'write "model": {"n_layers": 6} (--set model.n_layers=6)'),
        ("n_layers", 6, 'write "model": {"n_layers": 6} (--set model.n_layers=6)'),
        ("block_size", 64, 'write "model": {"context_length": 64} (--set model.context_length=64)'),
        ("max_iters", 500, 'write "steps": 500'),
        ("dropout", 0.1, 'write "model": {"dropout": 0.1} (--set model.dropout=0.1)'),
        ("grad_clip", 1.0, 'write "clip_norm": 1.0'),
        ("eval_interval", 100, 'write "eval": {"every": 100} (--set eval.every=100)'),
        ("min_lr", 1e-4, 'write "schedule": {"type": "cosine", "min_ratio": …} with a fraction of the peak'),
        ("rope_theta", 5e5, 'write "model": {"positional": {"type": "rope", "theta": 500000.0}}'),
        ("dataset", "~/my.txt", 'write "corpus": {"type": "text", "path": "~/my.txt"}'),
        ("setps", 5, "did you mean 'steps'?"),
        ("n_layrs", 5, "did you mean 'model.n_layers'?"),
    ],
)
def test_an_unknown_field_of_a_run_names_the_line_to_write(key: str, value: object, line: str) -> None:
    assert reason({**RUN, key: value}).startswith(f"no field named {key!r}; {line}")


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("n_embd", 32, 'write "d_model": 32'),
        ("num_key_value_heads", 1, 'write "attention": {"type": "sdpa", "n_kv_heads": 1} (--set attention.n_kv_heads'),
        ("rms_norm_eps", 1e-6, 'write "norm": {"type": "pre_ln", "layer": {"type": "layernorm", "eps": 1e-06}}'),
        ("window", 8, 'write "attention": {"type": "sdpa", "window": 8}'),
        ("lr", 1e-3, "it belongs to the run, outside of its model, as 'optimizer.lr'"),
        ("max_iters", 9, "it belongs to the run, outside of its model, as 'steps'"),
        ("atention", "sdpa", "did you mean 'attention'?"),
    ],
)
def test_an_unknown_field_of_a_model_names_the_line_to_write(key: str, value: object, line: str) -> None:
    assert reason({**MODEL, key: value}, model=True).startswith(f"no field named {key!r}; {line}")


def test_the_component_of_the_spec_stands_in_the_line() -> None:
    text = reason({**RUN, "optimizer": {"type": "sgd", "lr": 1.0}, "learning_rate": 0.5})
    assert '"optimizer": {"type": "sgd", "lr": 0.5}' in text


def test_an_override_is_answered_with_the_override_to_use() -> None:
    with pytest.raises(SpecError, match=r"\(--set optimizer\.lr=0\.01\)"):
        load_run_spec(RUN, ["lr=0.01"])


@pytest.mark.parametrize("word", FIELD_WORDS)
def test_the_line_for_every_word_is_valid_and_sets_the_field(word: str) -> None:
    path = FIELD_WORDS[word]
    root = {**RUN, "model": {**MODEL, "positional": "rope"}, "early_stopping": {"patience": 3}}
    if path == "model.ffn.d_ff":
        root["model"]["ffn"] = {"type": "mlp", "multiplier": None, "d_ff": 24}
    if path == "schedule.warmup_fraction":
        root["schedule"] = {"type": "cosine", "warmup_fraction": 0.25}
    value = field(load_run_spec(root).resolved(), path)
    text = reason({**root, word: value})
    (line,) = re.findall(r"; write (\".*?)(?: \(--set .*| with .*)?$", text)
    if "…" in line:
        assert word in OTHER_MEANINGS or len(json.dumps(value)) > 60
        line = line.replace("…", json.dumps(value))
    resolved = load_run_spec(merged({**root, path: value} if "." not in path else root, json.loads(f"{{{line}}}")))
    assert field(resolved.resolved(), path) == value


def test_words_are_no_second_names_of_fields() -> None:
    for word in FIELD_WORDS:
        with pytest.raises(SpecError):
            load_run_spec({**RUN, word: None})


def test_options_of_components_and_small_objects_know_the_words_too() -> None:
    assert "did you mean 'lr'?" in reason({**RUN, "optimizer": {"type": "adamw", "learning_rate": 0.1}})
    assert "did you mean 'every'?" in reason({**RUN, "eval": {"eval_interval": 5}})
    assert "did you mean 'n_kv_heads'?" in reason(
        {**MODEL, "attention": {"type": "sdpa", "num_key_value_heads": 1}}, model=True
    )


def test_a_component_of_another_file_is_known_in_hints(fresh_registry: Any) -> None:
    from support import admit

    class Wavy(gptzoo.Positional):
        """A positional with an option of its own."""

        name = "wavy"

        class Config(gptzoo.Positional.Config):
            amplitude: float = 1.0
            """Amplitude."""

    admit(Wavy)
    assert '"positional": {"type": "wavy", "amplitude": 2.0}' in reason({**MODEL, "amplitude": 2.0}, model=True)
