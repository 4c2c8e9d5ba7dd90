"""CUDA graphs on the pretended device: a capture is a list of operators, and a replay calls them again.

They are called with the tensors of the capture. So a graph with a number of the host that should have changed, or with
a tensor that has moved, gives wrong values, as on a GPU. An operation for which the host waits fails during a capture.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Stream:
    """A stream. Everything on the device is done at once, so streams are always in order."""

    def __init__(self, *args: Any, **options: Any):
        pass

    def wait_stream(self, other: Stream) -> None:
        pass


class CUDAGraph:
    """Recorded calls of operators, with their arguments and results."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def pool(self) -> tuple[int, int]:
        return 0, 1

    def replay(self) -> None:
        """Call the operators again, and write their results into the tensors that had the results."""
        for operator, args, options, results in self.calls:
            new = operator(*args, **options)
            for old, result in zip(tree_leaves(results), tree_leaves(new), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != result.data_ptr():
                    old.copy_(result)


class Capture(TorchDispatchMode):
    """The block `with torch.cuda.graph(graph)`. A capture computes nothing, so what it has written is undone."""

    def __init__(self, graph: CUDAGraph, **options: Any):
        super().__init__()
        self.graph = graph
        self.overwritten: list[tuple[Tensor, Tensor]] = []

    def __enter__(self) -> Capture:
        self.mode_before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch.cuda.set_sync_debug_mode(self.mode_before)
        for tensor, before in reversed(self.overwritten):
            tensor.copy_(before)

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        for argument, value in zip(operator._schema.arguments, args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:
                self.overwritten += [(t, t.clone()) for t in tree_leaves(value) if isinstance(t, Tensor)]
        results = operator(*args, **options)
        self.graph.calls.append((operator, args, options, results))
        return results


def install() -> None:
    """Replace streams and graphs of `torch.cuda`."""
    torch.cuda.Stream = Stream  # type: ignore[assignment, misc]
    torch.cuda.current_stream = lambda device=None: Stream()  # type: ignore[assignment, return-value]
    torch.cuda.stream = lambda stream: contextlib.nullcontext()  # type: ignore[assignment]
    torch.cuda.CUDAGraph = CUDAGraph  # type: ignore[assignment, misc]
    torch.cuda.graph = Capture  # type: ignore[assignment, misc]
