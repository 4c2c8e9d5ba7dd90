"""Model folders: write one, and load a model from one, from a checkpoint or from the newest checkpoint of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from gptzoo.checkpoint.checkpoints import best_valid, checkpoints, newest_valid, why_invalid
from gptzoo.checkpoint.sharded_tensors import in_order, laid_out_as
from gptzoo.data.tokenizers.tokenizer import Tokenizer, load_tokenizer, save_tokenizer
from gptzoo.errors import FolderError
from gptzoo.model.architecture import Architecture
from gptzoo.model.build import assemble
from gptzoo.model.initialise import initialise
from gptzoo.spec.files import load_model_spec, nearest_path
from gptzoo.spec.model import ModelSpec
from gptzoo.spec.provenance import stamped
from gptzoo.utils.atomic import new_folder, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping

WEIGHTS = "model.safetensors"
AVERAGES = "averages.safetensors"  # beside the weights in a checkpoint of a run that keeps averages of them


@dataclass(frozen=True)
class Loaded:
    """A model as it was saved, in eval mode, and its tokenizer if the folder has one."""

    model: Architecture
    tokenizer: Tokenizer | None
    folder: Path

    @property
    def spec(self) -> ModelSpec:
        return self.model.spec


def write_model_files(folder: Path, model: Architecture, tokenizer: Tokenizer | None) -> None:
    """The files of a model folder, into an existing folder."""
    write_descriptions(folder, model, tokenizer)
    write_tensors(folder / WEIGHTS, model.state_dict())


def write_descriptions(folder: Path, model: Architecture, tokenizer: Tokenizer | None) -> None:
    """The files of a model folder that hold no weights."""
    write_json(folder / "model.json", stamped(model.spec))
    if tokenizer is not None:
        save_tokenizer(tokenizer, folder / "tokenizer.json")


def save_model(folder: str | Path, model: Architecture, tokenizer: Tokenizer | None = None) -> None:
    """Write a model folder, whole or not at all. Raises FolderError if there is something at `folder` already."""
    folder = Path(folder).absolute()
    refuse_used(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with new_folder(folder) as temporary:
            write_model_files(temporary, model, tokenizer)
    except (OSError, SafetensorError) as error:
        raise FolderError(f"{folder}: cannot be written: {getattr(error, 'strerror', None) or error}") from None


def refuse_used(folder: Path) -> None:
    """Raise FolderError if there is something at `folder` that a new model would be written over or into."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FolderError(f"{folder}: is there already and not empty; choose another folder")


def load(path: str | Path, *, device: str | torch.device = "cpu", best: bool = False, averaged: bool = False) -> Loaded:
    """The model in a model folder, in a checkpoint, or in the newest valid checkpoint of a run folder.

    best: of a run, the checkpoint with the lowest validation loss instead.
    averaged: the moving average of the weights instead of the weights.
    Raises FolderError for what is missing or damaged, and SpecError when the spec needs a plugin that is not there.
    """
    folder = model_folder(Path(path), best=best)
    spec = load_model_spec(folder / "model.json")
    model = assemble(spec)
    load_weights(model, folder)
    if averaged:
        _take_averages(model, folder)
    tokenizer_file = folder / "tokenizer.json"
    tokenizer = load_tokenizer(tokenizer_file) if tokenizer_file.exists() else None
    return Loaded(model.to(device).eval(), tokenizer, folder)


def load_weights(
    model: Architecture,
    folder: Path,
    held: Mapping[str, Tensor] | None = None,
    orders: Mapping[str, Tensor] | None = None,
) -> None:
    """Give a model the weights of a model folder. A model on the meta device is filled whole, and of one that several
    processes hold together each reads its own part.

    held: where the weights go, by name, if not into the model's state dict; `orders` those of the rows of some.
    """
    expected = model.state_dict() if held is None else held
    tensors = _checked(read_tensors(folder / WEIGHTS), expected, folder)
    if next(model.parameters()).is_meta:
        model.to_empty(device="cpu")
        initialise(model, seed=0)  # for the buffers that are computed rather than saved, such as ALiBi's slopes
    laid_out = {name: laid_out_as(expected[name], in_order(orders, name, t)) for name, t in tensors.items()}
    if held is None:
        model.load_state_dict(laid_out)
    else:
        with torch.no_grad():
            for name, tensor in laid_out.items():
                held[name].copy_(tensor)


