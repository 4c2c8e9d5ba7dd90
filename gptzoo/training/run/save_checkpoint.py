"""Checkpoints that all ranks of a run write together. The files do not depend on the number of ranks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from gptzoo.checkpoint.checkpoints import save_checkpoint
from gptzoo.checkpoint.model_folder import EMA_WEIGHTS, WEIGHTS, write_spec_and_tokenizer, write_tensors
from gptzoo.checkpoint.sharded_tensors import write_sharded_file
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import FolderError, GptzooError
from gptzoo.training.distributed.parallelize import ParallelizedModel
from gptzoo.training.distributed.ranks import Ranks
from gptzoo.training.optim.optimizer_state import optimizer_entries
from gptzoo.training.run.checkpoint_state import OPTIMIZER, STATE, TRAINED_WEIGHTS
from gptzoo.utils.atomic import write_json


@dataclass(frozen=True)
class CheckpointContents:
    """Everything that a checkpoint stores. Each rank has its shards of split tensors."""

    parallelized: ParallelizedModel
    tokenizer: Tokenizer
    state: Mapping[str, object]  # for state.json
    optimizer: torch.optim.Optimizer
    parameters: Mapping[str, nn.Parameter]
    ema: Mapping[str, Tensor] | None
    trained_weights: Mapping[str, Tensor] | None = None  # if the model has other weights, for evaluation

    def write(self, folder: Path, ranks: Ranks) -> None:
        """Write the files of a checkpoint. All ranks must call it; an error on one rank is raised on all."""
        entries = optimizer_entries(self.optimizer, self.parameters)
        files: dict[str, Mapping[str, Tensor]] = {WEIGHTS: self.parallelized.state_dict(), OPTIMIZER: entries.tensors}
        if self.ema is not None:
            files[EMA_WEIGHTS] = self.ema
        if self.trained_weights is not None:
            files[TRAINED_WEIGHTS] = self.trained_weights
        row_orders = self.parallelized.row_orders
        for name, tensors in files.items():
            file = folder / name
            if ranks.size == 1:
                write_tensors(file, tensors)
            else:
                write_sharded_file(file, tensors, row_orders, is_main=ranks.is_main, on_all_ranks=ranks.on_all_ranks)
        if ranks.is_main:
            write_spec_and_tokenizer(folder, self.parallelized.model, self.tokenizer)
            write_json(folder / STATE, {**self.state, **entries.as_json()})


def save_on_all_ranks(
    contents: CheckpointContents, folder: Path, step: int, ranks: Ranks, *, keep: int, best: int | None
) -> None:
    """Save the checkpoint of `step` under `folder` and delete old ones. Raises FolderError if the disk refuses.

    The main rank creates a temporary folder and broadcasts its path. It gives the folder its final name after all
    ranks have written their shards.
    """
    broadcast: list[Path] = []

    def write_on_main(temporary: Path) -> None:
        ranks.broadcast_from(0, temporary)
        broadcast.append(temporary)
        contents.write(temporary, ranks)

    def save_main() -> None:
        try:
            save_checkpoint(folder, step, write_on_main, keep=keep, best=best)
        finally:
            if not broadcast:  # the temporary folder could not be created, and the other ranks still wait for its path
                ranks.broadcast_from(0, None)

    def save_other() -> None:
        temporary: Path | None = ranks.broadcast_from(0, None)
        if temporary is not None:
            contents.write(temporary, ranks)

    try:
        ranks.on_all_ranks(save_main if ranks.is_main else save_other)
    except (OSError, SafetensorError, GptzooError) as error:
        raise ranks.as_collective(
            FolderError(
                f"{folder}: the checkpoint of step {step} cannot be written: {error}. "
                "Earlier checkpoints are intact. Free some space and continue with --resume"
            )
        ) from error
