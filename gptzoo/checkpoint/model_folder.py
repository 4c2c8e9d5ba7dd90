"""Model folders: saving a model, and loading one from a model folder, a checkpoint or a run folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from gptzoo.checkpoint.checkpoints import best_valid_checkpoint, find_damage, list_checkpoints, newest_valid_checkpoint
from gptzoo.checkpoint.sharded_tensors import distribute_like, reorder_rows, write_one_by_one
from gptzoo.checkpoint.stored_dtypes import in_stored_dtypes, narrow_dtypes
from gptzoo.data.chat.prompt import Message, chat_prompt_ids
from gptzoo.data.tokenizers.tokenizer import Tokenizer, load_tokenizer, save_tokenizer
from gptzoo.errors import FolderError, InputError
from gptzoo.model.architecture import Architecture
from gptzoo.model.build import allocate_on_cpu, build_on_meta
from gptzoo.model.initialise import initialise
from gptzoo.model.memory_need import CPU, check_fits, model_bytes
from gptzoo.spec.files import load_model_spec
from gptzoo.spec.formats.document import did_you_mean_path
from gptzoo.spec.model import ModelSpec
from gptzoo.spec.provenance import add_provenance
from gptzoo.terminal.activity import activity
from gptzoo.utils.atomic import new_folder, write_json
from gptzoo.utils.notebook.view import NotebookView

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

WEIGHTS = "model.safetensors"
EMA_WEIGHTS = "averages.safetensors"  # in checkpoints of runs with an exponential moving average of the weights
_MAX_LISTED = 5  # tensors named in one error message


@dataclass(frozen=True)
class LoadedModel(NotebookView):
    """A model in eval mode, loaded from a folder, with its tokenizer if the folder has one."""

    model: Architecture
    tokenizer: Tokenizer | None
    folder: Path  # the model folder or checkpoint that was read

    @property
    def spec(self) -> ModelSpec:
        return self.model.spec

    @property
    def name(self) -> str:
        """The name of the model for titles."""
        return model_title(self.folder, self.spec)

    def chat_prompt(
        self,
        messages: Sequence[Message],
        *,
        chat_template: str | None = None,
        add_generation_prompt: bool = True,
        variables: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """Return the token ids of a chat, for `gptzoo.generate` and `gptzoo.stream`.

        messages: objects with "role" and "content", such as {"role": "user", "content": "Hi"}.
        chat_template: Jinja template, or the name of one of the model's. Default: the model's template.
        add_generation_prompt: end with the beginning of the assistant's answer.
        variables: further variables of the template, such as {"enable_thinking": False}.

        Raises InputError if the model has no chat template, or if the template fails for these messages.
        """
        if self.tokenizer is None:
            raise InputError(f"{self.folder}: has no tokenizer.json, so this model cannot be used with text")
        return chat_prompt_ids(
            self.tokenizer,
            messages,
            template=chat_template,
            add_generation_prompt=add_generation_prompt,
            variables=variables,
        )


def model_title(folder: Path, spec: ModelSpec) -> str:
    """Return the name of a model for titles: that of its run, else of its spec, else of its folder.

    The default names of runs and specs count as none. `folder` is a model folder or a checkpoint of a run.
    """
    run = folder.parent.parent if folder.parent.name == "checkpoints" else folder
    try:
        name = json.loads((run / "run.json").read_text(encoding="utf-8"))["name"]
    except (OSError, ValueError, KeyError, TypeError):  # a model folder has none, and a title is not worth an error
        name = "run"
    if isinstance(name, str) and name not in ("run", ""):
        return name
    return spec.name if spec.name not in ("model", "") else run.resolve().name


def write_model_files(folder: Path, model: Architecture, tokenizer: Tokenizer | None) -> None:
    """Write the files of a model folder into an existing folder."""
    write_spec_and_tokenizer(folder, model, tokenizer)
    write_tensors(folder / WEIGHTS, in_stored_dtypes(model))


def write_spec_and_tokenizer(folder: Path, model: Architecture, tokenizer: Tokenizer | None) -> None:
    """Write model.json and, if there is a tokenizer, tokenizer.json."""
    write_json(folder / "model.json", add_provenance(model.spec))
    if tokenizer is not None:
        save_tokenizer(tokenizer, folder / "tokenizer.json")


def save_model(folder: str | Path, model: Architecture, tokenizer: Tokenizer | None = None) -> None:
    """Write a model folder atomically. Raises FolderError if `folder` is not empty or cannot be written.

    Weights that were loaded from a file with 16 bits, and have not changed, keep their type.
    """
    _write_new_folder(folder, lambda temporary: write_model_files(temporary, model, tokenizer))


def save_tensors_as_model(
    folder: str | Path,
    model: Architecture,
    tokenizer: Tokenizer | None,
    tensors: Mapping[str, Tensor],
    on_meta: Mapping[str, Tensor],
) -> None:
    """Write a model folder whose weights are read one at a time, so that memory never holds all of them.

    model: the model of the weights, which may be on the meta device.
    tensors, on_meta: see `gptzoo.checkpoint.sharded_tensors.write_one_by_one`.
    """

    def write(temporary: Path) -> None:
        write_spec_and_tokenizer(temporary, model, tokenizer)
        write_one_by_one(temporary / WEIGHTS, tensors, on_meta)

    _write_new_folder(folder, write)


def _write_new_folder(folder: str | Path, write: Callable[[Path], None]) -> None:
    folder = Path(folder).absolute()
    require_empty_folder(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with new_folder(folder) as temporary:
            write(temporary)
    except (OSError, SafetensorError) as error:
        raise FolderError(f"{folder}: cannot be written: {getattr(error, 'strerror', None) or error}") from None


def require_empty_folder(folder: Path) -> None:
    """Raise FolderError unless `folder` is missing or an empty folder."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FolderError(f"{folder}: already exists and is not empty; choose another folder")


