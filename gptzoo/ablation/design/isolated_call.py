"""Code of components is run in a process of its own first: one that crashes takes that along, and not the planner."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from gptzoo.errors import InputError
from gptzoo.utils.forking import autograd_works

T = TypeVar("T")


def in_a_child(counts: Mapping[str, Callable[[], T]]) -> dict[str, T]:
    """What each function returns, by the variant that it is for, all of them called in one fork of this process.

    One that raises there is called again here, to raise here; so are all where a fork cannot use autograd. Raises
    InputError, which names the variant, for one that ends the process.
    """
    if not counts:
        return {}
    with FakeTensorMode():  # which imports for a second what each child would
        torch.empty(())
    context = multiprocessing.get_context("fork")  # components are known there, those of local files too
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_count, args=(theirs, counts), daemon=True)
    child.start()
    theirs.close()  # so that its end is seen when the child has ended
    found: dict[str, T] = {}
    for name, count in counts.items():
        try:
            again, value = ours.recv()
        except EOFError:
            child.join()
            raise InputError(_crash(name, child.exitcode or 0)) from None
        found[name] = count() if again else value
    child.join()
    return found


def _count(answers: Connection, counts: Mapping[str, Callable[[], Any]]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the planner, with which this ends
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    torch.set_num_threads(1)  # those of the process that was forked are not here
    can_count = autograd_works()
    for count in counts.values():
        try:
            answer = (False, count()) if can_count else (True, None)
        except Exception:  # it is raised again where it can be told
            answer = (True, None)
        answers.send(answer)


def _crash(name: str, code: int) -> str:
    how = f"is killed by {signal.Signals(-code).name}" if code < 0 else f"exits with code {code}"
    return (
        f"variant {name}: the process that counts its parameters and FLOPs {how}: a component crashes where it "
        "is built or runs on torch's meta device; mend that, or leave the variant out with `exclude`"
    )
