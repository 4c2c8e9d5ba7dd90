"""A checkpoint of a run, written by all of its processes: the folder that a process alone would write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from gptzoo.training.run.optimizer_state import OPTIMIZER, STATE, optimizer_entries
from gptzoo.utils.atomic import write_json


@dataclass(frozen=True)
class Contents:
    """What a checkpoint is made of. Of tensors that processes hold together, each has its part."""

    spread: ParallelizedModel
    tokenizer: Tokenizer
    state: Mapping[str, Any]  # as JSON
    optimizer: torch.optim.Optimizer
    parameters: Mapping[str, nn.Parameter]
    averages: Mapping[str, Tensor] | None

    def write(self, folder: Path, ranks: Ranks) -> None:
        """Fill a folder. All processes must call it; what fails in one is raised in all of them."""
        entries, scalars = optimizer_entries(self.optimizer, self.parameters)
        files: dict[str, Mapping[str, Tensor]] = {WEIGHTS: self.spread.tensors(), OPTIMIZER: entries}
        if self.averages is not None:
            files[EMA_WEIGHTS] = self.averages
        for name, tensors in files.items():
            if ranks.size == 1:
                write_tensors(folder / name, tensors)
            else:
                orders = self.spread.orders
                write_sharded_file(folder / name, tensors, orders, is_main=ranks.main, on_all_ranks=ranks.everywhere)
        if ranks.main:
            write_spec_and_tokenizer(folder, self.spread.model, self.tokenizer)
            write_json(folder / STATE, {**self.state, "optimizer_scalars": scalars})


def save(contents: Contents, folder: Path, step: int, ranks: Ranks, *, keep: int, best: int | None) -> None:
    """Make the checkpoint of `step` under `folder`, and drop older ones. Raises FolderError where it cannot be written.

    The main process makes the folder, tells the others, and puts it in its place when all have written their part.
    """
    told: list[Path] = []

    def write(temporary: Path) -> None:
        told.append(ranks.from_rank(0, temporary))
        contents.write(temporary, ranks)

    def save_main() -> None:
        try:
            save_checkpoint(folder, step, write, keep=keep, best=best)
        finally:
            if not told:  # the folder could not be made
                ranks.from_rank(0, None)

    def follow() -> None:
        temporary: Path | None = ranks.from_rank(0, None)
        if temporary is not None:
            contents.write(temporary, ranks)

    try:
        ranks.everywhere(save_main if ranks.main else follow)
    except (OSError, SafetensorError, GptzooError) as error:
        raise ranks.agreed(
            FolderError(
                f"{folder}: the checkpoint of step {step} cannot be written: {error}. "
                "Those before it are whole; make room and go on with --resume"
            )
        ) from error