def load(
    path: str | Path, *, device: torch.device | str = "cpu", best: bool = False, averaged: bool = False
) -> LoadedModel:
    """Load a model from a model folder, a checkpoint, or the newest valid checkpoint of a run folder.

    device: where to put the model.
    best: from a run folder, load the checkpoint with the lowest validation loss instead of the newest.
    averaged: load the exponential moving average of the weights instead of the weights.

    Raises FolderError if a file is missing or damaged, SpecError if the spec needs a plugin that is not installed, and
    InputError for a model that needs more memory than there is.
    """
    folder = find_model_folder(Path(path), best=best)
    spec = load_model_spec(folder / "model.json")
    model = build_on_meta(spec)
    for place in dict.fromkeys((CPU, torch.device(device))):  # the file is read into the memory of the CPU
        check_fits(model_bytes(model), place, f"{folder}: loading this model")
    with activity(f"loading the weights of {folder.name}"):
        stored = load_weights(model, folder)
    model.stored_dtypes = narrow_dtypes(stored)
    if averaged:
        _load_ema_weights(model, folder)
    tokenizer_file = folder / "tokenizer.json"
    tokenizer = load_tokenizer(tokenizer_file) if tokenizer_file.exists() else None
    return LoadedModel(model.to(device).eval(), tokenizer, folder)


def load_weights(
    model: Architecture,
    folder: Path,
    targets: Mapping[str, Tensor] | None = None,
    row_orders: Mapping[str, Tensor] | None = None,
) -> Mapping[str, Tensor]:
    """Load the weights of a model folder into a model. A sharded model takes only this rank's shards.

    Returns the tensors of the file.

    A model on the meta device is moved to the CPU first, and its non-persistent buffers are computed.

    targets: the tensors to copy into, by name. Default: the model's state dict.
    row_orders: see `gptzoo.checkpoint.sharded_tensors.reorder_rows`.

    Raises FolderError if the file is missing or damaged, or its tensors are not those of the model.
    """
    expected = model.state_dict() if targets is None else targets
    stored = read_tensors(folder / WEIGHTS)
    check_names_and_shapes(stored, expected, folder)
    if next(model.parameters()).is_meta:
        allocate_on_cpu(model)
        initialise(model, seed=0)  # The file does not hold computed buffers, such as ALiBi's slopes.
    assign_tensors(model, stored, targets, row_orders)
    return stored


def assign_tensors(
    model: Architecture,
    tensors: Mapping[str, Tensor],
    targets: Mapping[str, Tensor] | None = None,
    row_orders: Mapping[str, Tensor] | None = None,
) -> None:
    """Copy full tensors into a model, by name; its other tensors keep their values. See `load_weights`."""
    expected = model.state_dict() if targets is None else targets
    shards = {name: distribute_like(expected[name], reorder_rows(row_orders, name, t)) for name, t in tensors.items()}
    if targets is None:
        model.load_state_dict(shards, strict=False)
        return
    with torch.no_grad():
        for name, tensor in shards.items():
            targets[name].copy_(tensor)


def _load_ema_weights(model: Architecture, folder: Path) -> None:
    parameters = dict(model.named_parameters())
    averages = read_tensors(find_ema_weights(folder))
    check_ema_weights(averages, model, folder)
    with torch.no_grad():
        for name, average in averages.items():
            parameters[name].copy_(average)


