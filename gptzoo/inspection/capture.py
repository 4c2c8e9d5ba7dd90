"""Captures: intermediate tensors that the parts of a model return on request."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gptzoo.components.sublayer import AuxiliaryOutputs
from gptzoo.errors import InputError
from gptzoo.model.architecture import Architecture
from gptzoo.sampling.request import check_prompt
from gptzoo.sampling.spec import SamplingSpec


@torch.inference_mode()
def capture(model: Architecture, ids: Sequence[int], name: str) -> dict[str, Tensor]:
    """Run the model on one sequence of token ids and return the tensors captured as `name`, by path in the module tree.

    A sublayer captures a tensor if it reads `context.capture` and returns a `SublayerOutput`. Raises InputError if the
    model cannot process the sequence.
    """
    check_prompt(model, ids, SamplingSpec(max_new_tokens=0))
    if model.max_length is not None and len(ids) > model.max_length:
        raise InputError(
            f"the prompt has {len(ids)} tokens, but the model has {model.max_length} positions; give a shorter prompt"
        )
    auxiliary = AuxiliaryOutputs()
    model.prefill([ids], 0, capture={name}, auxiliary=auxiliary)
    return auxiliary.captures