def _take_averages(model: Architecture, folder: Path) -> None:
    if not (folder / AVERAGES).is_file():
        raise FolderError(f"{folder}: has no averages of the weights; a run keeps them with ema_decay")
    parameters = dict(model.named_parameters())
    averages = read_tensors(folder / AVERAGES)
    if strange := averages.keys() - parameters.keys():
        raise FolderError(f"{folder / AVERAGES}: {min(strange)} is not part of the model")
    with torch.no_grad():
        for name, average in averages.items():
            parameters[name].copy_(average)


def model_folder(path: Path, *, best: bool = False, step: int | None = None) -> Path:
    """`path` itself if it holds a model, else a valid checkpoint of the run that it holds: the newest, the `best`, or
    that of `step`. Raises FolderError."""
    if (path / "model.json").is_file():
        if best or step is not None:
            raise FolderError(f"{path}: is one model, not a run that has {'a best' if best else 'a chosen'} checkpoint")
        return path
    if (path / "checkpoints").is_dir():
        return _of_step(path, step) if step is not None else _of_run(path, best=best)
    if not path.exists():
        raise FolderError(f"{path}: no such folder{nearest_path(path)}")
    if run := next(iter(sorted(path.glob("trials/*/checkpoints"))), None):
        raise FolderError(f"{path}: holds an ablation; name one of its runs, such as {run.parent}")
    raise FolderError(f"{path}: neither a model folder (model.json) nor a run folder (checkpoints/)")


def _of_run(run: Path, *, best: bool) -> Path:
    checkpoint = best_valid(run / "checkpoints") if best else newest_valid(run / "checkpoints")
    if checkpoint is None and best and newest_valid(run / "checkpoints") is not None:
        raise FolderError(f'{run}: its best checkpoint was not kept; a run keeps it with "checkpoint.best": true')
    if checkpoint is None:
        kept = checkpoints(run / "checkpoints")
        if not kept:
            raise FolderError(f"{run}: the run has no complete checkpoint yet")
        newest = kept[max(kept)]
        reason = f"of the newest: {newest}: {why_invalid(newest)}"
        raise FolderError(f"{run}: no checkpoint of this run can be used; {reason}")
    return checkpoint


def _of_step(run: Path, step: int) -> Path:
    kept = checkpoints(run / "checkpoints")
    if step not in kept:
        there = ", ".join(map(str, sorted(kept))) or "none"
        raise FolderError(f"{run}: has no checkpoint of step {step}; those that it has are of step {there}")
    if (reason := why_invalid(kept[step])) is not None:
        raise FolderError(f"{kept[step]}: cannot be used: {reason}")
    return kept[step]


def write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """A safetensors file that whoever may read the files beside it may read too."""
    file.touch()
    mode = file.stat().st_mode
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
    file.chmod(mode)  # safetensors makes files that their owner alone can read


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; raises FolderError when it is missing or damaged."""
    try:
        return load_file(file)
    except FileNotFoundError:
        raise FolderError(f"{file}: no such file") from None
    except (SafetensorError, OSError) as error:
        raise FolderError(f"{file}: cannot be read: {error}") from None


def _checked(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], folder: Path) -> Mapping[str, Tensor]:
    """`tensors`, if they are exactly those expected."""
    wrong = [f"{name} is missing" for name in expected.keys() - tensors.keys()]
    wrong += [f"{name} is not part of the model" for name in tensors.keys() - expected.keys()]
    wrong += [
        f"{name} is {tuple(tensors[name].shape)}, the model has {tuple(expected[name].shape)}"
        for name in expected.keys() & tensors.keys()
        if tensors[name].shape != expected[name].shape
    ]
    if wrong:
        shown = "; ".join(sorted(wrong)[:5]) + (f"; and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        raise FolderError(f"{folder / WEIGHTS}: does not fit model.json beside it: {shown}")
    return tensors