def find_ema_weights(folder: Path) -> Path:
    """Return the file of averaged weights in a checkpoint. Raises FolderError if there is none."""
    if not (folder / EMA_WEIGHTS).is_file():
        raise FolderError(f"{folder}: no averaged weights ({EMA_WEIGHTS}); a run saves them if it sets ema_decay")
    return folder / EMA_WEIGHTS


def check_ema_weights(names: Iterable[str], model: Architecture, folder: Path) -> None:
    """Raise FolderError unless averaged weights are parameters of the model."""
    if unexpected := set(names) - dict(model.named_parameters()).keys():
        raise FolderError(f"{folder / EMA_WEIGHTS}: {min(unexpected)} is not part of the model")


def find_model_folder(path: Path, *, best: bool = False, step: int | None = None) -> Path:
    """Return `path` if it is a model folder, or else a valid checkpoint of the run folder `path`.

    The checkpoint is the newest one, the `best` one, or the one of `step`. Raises FolderError if there is none.
    """
    if (path / "model.json").is_file():
        if best or step is not None:
            wanted = "best checkpoint" if best else f"checkpoint of step {step}"
            raise FolderError(f"{path}: is a single model, which has no {wanted}; give the folder of a run")
        return path
    if (path / "checkpoints").is_dir():
        return _checkpoint_of_step(path, step) if step is not None else _checkpoint_of_run(path, best=best)
    if not path.exists():
        raise FolderError(f"{path}: no such folder{did_you_mean_path(path)}")
    if checkpoints_of_trial := next(iter(sorted(path.glob("trials/*/checkpoints"))), None):
        raise FolderError(f"{path}: is an ablation folder; give one of its runs, such as {checkpoints_of_trial.parent}")
    raise FolderError(f"{path}: neither a model folder (no model.json) nor a run folder (no checkpoints/)")


def _checkpoint_of_run(run: Path, *, best: bool) -> Path:
    folder = run / "checkpoints"
    checkpoint = best_valid_checkpoint(folder) if best else newest_valid_checkpoint(folder)
    if checkpoint is not None:
        return checkpoint
    if best and newest_valid_checkpoint(folder) is not None:
        raise FolderError(f'{run}: the best checkpoint was not kept; a run keeps it with "checkpoint.best": true')
    all_checkpoints = list_checkpoints(folder)
    if not all_checkpoints:
        raise FolderError(f"{run}: the run has no complete checkpoint yet")
    newest = all_checkpoints[max(all_checkpoints)]
    raise FolderError(f"{run}: no valid checkpoint; the newest is {newest}: {find_damage(newest)}")


def _checkpoint_of_step(run: Path, step: int) -> Path:
    all_checkpoints = list_checkpoints(run / "checkpoints")
    if step not in all_checkpoints:
        steps = ", ".join(map(str, sorted(all_checkpoints))) or "none"
        raise FolderError(f"{run}: no checkpoint of step {step}; steps with a checkpoint: {steps}")
    if (damage := find_damage(all_checkpoints[step])) is not None:
        raise FolderError(f"{all_checkpoints[step]}: damaged checkpoint: {damage}")
    return all_checkpoints[step]


def write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file with the permissions of an ordinary new file."""
    file.touch()
    mode = file.stat().st_mode
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
    file.chmod(mode)  # safetensors creates files that only their owner can read.


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file. Raises FolderError if it is missing or damaged."""
    try:
        return load_file(file)
    except FileNotFoundError:
        raise FolderError(f"{file}: no such file") from None
    except OSError as error:
        raise FolderError(f"{file}: cannot be read: {error.strerror or error}") from None
    except SafetensorError as error:
        raise FolderError(f"{file}: cannot be read: {error}") from None


def find_misfits(stored: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """Return in words, sorted, which stored tensors are missing, unknown or of another shape than expected."""
    problems = [f"{name} is missing" for name in expected.keys() - stored.keys()]
    problems += [f"{name} is not part of the model" for name in stored.keys() - expected.keys()]
    problems += [
        f"{name} has shape {tuple(stored[name].shape)}, the model expects {tuple(expected[name].shape)}"
        for name in expected.keys() & stored.keys()
        if stored[name].shape != expected[name].shape
    ]
    return sorted(problems)


def check_names_and_shapes(stored: Mapping[str, Tensor], expected: Mapping[str, Tensor], folder: Path) -> None:
    """Raise FolderError unless `stored` has exactly the names and shapes of `expected`."""
    if problems := find_misfits(stored, expected):
        more = f"; and {len(problems) - _MAX_LISTED} more" if len(problems) > _MAX_LISTED else ""
        listed = "; ".join(problems[:_MAX_LISTED])
        raise FolderError(f"{folder / WEIGHTS}: does not match model.json in the same folder: {listed}{more}")
