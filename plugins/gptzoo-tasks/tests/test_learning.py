"""Each task is learned by a small model that can solve it, and stays at chance for one that provably cannot.

The initial standard deviation is 0.1: with the default, recall stays for long at one in the number of pairs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from gptzoo_tasks import TASKS

import gptzoo

pytestmark = pytest.mark.slow

ABLE: dict[str, Any] = {
    "d_model": 64,
    "n_layers": 2,
    "n_heads": 2,
    "positional": "rope",
    "architecture": {"type": "decoder", "init_std": 0.1},
}
PARITY: dict[str, Any] = {
    "d_model": 32,
    "n_layers": 1,
    "n_heads": 2,
    "positional": "none",
    "attention": {"type": "gated_delta", "conv_size": 1, "beta_max": 2.0},
    "architecture": {"type": "decoder", "init_std": 0.1},
}

# Options of the task, steps, and options of the run.
LEARNED: dict[str, tuple[dict[str, Any], int, dict[str, Any]]] = {
    "mqar": ({"length": 16, "n_pairs": 2, "vocab_size": 16}, 300, {}),
    "in_context_recall": ({"length": 32, "n_keys": 4, "n_values": 4}, 250, {}),
    "noisy_recall": ({"length": 64, "n_keys": 4, "n_values": 4, "n_noise": 4}, 600, {}),
    "fuzzy_recall": (
        {"length": 60, "n_pairs": 2, "n_keys": 6, "n_values": 4, "key_size": 2, "value_size": 1},
        1500,
        {"model": {**ABLE, "n_heads": 4}},
    ),
    "selective_copying": ({"length": 24, "n_copied": 4, "n_tokens": 6}, 600, {}),
    "compression": ({"length": 17, "n_tokens": 6, "n_noise": 1}, 150, {}),
    "memorization": ({"length": 8, "n_facts": 16}, 150, {}),
    "induction_heads": ({"length": 16, "n_tokens": 8}, 250, {}),
    "passkey": ({"length": 24, "n_digits": 3, "n_filler": 4}, 400, {}),
    "state_tracking": ({"length": 12}, 500, {"model": PARITY, "lr": 0.01}),
    "modular_addition": (
        {"modulus": 31, "n_train": 800, "n_val": 161},
        1500,
        {"batch_size": 200, "weight_decay": 1.0},
    ),
}

# Small models read only the last token of a key, also after 3,000 steps or with three layers. Here 12% of the pairs of
# keys end in the same token, so such a model is right in 95.4%.
LEAST_ACCURACY = {"fuzzy_recall": 0.95}


def accuracy(folder: Path, name: str, options: dict[str, Any], steps: int, changes: dict[str, Any]) -> Any:
    """Train and return the held-out accuracy as a proportion, and chance."""
    settings = {"model": ABLE, "lr": 0.003, "batch_size": 64, "weight_decay": 0.1, **changes}
    optimizer = {"type": "adamw", "lr": settings["lr"], "weight_decay": settings["weight_decay"]}
    spec = {
        "model": {"context_length": 64, **settings["model"]},
        "corpus": {"type": name, **options},
        "optimizer": optimizer,
        "schedule": {"type": "cosine", "warmup_steps": 50},
        "batch_size": settings["batch_size"],
        "steps": steps,
        "eval": {"every": steps},
        "checkpoint": {"every": steps},
        "watch": {"every": None},
        "device": "cpu",
        "precision": "fp32",
    }
    gptzoo.train(spec, folder, quiet=True)
    evaluation = gptzoo.evaluate(folder, device="cpu")
    return evaluation.metrics["accuracy"], evaluation.chance["accuracy"]


def test_every_task_is_learned() -> None:
    assert LEARNED.keys() == {task.name for task in TASKS}


@pytest.mark.parametrize("name", LEARNED)
def test_a_model_that_can_solve_a_task_does(name: str, tmp_path: Path) -> None:
    if name == "state_tracking" and "gated_delta" not in gptzoo.registered("attention"):
        pytest.skip("needs gptzoo-recurrent")
    proportion, _ = accuracy(tmp_path / "run", name, *LEARNED[name])
    assert proportion.value >= LEAST_ACCURACY.get(name, 0.99)


def test_only_negative_eigenvalues_track_parity_beyond_the_length_of_training(tmp_path: Path) -> None:
    if "gated_delta" not in gptzoo.registered("attention"):
        pytest.skip("needs gptzoo-recurrent")
    options = {"length": 12, "levels": {"long": {"length": 40}}}
    at_end = {}
    for beta_max in (1.0, 2.0):
        model = {**PARITY, "attention": {**PARITY["attention"], "beta_max": beta_max}}
        folder = tmp_path / str(beta_max)
        accuracy(folder, "state_tracking", options, 400, {"model": model, "lr": 0.01})
        at_end[beta_max] = gptzoo.evaluate(folder, device="cpu").sets["long"].metrics["accuracy_at_end"].value
    assert at_end[2.0] >= 0.99
    assert at_end[1.0] < 0.6


@pytest.mark.parametrize("name", LEARNED)
def test_a_model_that_sees_one_token_stays_at_chance(name: str, tmp_path: Path) -> None:
    """With a window of one token, the output at a position is a function of the token there.

    The answers of one sample are not independent where a value recurs, so a binomial interval would be too narrow.
    """
    options, _, changes = LEARNED[name]
    blind = {**ABLE, "n_layers": 1, "attention": {"type": "sdpa", "window": 1}, "positional": "none"}
    proportion, chance = accuracy(tmp_path / "run", name, options, 60, {**changes, "model": blind})
    assert proportion.n >= 150
    assert proportion.value == pytest.approx(chance, abs=0.04)
