"""What a run begins with: its vocabulary and objective, weights from elsewhere, parameters that stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import nn

from gptzoo.checkpoint.model_folder import find_model_folder
from gptzoo.data.tokenizers.tokenizer import Tokenizer, load_tokenizer
from gptzoo.errors import DataError, FolderError, InputError
from gptzoo.model.architecture import Architecture
from gptzoo.model.head import Head
from gptzoo.spec.run import RunSpec
from gptzoo.training.hardware.device import describe_device
from gptzoo.training.optim.optimizers import describe_optimizer

_SHOWN = 6


def take_weights(load: Callable[[Path], None], path: str, tokenizer: Tokenizer) -> str:
    """`load` the weights of a run, a checkpoint or a model folder into a model; returns in words which.

    Raises FolderError when they do not fit, and DataError when they were trained on the ids of another tokenizer.
    """
    folder = find_model_folder(Path(path))
    file = folder / "tokenizer.json"
    if file.exists():
        theirs = load_tokenizer(file)
        if (theirs.config, theirs.state) != (tokenizer.config, tokenizer.state):
            raise DataError(
                f"init_from {folder}: its weights belong to another tokenizer ({theirs.config.type!r}) than this run's "
                f'({tokenizer.config.type!r}); take it with "tokenizer": {{"type": "saved", "path": "{file}"}}'
            )
    try:
        load(folder)
    except FolderError as error:
        raise FolderError(
            f'init_from {folder}: {error}. Take its model with "model": "{folder / "model.json"}"'
        ) from None
    return f"weights from {folder}"


def trained(model: nn.Module, frozen: Sequence[str]) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name; those whose name matches a pattern of `frozen` are stopped.

    Raises InputError for a pattern that matches nothing, and when nothing is left to train.
    """
    parameters = dict(model.named_parameters())
    for index, pattern in enumerate(frozen):
        matched = [name for name in parameters if fnmatchcase(name, pattern)]
        if not matched:
            names = [name for name in parameters if not name.startswith("blocks.") or name.startswith("blocks.0.")]
            more = ", …" if len(names) > _SHOWN else ""
            raise InputError(
                f"$.freeze[{index}]: {pattern!r} matches no parameter; there are {', '.join(names[:_SHOWN])}{more}"
            )
        for name in matched:
            parameters[name].requires_grad_(False)
    left = {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
    if not left:
        raise InputError("$.freeze: every parameter is frozen; leave at least one to train")
    return left


def describe_means(spec: RunSpec, device: torch.device, precision: str, optimizer: torch.optim.Optimizer) -> str:
    """What a run computes with, in the words of its first line."""
    blocks = "compiled blocks" if spec.compile else "eager"
    return f"{describe_device(device)}, {precision}, {blocks}, {describe_optimizer(optimizer)}"


def set_objective(model: Architecture, spec: RunSpec) -> None:
    """What the spec adds to the cross-entropy. Raises InputError for an architecture that has another head."""
    wanted = {"label_smoothing": spec.label_smoothing, "z_loss": spec.z_loss}
    heads = [module for module in model.modules() if isinstance(module, Head)]
    for name, value in wanted.items():
        if value and not heads:
            raise InputError(
                f"{spec.name}: $.{name}: is computed by gptzoo's output head, which architecture "
                f"{spec.model.architecture.type!r} does not have"
            )
        for head in heads:
            setattr(head, name, value)


def with_vocabulary(spec: RunSpec, vocab_size: int) -> RunSpec:
    """The run with a model whose vocabulary is the tokenizer's, or checked to hold it."""
    own = spec.model.vocab_size
    if own is None:
        return spec.model_copy(update={"model": spec.model.model_copy(update={"vocab_size": vocab_size})})
    if own < vocab_size:
        raise DataError(
            f"{spec.name}: $.model.vocab_size: {own} is too small for tokenizer {spec.tokenizer.type!r}, which has "
            f"{vocab_size} ids; leave vocab_size out to take the tokenizer's"
        )
    return spec
