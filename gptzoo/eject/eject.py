"""`eject_source` and `eject_model`, the entry points: from a spec or a model to the verified text of one file."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch

from gptzoo.eject.formatting import formatted
from gptzoo.eject.layout.file import File
from gptzoo.eject.passes.program import Program
from gptzoo.eject.passes.prune import makes_contexts, prune
from gptzoo.eject.passes.rounds import fold_all
from gptzoo.eject.refusal import EjectError
from gptzoo.eject.syntax.merge import Unsupported
from gptzoo.eject.verify import verify
from gptzoo.model.architecture import Architecture
from gptzoo.model.build import build
from gptzoo.model.decoder import Decoder
from gptzoo.spec.model import ModelSpec


def eject_source(spec: ModelSpec, *, padding: bool = False) -> str:
    """Return the text of one PyTorch file that computes the same as the model of `spec`.

    padding: let `forward` take the positions of tokens, with -1 for padding, so that a batch may hold texts of
        different lengths. Without it, the file is shorter.

    Raises EjectError if the file would not compute the same.
    """
    model = build(spec.with_multipliers(), seed=1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # initial values are too alike: biases are 0, and attention is almost uniform
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise * (parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.1))
    return eject_model(model, padding=padding)


def eject_model(model: Architecture, *, padding: bool = False) -> str:
    """Return the verified text of a file for a built model, in float32 on the CPU. See `eject_source`.

    The file of a model with a parametrisation has its multipliers, and the initial weights of a model without one.
    """
    if model.spec.parametrisation is not None:
        plain = build(model.spec.with_multipliers())
        plain.load_state_dict(model.state_dict())
        model = plain
    if not isinstance(model, Decoder) or type(model) is not Decoder:
        raise EjectError(
            f"architecture {model.spec.architecture.type!r} cannot be ejected: only 'decoder' has a frame for one file"
        )
    for attention in model.spec.per_layer("attention") if padding else ():
        if "padding" not in attention.component.supports:
            raise EjectError(
                f"attention {attention.type!r} does not support padding. Only `gptzoo eject` without --padding can "
                "write a file of this model."
            )
    try:
        text = _write(model, padding=padding)
    except (Unsupported, NotImplementedError) as error:
        raise EjectError(f"cannot be ejected: {error}") from None
    verify(text, model, padding=padding)
    return text


def write_weights(file: Path, model: Architecture) -> None:
    """Write the weights of a model under the names of the ejected file, as safetensors, in their stored types."""
    from gptzoo.checkpoint.model_folder import write_tensors
    from gptzoo.checkpoint.stored_dtypes import in_stored_dtypes
    from gptzoo.eject.names import ejected_tensors

    write_tensors(file, ejected_tensors(in_stored_dtypes(model), cast(Decoder, model)))


def _write(model: Decoder, *, padding: bool) -> str:
    program = _program(model, padding=padding, plain=not padding)
    if program.plain and (program.has_ring or makes_contexts(program)):
        program = _program(model, padding=padding, plain=False)
    return formatted(File(program).text())


def _program(model: Decoder, *, padding: bool, plain: bool) -> Program:
    program = Program(model, padding=padding, plain=plain)
    fold_all(program)
    prune(program)
    return program
