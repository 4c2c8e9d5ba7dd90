"""Isolated calls: run functions in a forked process, so that a component that crashes does not end the planner."""

from __future__ import annotations

import multiprocessing
import multiprocessing.process
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from multiprocessing.connection import Connection
from typing import TypeVar

import torch

from gptzoo.ablation.wording import signal_name
from gptzoo.errors import InputError
from gptzoo.utils.forking import autograd_works

T = TypeVar("T")

_MIN_CALLS_PER_FORK = 4


def call_isolated(
    functions: Mapping[str, Callable[[], T]], on_progress: Callable[[int], object] = lambda n_done: None
) -> dict[str, T]:
    """Call all functions in forks of this process, and return their results. The keys are names of variants.

    There is one fork for each core, and each calls every n-th function. `on_progress` is called with the number of
    results after each.

    A function that raises in the fork is called again in this process, which raises the original error. If autograd
    does not work in a fork, all functions are called in this process.

    Raises InputError with the name of the variant whose function crashes the fork.
    """
    if not functions:
        return {}
    for module in ("torch.fx.experimental.symbolic_shapes", "torch.utils.flop_counter"):
        import_module(module)  # a dry run makes torch import them and sympy, which each fork would do for half a second
    context = multiprocessing.get_context("fork")  # a fork knows the components, including those of local files
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    n_forks = max(1, min(n_cores, len(functions) // _MIN_CALLS_PER_FORK))
    forks: list[tuple[multiprocessing.process.BaseProcess, Connection]] = []
    for first in range(n_forks):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(
            target=_call_all, args=(sender, list(functions.values())[first::n_forks]), daemon=True
        )
        process.start()
        sender.close()  # otherwise the receiver would not see the end of the child
        forks.append((process, receiver))
    results: dict[str, T] = {}
    try:
        for index, (name, function) in enumerate(functions.items()):
            child, receiver = forks[index % n_forks]
            try:
                call_in_parent, result = receiver.recv()
            except EOFError:
                child.join()
                raise InputError(_crash_message(name, child.exitcode or 0)) from None
            results[name] = function() if call_in_parent else result
            on_progress(len(results))
    finally:
        for child, receiver in forks:
            receiver.close()
            if len(results) < len(functions):
                child.terminate()
            child.join()
    return results


def _call_all(sender: Connection, functions: Sequence[Callable[[], T]]) -> None:
    """Call each function and send `(call_in_parent, result)`, where the result may be None."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the planner, and this daemon process with it
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    torch.set_num_threads(1)  # a fork does not have the thread pool of its parent
    can_run = autograd_works()
    for function in functions:
        try:
            message = (False, function()) if can_run else (True, None)
        except Exception:  # the planner calls it again and reports the error
            message = (True, None)
        sender.send(message)


def _crash_message(name: str, code: int) -> str:
    crash = f"was killed by {signal_name(-code)}" if code < 0 else f"exited with code {code}"
    return (
        f"variant {name}: the process that counts its parameters and FLOPs {crash}, because a component crashes when "
        "it is built or run on torch's meta device. Fix the component, or exclude the variant with `exclude`."
    )
