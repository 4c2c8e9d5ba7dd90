"""The recommended settings of norms: their values, and that a short run comes near the baseline with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import gptzoo

BASE: dict[str, Any] = {
    "model": {"context_length": 64, "d_model": 64, "n_layers": 2, "n_heads": 4},
    "corpus": "stories",
    "tokenizer": "byte",
    "batch_size": 16,
    "steps": 200,
    "optimizer": {"type": "adamw", "lr": 0.003},
    "schedule": {"type": "cosine", "warmup_fraction": 0.1},
    "eval": {"every": 200},
    "checkpoint": {"every": 200},
    "sample": {"max_new_tokens": 0},
    "device": "cpu",
}
NORMS: dict[str, Any] = {
    "sandwich": {"type": "sandwich", "layer": "rmsnorm"},
    "reordered": {"type": "reordered", "layer": "rmsnorm"},
    "dyt": {"type": "pre_ln", "layer": "dyt"},
}
NEAR = 0.25  # nats per byte
FAR = {"dyt": 0.5}  # nats per byte that the defaults lose, at least


def specs(norm: Any, base: dict[str, Any] = BASE) -> tuple[Any, Any]:
    """Return the spec of a norm with its recommended settings, and without."""
    axes = [{"model.norm": {"choices": {"it": norm}, "recommended": along}} for along in (True, False)]
    (recommended,), (defaults,) = (gptzoo.variants(base, axis) for axis in axes)
    return recommended.spec, defaults.spec


@pytest.mark.parametrize(
    ("norm", "init_std", "expected"),
    [("sandwich", 0.02, (50.0, 1.0)), ("reordered", 0.1, (10.0, 1.0)), ("peri", 0.02, (1.0, 1.0))],
)
def test_embeddings_start_as_large_as_the_output_of_a_norm(
    norm: str, init_std: float, expected: tuple[float, float]
) -> None:
    model = {**BASE["model"], "architecture": {"type": "decoder", "init_std": init_std}}
    recommended, defaults = specs(norm, {**BASE, "model": model})
    architecture = recommended.model.architecture
    assert (architecture.embed_scale, architecture.logit_scale) == expected
    assert defaults.model.architecture.embed_scale == 1.0


def test_dynamic_tanh_has_the_embeddings_of_the_paper_and_larger_logits() -> None:
    architecture = specs(NORMS["dyt"])[0].model.architecture
    assert (architecture.embed_scale, architecture.logit_scale) == (8.0, 10.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", NORMS)
def test_with_the_recommended_settings_it_comes_near_the_baseline(name: str, tmp_path: Path) -> None:
    recommended, defaults = specs(NORMS[name])
    runs = {"baseline": gptzoo.load_run_spec(BASE), "recommended": recommended, "defaults": defaults}
    loss = {run: gptzoo.train(spec, tmp_path / run, quiet=True).metrics["val/loss"] for run, spec in runs.items()}
    assert loss["recommended"] < loss["baseline"] + NEAR
    assert loss["defaults"] > loss["recommended"] + FAR.get(name, 0.0)
