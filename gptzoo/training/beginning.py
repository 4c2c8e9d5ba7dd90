"""What a run begins with beside random weights: weights from elsewhere, and parameters that stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from torch import nn

from gptzoo.checkpoint.folder import load_weights, model_folder
from gptzoo.components.base import Architecture
from gptzoo.data.tokenizers import Tokenizer, load_tokenizer
from gptzoo.errors import DataError, FolderError, InputError

_SHOWN = 6


def take_weights(model: Architecture, path: str, tokenizer: Tokenizer) -> str:
    """Give a model the weights of a run, a checkpoint or a model folder; returns in words which.

    Raises FolderError when they do not fit, and DataError when they were trained on the ids of another tokenizer.
    """
    folder = model_folder(Path(path))
    file = folder / "tokenizer.json"
    if file.exists():
        theirs = load_tokenizer(file)
        if (theirs.config, theirs.state) != (tokenizer.config, tokenizer.state):
            raise DataError(
                f"init_from {folder}: its weights belong to another tokenizer ({theirs.config.type!r}) than this run's "
                f'({tokenizer.config.type!r}); take it with "tokenizer": {{"type": "saved", "path": "{file}"}}'
            )
    try:
        load_weights(model, folder)
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
