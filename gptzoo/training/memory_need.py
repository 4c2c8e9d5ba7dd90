"""The memory that a run needs at least, checked before any of it is asked for."""

from __future__ import annotations

import os
import warnings

import torch
from torch import nn

from gptzoo.model.build import build_on_meta
from gptzoo.model.memory_need import CPU, check_fits, model_bytes, n_bytes
from gptzoo.spec.run import RunSpec
from gptzoo.training.trained_parameters import freeze_parameters
from gptzoo.utils.machine_memory import total_bytes
from gptzoo.utils.units import scaled

_PROBE_SIZE = 64  # rows and columns of the matrix on which the optimizer's state is measured
_SURELY_FITS = 0.01  # of the memory, for the weights
_TOKEN_BYTES = 16  # an input token and a target, both int64
_LEAST_BYTES_PER_NUMBER = 2  # of the input of a block, in bf16 or fp16


def check_run_fits(spec: RunSpec, device: torch.device) -> None:
    """Raise InputError if the weights, gradients and optimizer state of a run exceed the memory of the device.

    Also raised if the tokens of a micro-batch and the inputs of its blocks alone exceed it. Other activations are not
    counted. If the tokenizer sets the size of the vocabulary, its embeddings are not counted either, because the text
    has not been read yet.
    """
    _check_trained_model_fits(spec, device)
    _check_micro_batch_fits(spec, device)


def _check_trained_model_fits(spec: RunSpec, device: torch.device) -> None:
    model = build_on_meta(spec.model.model_copy(update={"vocab_size": spec.model.vocab_size or 1}))
    parameters = dict(model.named_parameters())
    weights = model_bytes(model)
    n_processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if weights * n_processes < _SURELY_FITS * total_bytes(device):
        return
    trained = n_bytes(parameters[name] for name in freeze_parameters(model, spec.freeze, spec.train_only))
    state = int(trained * _state_per_parameter(spec))
    n_averaged = n_bytes(parameters.values()) if spec.ema_decay is not None else 0
    needed = weights + trained + state + n_averaged
    n_parts = spec.parallel.shard * spec.parallel.tensor
    n_parameters = sum(parameter.numel() for parameter in parameters.values())
    purpose = (
        f"{spec.name}: training {n_parameters:,} parameters (weights {scaled(weights)}B, "
        f"gradients {scaled(trained)}B, optimizer state {scaled(state)}B)"
    )
    if device.type == "cuda":
        check_fits(needed // n_parts, device, purpose)
        check_fits(weights * n_processes, CPU, purpose)  # values are drawn on the CPU
    else:
        check_fits(max(weights, needed // n_parts) * n_processes, CPU, purpose)


def _check_micro_batch_fits(spec: RunSpec, device: torch.device) -> None:
    rows = max(1, spec.batch_size // int(os.environ.get("WORLD_SIZE", "1")))
    if spec.micro_batch_size is not None:
        rows = 1 if spec.micro_batch_size == "auto" else min(rows, spec.micro_batch_size)
    n_kept = 0 if spec.freeze or spec.train_only else spec.model.n_layers  # inputs of blocks, for the backward pass
    per_token = _TOKEN_BYTES + n_kept * spec.model.d_model * _LEAST_BYTES_PER_NUMBER
    n_processes = 1 if device.type == "cuda" else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    check_fits(
        rows * spec.model.context_length * per_token * n_processes,
        device,
        f"{spec.name}: a micro-batch of {rows:,} sequences of {spec.model.context_length:,} tokens",
        "Choose a smaller micro_batch_size, or a smaller batch_size",
    )


def _state_per_parameter(spec: RunSpec) -> float:
    """Return the bytes of optimizer state per byte of a trained matrix; 0 if it cannot be measured."""
    matrix = nn.Parameter(torch.zeros(_PROBE_SIZE, _PROBE_SIZE))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            optimizer = spec.optimizer.build().create({"blocks.0.ffn.up.weight": matrix})
            matrix.grad = torch.ones_like(matrix)
            optimizer.step()
    except Exception:  # the run itself reports it
        return 0.0
    tensors = [value for values in optimizer.state.values() for value in values.values() if torch.is_tensor(value)]
    return n_bytes(tensors) / matrix.nbytes
