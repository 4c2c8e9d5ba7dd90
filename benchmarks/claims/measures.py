"""Measures of a trained run: the metrics that it recorded, and some that are computed from its weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import gptzoo
from gptzoo.components.sublayer import AuxiliaryOutputs
from gptzoo.data.prepare import prepare
from gptzoo.training.evaluation.full_pass import measure

TOKENS_PER_BATCH = 16384  # bounds memory; the result does not depend on it


def model_and_text(folder: Path, multiple: int = 1) -> tuple[Any, Any]:
    """Return a trained model, and its held-out text in windows of `multiple` times the trained length."""
    spec, model = gptzoo.load_run_spec(folder / "run.json"), gptzoo.load(folder).model
    tokenizer, store = prepare(spec.corpus.build(), spec.tokenizer)
    return model.eval(), spec.batching.build(store, tokenizer, multiple * spec.model.context_length, spec.seed)


def loss_at(folder: Path, multiple: int) -> float:
    """Return the loss (nats per token) of the held-out text in windows of `multiple` times the trained length."""
    model, batching = model_and_text(folder, multiple)
    return measure(model, batching.validation_batches(TOKENS_PER_BATCH), n_bytes=batching.val_bytes).likelihood.loss


def loss_rise(folder: Path) -> float:
    """Return the loss at 4 times the trained length minus that at the trained length."""
    return loss_at(folder, 4) - loss_at(folder, 1)


@torch.inference_mode()
def residual_growth(folder: Path) -> float:
    """Return log2 of the RMS of the residual stream after the last block, relative to that after the first block.

    The input is the first 16 windows of held-out text.
    """
    model, batching = model_and_text(folder)
    batch = next(iter(batching.validation_batches(16 * model.spec.context_length)))
    auxiliary = AuxiliaryOutputs()
    model(torch.from_numpy(batch["tokens"]), capture={"residual"}, auxiliary=auxiliary)
    first, last = (
        auxiliary.captures[f"blocks.{layer}.residual"].square().mean().sqrt().item()
        for layer in (0, model.spec.n_layers - 1)
    )
    return math.log2(last / first)


EXTRA: dict[str, Callable[[Path], float]] = {"loss rise at 4x": loss_rise, "residual growth": residual_growth}

UNITS = {"val/loss": "nats", "loss rise at 4x": "nats", "residual growth": "octaves"}


def unit(name: str) -> str:
    """Return the unit of a measure. Accuracies are shares of 1, without one."""
    return UNITS.get(name, "")
