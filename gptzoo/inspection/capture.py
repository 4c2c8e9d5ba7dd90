"""The one way to look inside: a model reads a text, and its parts are asked to show something of themselves."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gptzoo.components.sublayer import AuxiliaryOutputs
from gptzoo.errors import InputError
from gptzoo.model.architecture import Architecture
from gptzoo.sampling.engine.token_choice import check
from gptzoo.sampling.spec import SamplingSpec


@torch.inference_mode()
def captured(model: Architecture, ids: Sequence[int], what: str) -> dict[str, Tensor]:
    """What the parts show when a text of ids is read and they are asked for `what`, by their path in the module tree.

    A part of any package takes part if it looks at `step.capture` and returns an `SublayerOutput`. Raises InputError for a text
    that the model cannot read.
    """
    check(model, [ids], SamplingSpec(max_new_tokens=0))
    if model.max_length is not None and len(ids) > model.max_length:
        raise InputError(f"a prompt of {len(ids)} tokens is more than this model has positions for: {model.max_length}")
    seen = AuxiliaryOutputs()
    model.prefill([ids], 0, capture={what}, auxiliary=seen)
    return seen.captures
