"""Unknown names of components: words of other projects, packages that are not installed, paths, and own files."""

from __future__ import annotations

import importlib.metadata
import json
import re
from typing import Any

import pytest

import gptzoo
from gptzoo import registry
from gptzoo.component_hints import _WORDS, PACKAGES, unknown_component
from gptzoo.errors import SpecError

MODEL: dict[str, Any] = {"vocab_size": 9, "context_length": 256, "d_model": 8, "n_layers": 1, "n_heads": 2}
RUN: dict[str, Any] = {"model": MODEL, "steps": 1}


@pytest.mark.parametrize(
    ("field", "name", "hint"),
    [
        ("model.attention", "flash", 'write "attention": "sdpa", which uses a flash kernel'),
        ("model.positional", "rotary", 'write "positional": "rope"'),
        ("model.norm", "rmsnorm", 'write "norm": {"type": "pre_ln", "layer": "rmsnorm"}'),
        ("model.norm", "RMSNorm", 'write "norm": {"type": "pre_ln", "layer": "rmsnorm"}'),
        ("model.ffn", "swiglu", 'write "ffn": "glu", "activation": "silu"'),
        ("model.ffn", "SwiGLU", 'write "ffn": "glu", "activation": "silu"'),
        ("model.activation", "GELU", "did you mean 'gelu'?"),
        ("model.activation", "swish", 'write "activation": "silu"'),
        ("model.positional", "alibi", "'alibi' is in the package gptzoo-alibi: "),
        ("model.ffn", "moe", "'moe' is in the package gptzoo-moe: "),
        ("optimizer", "adam", 'write "optimizer": {"type": "adamw", "weight_decay": 0}'),
        ("optimizer", "schedulefree.adamw", "is in the package gptzoo-optimizers: "),
        ("corpus", "my.txt", 'for the text in a file, write "corpus": {"type": "text", "path": "my.txt"}'),
        ("corpus", "~/texts", 'for the text in a file, write "corpus": {"type": "text", "path": "~/texts"}'),
        ("corpus", "rows.jsonl", 'write "corpus": {"type": "jsonl", "path": "rows.jsonl"}'),
        ("model.attention", "./gated.py", "load it with --plugin ./gated.py"),
        ("tokenizer", "runs/a/tokenizer.json", 'write "tokenizer": {"type": "saved", "path": "runs/a/tokenizer.json"}'),
        ("model.norm", "post_nl", "did you mean 'post_ln'?"),
    ],
)
def test_the_error_of_an_unknown_component_says_what_to_write(field: str, name: str, hint: str) -> None:
    with registry.use(registry.discover(selection="none")), pytest.raises(SpecError) as error:
        gptzoo.load_run_spec(RUN, [f"{field}={name}"])
    (problem,) = error.value.problems
    assert problem.path == f"$.{field}"
    assert re.match(rf"no \w+ named {re.escape(repr(name))}; ", problem.reason)
    assert hint in problem.reason
    assert "(known: " in problem.reason


def test_a_name_like_no_other_may_be_of_a_plugin_file() -> None:
    reason = unknown_component("attention", "my_gate", ["naive", "sdpa"])
    assert (
        reason
        == "no attention named 'my_gate'  (known: naive, sdpa); a component of your own needs its file: --plugin "
        "FILE"
    )


def test_a_package_that_is_installed_and_disabled_is_not_to_be_installed() -> None:
    reason = unknown_component("positional", "alibi", ["rope"], ["gptzoo-alibi"])
    assert "GPTZOO_PLUGINS disables it" in reason
    assert "pip install" not in reason
    assert "pip install ./plugins/gptzoo-alibi in a clone" in unknown_component("positional", "alibi", ["rope"])


@pytest.mark.parametrize(("kind", "word"), [(kind, word) for kind, words in _WORDS.items() for word in words])
def test_what_to_write_is_valid_and_the_word_is_no_component(kind: str, word: str) -> None:
    """The JSON in each hint is the line of a valid spec."""
    assert word not in gptzoo.registered(kind)
    text = re.split(r", which | \(| for ", _WORDS[kind][word])[0]
    if kind == "norm_layer":
        assert json.loads(text) in gptzoo.registered(kind)
        return
    fields = json.loads(f"{{{text}}}")
    in_model = {"attention", "positional", "norm", "ffn", "activation"}
    assert set(fields) <= (in_model if kind in in_model else {kind, "trackers"})
    fields = {key: {**value, "path": __file__} if "my." in str(value) else value for key, value in fields.items()}
    gptzoo.load_run_spec({**RUN, "model": {**MODEL, **fields}} if kind in in_model else {**RUN, **fields})


def test_the_packages_of_the_repository_have_the_listed_components() -> None:
    """Every installed package of this repository is compared; one that is not installed cannot be."""
    installed = {
        entry.dist.name
        for entry in importlib.metadata.entry_points(group="gptzoo")
        if entry.dist is not None and entry.dist.name in PACKAGES
    }
    kinds = {kind for package in PACKAGES.values() for kind in package}
    found = registry.discover(selection=",".join(sorted(installed)) or "none")
    listed: dict[str, dict[str, tuple[str, ...]]] = {name: {} for name in installed}
    for plugin in found.plugins:
        if plugin.distribution in installed:
            for component in found.components_of(plugin):
                if component.kind in kinds:
                    names = listed[plugin.distribution].setdefault(component.kind, ())
                    listed[plugin.distribution][component.kind] = tuple(sorted({*names, component.name}))
    assert listed == {name: PACKAGES[name] for name in installed}
