"""`eject_source`, the entry point: from a spec to the verified text of one PyTorch file."""

from __future__ import annotations

from gptzoo.eject.file import File
from gptzoo.eject.formatting import formatted
from gptzoo.eject.program import Program
from gptzoo.eject.prune import makes_contexts, prune
from gptzoo.model.build import build_on_meta
from gptzoo.model.stack import Stack
from gptzoo.spec.model import ModelSpec


def eject_source(spec: ModelSpec, *, padding: bool = False) -> str:
    """Return the text of one PyTorch file that computes the same as the model of `spec`.

    padding: let `forward` take the positions of tokens, with -1 for padding, so that a batch may hold texts of
        different lengths. Without it, the file is shorter.
    """
    model = build_on_meta(spec)
    return write_file(model, padding=padding)


def write_file(model: Stack, *, padding: bool) -> str:
    program = _program(model, padding=padding, plain=not padding)
    if program.plain and (program.has_ring or makes_contexts(program)):
        program = _program(model, padding=padding, plain=False)
    return formatted(File(program).text())


def _program(model: Stack, *, padding: bool, plain: bool) -> Program:
    program = Program(model, padding=padding, plain=plain)
    program.fold()
    prune(program)
    return program
