"""Each option that the families use changes the logits, so the comparisons with transformers test all of them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_families import CONFIGS, make_model

import gptzoo
from gptzoo.interop.hugging_face import import_folder

Json = dict[str, Any]

TRAINING_ONLY = {"balance", "dropout", "embed_dropout", "init_std", "out_dropout"}
"""Options without effect on the logits of a trained model."""

NOT_COMPARED = {"d_key", "d_value", "eps", "n_value_heads", "nope_dim", "norm", "rope_dim", "weight"}
"""Sizes, which shapes of weights check; the eps of norms, which is small; weights of a norm, which start at 1."""


REQUIRED = {
    "architecture.decoder.embed_scale",
    "architecture.decoder.logit_scale",
    "architecture.decoder.logit_softcap",
    "attention.sdpa.clip",
    "attention.sdpa.gate",
    "attention.sdpa.qk_norm",
    "attention.sdpa.scale",
    "attention.sdpa.sinks",
    "attention.sdpa.softcap",
    "attention.sdpa.window",
    "norm.pre_ln.residual_scale",
    "positional.rope.fraction",
    "positional.rope.scaling",
    "positional.rope.theta",
}
"""Options that must be among those that were reset."""


def options(spec: Json, path: tuple[Any, ...] = ()) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yield "kind.type.option" and the path of each option of each component in the JSON of a spec."""
    for key, value in spec.items() if isinstance(spec, dict) else enumerate(spec):
        inner = (*path, key)
        if isinstance(spec, dict) and "type" in spec and key != "type":
            kind = next(name for name in reversed(path) if isinstance(name, str))
            yield f"{kind}.{spec['type']}.{key}", inner
        if isinstance(value, dict | list):
            yield from options(value, inner)


def without(spec: Json, path: tuple[Any, ...]) -> gptzoo.ModelSpec | None:
    """Return the spec with an option at its default, or None if it is there already or must be set."""
    changed = copy.deepcopy(spec)
    holder: Any = changed
    for key in path[:-1]:
        holder = holder[key]
    del holder[path[-1]]
    try:
        result = gptzoo.load_model_spec(changed)
    except gptzoo.SpecError:
        return None
    return None if result.resolved() == spec else result


@torch.no_grad()
def change_of_logits(model: Any, spec: gptzoo.ModelSpec, tokens: torch.Tensor) -> float | None:
    """Return how much the logits move with the other spec and the same weights; None if the weights do not fit."""
    other = gptzoo.build(spec).eval()
    state, expected = model.state_dict(), other.state_dict()
    if any(state[name].shape != expected[name].shape for name in state.keys() & expected.keys()):
        return None
    other.load_state_dict({name: state[name] for name in state.keys() & expected.keys()}, strict=False)
    return (other(tokens)[0] - model(tokens)[0]).abs().max().item()


@pytest.mark.slow
def test_each_option_that_families_use_changes_the_logits_when_it_is_reset(tmp_path: Path) -> None:
    moved: dict[str, float] = {}
    for name in CONFIGS:
        make_model(name).save_pretrained(tmp_path / name / "theirs")
        import_folder(tmp_path / name / "theirs", tmp_path / name / "ours")
        model = gptzoo.load(tmp_path / name / "ours").model
        spec = model.spec.resolved()
        tokens = torch.randint(3, spec["vocab_size"], (2, 40), generator=torch.Generator().manual_seed(7))
        for option, path in options(spec):
            if option.rpartition(".")[2] in TRAINING_ONLY | NOT_COMPARED or moved.get(option, 0) > 1e-3:
                continue
            changed = without(spec, path)
            change = None if changed is None else change_of_logits(model, changed, tokens)
            if change is not None:
                moved[option] = max(moved.get(option, 0), change)
    assert moved.keys() >= REQUIRED
    insensitive = sorted(option for option, change in moved.items() if change < 3e-4)
    assert insensitive == [], ", ".join(insensitive)
